package natsserver_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"

	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/test/docs"
)

// The table in docs/security.md is what accounts permit.
func TestTheDocumentedSubjectsAreThoseThatArePermitted(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	f := newFolder(t)
	must(t)(f.Tenant("acme", natsserver.TenantSettings{}))
	must(t)(f.Agent("gpu-1", natsserver.AgentSettings{}))
	must(t)(f.Watcher())
	permitted := map[string]jwt.Permissions{}
	for name, body := range everything(t, f) {
		if claims, err := jwt.DecodeAccountClaims(body); strings.HasPrefix(name, "accounts/") && err == nil {
			permitted[claims.Name] = claims.DefaultPermissions
		}
	}
	rows := docs.Table(string(page), "grants")
	if len(rows) != 3 {
		t.Fatalf("the table has %d rows", len(rows))
	}
	for _, row := range rows {
		name := docs.Code(row[0])[0]
		for what, pair := range map[string][2][]string{
			"publish":   {docs.Code(row[1]), permitted[name].Pub.Allow},
			"subscribe": {docs.Code(row[2]), permitted[name].Sub.Allow},
		} {
			documented, actual := slices.Sorted(slices.Values(pair[0])), slices.Sorted(slices.Values(pair[1]))
			if !slices.Equal(documented, actual) {
				t.Errorf("%s may %s\n`%s`, docs/security.md says\n`%s`", name, what, strings.Join(actual, "` `"), strings.Join(documented, "` `"))
			}
		}
	}
}
