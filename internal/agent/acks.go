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

// acks keeps the leases that were acked last. Acks are not confirmed, so that the last ones before an outage may be lost.
// They are sent again after it, so that their jobs are not delivered again.
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
	lease = queue.Lease(strings.Clone(string(lease))) // a copy, which does not keep the whole message in memory
	a.ring[a.next%acksKept] = acked{lease, now}
	a.next++
}

func (a *acks) recent(now time.Time) []queue.Lease {
	a.mu.Lock()
	defer a.mu.Unlock()
	var leases []queue.Lease
	for _, k := range a.ring {
		if now.Sub(k.at) < acksFor { // a place without an ack has the zero time
			leases = append(leases, k.lease)
		}
	}
	return leases
}

// ack removes a job that has ended from COMFY_JOBS. If the ack is lost, the job is delivered again, and the dispatcher finds
// its chain ended and acks it. A job with extra_data is given back to a dispatcher, which erases it: an acked message would
// stay in the files of NATS.
func (h *host) ack(a *attempt) {
	lease := a.currentLease()
	body := a.offer.Message.Body
	if a.job != nil && len(a.job.ExtraData) > 0 || a.job == nil && job.HasExtraData(body) || job.HasAPIKeys(body) {
		if err := h.q.Park(lease, 0); err != nil {
			h.log.Debug("cannot give a job back to be erased", "error", err)
		}
		return
	}
	h.acked.add(lease, time.Now())
	h.ackLease(lease)
}

func (h *host) ackLease(lease queue.Lease) {
	if err := h.q.FinishSoon(lease); err != nil {
		h.log.Debug("cannot ack a job", "error", err)
	}
}
