package natsserver_test

import (
	"os"
	"slices"
	"testing"

	"github.com/nats-io/jwt/v2"
)

// Dispatchers store an event for each change that an operator makes by a call. A change directly in NATS would have none, so the
// key does not permit it.
func TestAnOperatorChangesTheFleetThroughTheDispatchersOnly(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	body, err := os.ReadFile(must(t)(f.Operator()))
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.ParseDecoratedJWT(body)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := jwt.DecodeUserClaims(token)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"$JS.API.CONSUMER.CREATE.*.*", "$JS.API.CONSUMER.CREATE.*.*.>", "$JS.API.CONSUMER.DELETE.*.*", "$JS.API.CONSUMER.INFO.*.*",
		"$JS.API.CONSUMER.MSG.NEXT.*.*", "$JS.API.DIRECT.GET.>", "$JS.API.INFO", "$JS.API.STREAM.INFO.*", "$JS.API.STREAM.LIST",
		"$JS.API.STREAM.MSG.GET.*", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.PURGE.OBJ_COMFY_INPUTS", "$JS.FC.>", "$O.COMFY_INPUTS.>",
		"$SRV.>", "comfy.api.>", "comfy.jobs.*.*", "comfy.tenants.>",
	}
	if got := slices.Sorted(slices.Values(claims.Pub.Allow)); !slices.Equal(got, want) {
		t.Errorf("an operator may publish\n%q, want\n%q", got, want)
	}
}
