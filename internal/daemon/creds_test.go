package daemon_test

import (
	"path/filepath"
	"testing"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/natsserver"
)

func TestCredentialsSayWhoseTheyAre(t *testing.T) {
	t.Parallel()
	folder, err := natsserver.InitAccess(filepath.Join(t.TempDir(), "herd"))
	if err != nil {
		t.Fatal(err)
	}
	file := func(path string, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	for holder, tc := range map[string]struct{ creds, tenant, prefix string }{
		"tenant-Acme_1": {file(folder.Tenant("Acme_1", natsserver.TenantSettings{})), "Acme_1", ""},
		"agent-gpu-1":   {file(folder.Agent("gpu-1", natsserver.AgentSettings{})), "", "fleet.api"},
		"operator":      {file(folder.Operator()), "", ""},
		"":              {"", "", ""},
	} {
		flags := daemon.NATSFlags{Creds: tc.creds}
		if flags.Holder() != holder || flags.OwnTenant() != tc.tenant || flags.APIPrefix() != tc.prefix || flags.NoConsumers() != (tc.prefix != "") {
			t.Errorf("%s: holder %q, tenant %q, prefix %q", holder, flags.Holder(), flags.OwnTenant(), flags.APIPrefix())
		}
	}
}
