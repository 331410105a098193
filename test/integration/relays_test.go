package integration_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
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
	f.tellsOfTickets()
	kill()
	for n := range 6 {
		chain := f.chain(f.submit("acme", job.Spec{Workflow: picture(n)}))
		if got := chain[len(chain)-1].EventKind; got != job.Completed {
			t.Errorf("job %d ended %s", n, got)
		}
	}
}

// tellsOfTickets has a job wait until it is due, whose ticket and claim are told by relays.
func (f *fleet) tellsOfTickets() {
	f.t.Helper()
	told := make(chan queue.Change[queue.Ticket], 64)
	ctx, cancel := context.WithCancel(f.context())
	var following sync.WaitGroup
	following.Go(func() {
		_ = f.q.FollowRelays(ctx, func(r queue.Relay) {
			for _, c := range r.Tickets {
				told <- c
			}
		})
	})
	defer following.Wait()
	defer cancel()
	due := time.Now().Add(time.Second)
	sequence := uint64(0)
	id := f.submit("acme", job.Spec{Workflow: picture(9), RunAt: &due})
	for _, want := range []queue.Phase{queue.Put, queue.Gone} {
		select {
		case c := <-told:
			ticket, err := queue.TicketAt(c.Key)
			if sequence = max(sequence, ticket.Sequence); err != nil || c.Phase != want || ticket.Sequence != sequence || want == queue.Put && c.Value.Job != id.Job {
				f.t.Fatalf("a relay tells %+v, want phase %d of %s", c, want, id.Job)
			}
		case <-f.context().Done():
			f.t.Fatal("no relay tells of the ticket")
		}
	}
	if chain := f.chain(id); chain[len(chain)-1].EventKind != job.Completed {
		f.t.Errorf("the job that was due later ended %s", chain[len(chain)-1].EventKind)
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
