package agent

import (
	"strings"
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

const (
	acksKept = 64
	acksFor  = 30 * time.Second
)

// acks remembers the leases that were acked last. An ack is not confirmed, so the last ones before an outage may be
// lost with it; sending them again spares their jobs another delivery.
type acks struct {
	mu   sync.Mutex // guards the two below
	ring [acksKept]acked
	next int
}

type acked struct {
	lease queue.Lease
	at    time.Time
}

func (a *acks) add(lease queue.Lease, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	lease = queue.Lease(strings.Clone(string(lease))) // without the message that it came in
	a.ring[a.next%acksKept] = acked{lease, now}
	a.next++
}

func (a *acks) recent(now time.Time) []queue.Lease {
	a.mu.Lock()
	defer a.mu.Unlock()
	var leases []queue.Lease
	for _, k := range a.ring {
		if k.lease != "" && now.Sub(k.at) < acksFor {
			leases = append(leases, k.lease)
		}
	}
	return leases
}

// ack removes a job that has ended. One that cannot be sent is repaired by the next delivery, which finds the chain
// ended. A job with extra_data goes back to a dispatcher, which finds its chain ended and erases it: an acked message stays
// in the files of NATS.
func (h *host) ack(a *attempt) {
	lease := a.currentLease()
	if a.job != nil && len(a.job.ExtraData) > 0 || a.job == nil && job.HasExtraData(a.offer.Message.Body) {
		if err := h.q.Park(lease, 0); err != nil {
			h.log.Debug("cannot hand a job back", "error", err)
		}
		return
	}
	h.acked.add(lease, time.Now())
	h.ackLease(lease)
}

func (h *host) ackLease(lease queue.Lease) {
	if err := h.q.FinishSoon(lease); err != nil {
		h.log.Debug("cannot ack", "error", err)
	}
}
