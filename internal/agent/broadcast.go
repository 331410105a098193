package agent

import (
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// broadcastPause is how long the broadcast of a taken slot may wait, unless the offer allows more. The dispatcher that made the
// offer has the state in the answer to it; the other dispatchers use a slot only when it has been free for longer than this pause.
const broadcastPause = 2 * time.Millisecond

// pendingBroadcast is a broadcast that is due.
type pendingBroadcast struct {
	mu    sync.Mutex  // guards all below
	due   time.Time   // zero when none is due
	timer *time.Timer // sends it; runs while one is due
	ended bool        // the host ends: no broadcast becomes due any more
}

// broadcastWithin broadcasts the host's state after a pause, unless another broadcast comes first: on a busy host the
// next job has usually ended by then.
func (h *host) broadcastWithin(pause time.Duration) {
	u, due := &h.pendingBroadcast, time.Now().Add(pause)
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.ended:
	case u.due.IsZero():
		u.due = due
		h.work.Add(1)
		if u.timer == nil {
			u.timer = time.AfterFunc(pause, func() {
				defer h.work.Done()
				h.broadcast(nil)
			})
			return
		}
		u.timer.Reset(pause)
	case due.Before(u.due) && u.timer.Stop():
		u.due = due
		u.timer.Reset(pause)
	}
}

// cancel cancels the broadcast that is due.
func (u *pendingBroadcast) cancel(work *sync.WaitGroup) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.due.IsZero() && u.timer.Stop() {
		work.Done()
	}
	u.due = time.Time{}
}

// end cancels the broadcast that is due, and lets none become due later: an offer may be answered still when the host ends, and its work
// is waited for then.
func (u *pendingBroadcast) end(work *sync.WaitGroup) {
	u.mu.Lock()
	u.ended = true
	u.mu.Unlock()
	u.cancel(work)
}

// broadcast sends the host's state now, with the run whose end caused it, if one did.
func (h *host) broadcast(e *queue.EndedJob) {
	h.pendingBroadcast.cancel(&h.work)
	s := h.admission.state()
	s.Ended = e
	h.meters.running.Set(float64(len(s.Running)))
	if err := h.q.Broadcast(&s); err != nil {
		h.log.Debug("cannot broadcast the host's state", "error", err)
	}
}
