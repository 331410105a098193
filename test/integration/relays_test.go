package integration_test

import (
	"encoding/json"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
)

// TestALargeFleetGoesOnWhenADispatcherDies has a fleet that counts as large from the first host on.
func TestALargeFleetGoesOnWhenADispatcherDies(t *testing.T) {
	t.Parallel()
	f := start(t, setup{hosts: names("a", "b", "c")})
	relays := f.subscribe("comfy.dispatchers.*.hosts")
	cfg := dispatcher.Config{LargeFleet: 1}
	cfg.Name = "one"
	f.dispatcher(cfg)
	cfg.Name = "two"
	_, kill := f.dispatcher(cfg)
	shares := map[string]bool{}
	presences, err := f.nc.SubscribeSync("$KV.COMFY_DISPATCHERS.*")
	if err != nil {
		t.Fatal(err)
	}
	f.eventually("both want relays", func() bool {
		shares[wanting(t, f.next(presences))] = true
		return shares["one"] && shares["two"]
	})
	for range 8 { // of both, one a second at least: by then only relays and own hosts are received
		f.next(relays)
	}
	kill()
	for n := range 6 {
		chain := f.chain(f.submit("acme", job.Spec{Workflow: picture(n)}))
		if got := chain[len(chain)-1].EventKind; got != job.Completed {
			t.Errorf("job %d ended %s", n, got)
		}
	}
}

// wanting gives the dispatcher of a presence that wants relays.
func wanting(t *testing.T, presence *nats.Msg) string {
	t.Helper()
	var s struct {
		Dispatcher  string `json:"dispatcher"`
		WantsRelays bool   `json:"wants_relays"`
	}
	if err := json.Unmarshal(presence.Data, &s); err != nil || !s.WantsRelays {
		return ""
	}
	return s.Dispatcher
}
