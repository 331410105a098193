package dispatcher

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// leaseWire is a slotWire whose leases can be extended.
type leaseWire struct {
	slotWire
	extended []queue.Lease
}

func (w *leaseWire) ExtendSurely(_ context.Context, lease queue.Lease) error {
	w.extended = append(w.extended, lease)
	return nil
}

func newLeaseWire(t *testing.T) (*leaseWire, *Dispatcher, *logged) {
	t.Helper()
	w := &leaseWire{slotWire: slotWire{last: map[job.ID]job.EventKind{}, away: map[string]error{}}}
	log := &logged{}
	d, err := newOn(w, Config{Name: "me", Logger: log.logger()})
	if err != nil {
		t.Fatal(err)
	}
	return w, d, log
}

// A chain that could not be read is not said to be empty: only the first error tells an operator what to mend.
func TestAChainCountsAsEmptyOnlyWhenItWasRead(t *testing.T) {
	t.Parallel()
	away := errors.New("NATS is away")
	for name, c := range map[string]struct {
		err   error
		empty bool
	}{
		"could not be read": {away, false},
		"was read":          {nil, true},
	} {
		w, d, log := newLeaseWire(t)
		w.away["last"] = c.err
		o := ownedJob(t, "acme", 1, 1)
		ticket := ticketOf(o, 1)
		read, err := d.readWaiting(t.Context(), &ticket)
		same(t, name+": the ticket's job", []any{read == nil, errors.Is(err, errEmptyChain), errors.Is(err, away)}, []any{true, c.empty, !c.empty})
		d.redelivered(t.Context(), o)
		d.walks.Wait()
		said := log.String()
		same(t, name+": the delivery", []any{strings.Contains(said, errEmptyChain.Error()), strings.Contains(said, away.Error())}, []any{c.empty, !c.empty})
		same(t, name+": the lease decides", w.extended, []queue.Lease{"lease-1"})
	}
}

// The end of a chain and the chain are read one after the other, and a copy of the stream that is behind may answer the second.
func TestAnEmptyChainHasNoAttempts(t *testing.T) {
	t.Parallel()
	w, d, _ := newLeaseWire(t)
	o := ownedJob(t, "acme", 1, 1)
	if err := d.readAttempts(t.Context(), o); !errors.Is(err, errEmptyChain) {
		t.Errorf("of a chain without events: %v", err)
	}
	w.chain = []queue.Link{{Event: job.Event{EventKind: job.Queued}, ChainSequence: 7}}
	if err := d.readAttempts(t.Context(), o); err != nil || o.last != 7 {
		t.Errorf("of one that has an event: %v, its end is %d", err, o.last)
	}
}
