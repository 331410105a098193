package natsserver_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/jwt/v2"

	"github.com/comfyherd/comfyherd/internal/natsserver"
)

// When nats-server receives the token of an account again, it drops the answers that are on their way in that account.
func TestTheFleetsAccountIsSignedAnewOnlyWhenItGrantsSomethingElse(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	must(t)(f.Agent("gpu-1", natsserver.AgentSettings{}))
	fleet := func() string {
		t.Helper()
		for _, token := range everything(t, f) {
			if claims, err := jwt.DecodeAccountClaims(token); err == nil && claims.Name == "fleet" {
				return token
			}
		}
		t.Fatal("there is no account of the fleet")
		return ""
	}
	before := fleet()
	must(t)(f.Tenant("acme", natsserver.TenantSettings{}))
	must(t)(f.Watcher())
	must(t)(f.Operator())
	must(t)(f.Agent("gpu-1", natsserver.AgentSettings{Tenants: []string{"acme"}}))
	if fleet() != before {
		t.Error("who else has credentials has changed the fleet's account")
	}
	must(t)(f.Agent("gpu-2", natsserver.AgentSettings{}))
	if fleet() == before {
		t.Error("the fleet does not reach the new host")
	}
}

func TestABatchIsSettledOnceAtItsEnd(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	before := everything(t, f)
	failed := errors.New("no more hosts")
	err := f.Batch(func(batch *natsserver.AccessFolder) error {
		for _, host := range []string{"gpu-1", "gpu-2"} {
			must(t)(batch.Agent(host, natsserver.AgentSettings{}))
		}
		during := everything(t, f)
		for _, name := range []string{"revision", "nats-server.conf"} {
			if during[name] != before[name] {
				t.Errorf("%s was written within the batch", name)
			}
		}
		return failed
	})
	if !errors.Is(err, failed) {
		t.Errorf("the batch says %v", err)
	}
	want := []string{
		"comfy.hosts.gpu-1.control", "comfy.hosts.gpu-1.http", "comfy.hosts.gpu-1.offer",
		"comfy.hosts.gpu-2.control", "comfy.hosts.gpu-2.http", "comfy.hosts.gpu-2.offer",
	}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(imports(t, f)))); diff != "" {
		t.Error(diff)
	}
	if after := everything(t, f); after["revision"] == before["revision"] || !strings.Contains(after["nats-server.conf"], "# agent-gpu-2") {
		t.Error("a server would not hear of the new hosts")
	}
}

func TestAHostThatIsAddedHasNoOtherSignedAnew(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	must(t)(f.Agent("gpu-1", natsserver.AgentSettings{}))
	before := imports(t, f)
	must(t)(f.Agent("gpu-2", natsserver.AgentSettings{}))
	after := imports(t, f)
	for subject, token := range before {
		if token == "" || after[subject] != token {
			t.Errorf("%s has another token", subject)
		}
	}
	if len(after) != 6 {
		t.Errorf("the fleet reaches %v", slices.Sorted(maps.Keys(after)))
	}
	if err := f.Revoke("agent-gpu-1"); err != nil {
		t.Fatal(err)
	}
	must(t)(f.Agent("gpu-1", natsserver.AgentSettings{}))
	for subject, token := range imports(t, f) {
		if strings.Contains(subject, "gpu-1") && token == before[subject] {
			t.Errorf("%s has the token of a key that was revoked", subject)
		}
	}
}

// imports are the tokens of what the fleet's account may use of others, by subject.
func imports(t *testing.T, f *natsserver.AccessFolder) map[string]string {
	t.Helper()
	tokens := map[string]string{}
	for name, text := range everything(t, f) {
		if !strings.HasPrefix(name, "accounts/") {
			continue
		}
		claims, err := jwt.DecodeAccountClaims(text)
		if err != nil {
			t.Fatal(err)
		}
		if claims.Name == "fleet" {
			for _, one := range claims.Imports {
				tokens[string(one.Subject)] = one.Token
			}
		}
	}
	return tokens
}
