package gateway_test

import (
	"testing"

	"github.com/comfyherd/comfyherd/internal/gateway"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

func TestAHostServesTheTenantsOfItsGrant(t *testing.T) {
	t.Parallel()
	type change = queue.Change[queue.HostGrant]
	put := change{Phase: queue.Put, Key: "a", Value: queue.HostGrant{Tenants: []job.Tenant{"bolt"}}}
	reset, synced := change{Phase: queue.Reset}, change{Phase: queue.Synced}
	for name, c := range map[string]struct {
		changes    []change
		acme, bolt bool
	}{
		"NoGrant":       {[]change{reset, synced}, true, true},
		"OfATenant":     {[]change{reset, put, synced}, false, true},
		"Removed":       {[]change{reset, put, synced, {Phase: queue.Gone, Key: "a"}}, true, true},
		"Invalid":       {[]change{reset, put, synced, {Phase: queue.Invalid, Key: "a"}}, false, false},
		"ToldAgain":     {[]change{reset, put, synced, reset, put, synced}, false, true},
		"NotToldAgain":  {[]change{reset, put, synced, reset, synced}, true, true},
		"NotYetSynced":  {[]change{reset, put, synced, reset}, false, true},
		"OfAnotherHost": {[]change{reset, {Phase: queue.Put, Key: "b", Value: put.Value}, synced}, true, true},
	} {
		if acme, bolt := gateway.Serves("acme", "a", c.changes...), gateway.Serves("bolt", "a", c.changes...); acme != c.acme || bolt != c.bolt {
			t.Errorf("%s: it serves acme %v and bolt %v, want %v and %v", name, acme, bolt, c.acme, c.bolt)
		}
	}
}
