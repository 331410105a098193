package access_test

import (
	"testing"

	"github.com/nats-io/jwt/v2"

	"github.com/comfyherd/comfyherd/internal/access"
)

// nats-server that is told a token anew forgets who waits for an answer.
func TestTheFleetsAccountIsSignedAnewOnlyWhenItGrantsSomethingElse(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	must(t)(f.Agent("gpu-1", access.AgentSettings{}))
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
	must(t)(f.Tenant("acme", access.TenantSettings{}))
	must(t)(f.Watcher())
	must(t)(f.Operator())
	must(t)(f.Agent("gpu-1", access.AgentSettings{Tenants: []string{"acme"}}))
	if fleet() != before {
		t.Error("who else has credentials has changed the fleet's account")
	}
	must(t)(f.Agent("gpu-2", access.AgentSettings{}))
	if fleet() == before {
		t.Error("the fleet does not reach the new host")
	}
}
