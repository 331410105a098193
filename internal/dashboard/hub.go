package dashboard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// hub follows the stored events and the progress of running jobs for all viewers. It does so from the first viewer on until some time
// after the last one, so that a dashboard without viewers costs nothing.
type hub struct {
	q   *queue.Queue
	log *slog.Logger

	linger time.Duration // after the last viewer
	most   int           // viewers at a time

	resyncs atomic.Int64

	mu      sync.Mutex // guards all below
	ring    ring
	epoch   int // rises when the ring is emptied, so that it no longer reaches back to what viewers have
	running running
	viewers int
	stop    context.CancelFunc // ends following; nil: it has not begun
	idle    *time.Timer        // ends following when it rings
	closed  bool
	over    sync.WaitGroup // of the goroutines
}

const (
	hubLinger    = 30 * time.Second
	refollow     = time.Second      // pause before events are followed again after an error
	checkEvery   = 10 * time.Second // old progress is dropped, and the stream looked at
	overlap      = time.Minute      // how much earlier than the newest known event reading begins
	beginTimeout = 5 * time.Second
)

func newHub(q *queue.Queue, log *slog.Logger, most int) *hub {
	return &hub{q: q, log: log, linger: hubLinger, most: most}
}

var errClosed = errors.New("this dashboard is stopping")

// enter begins to follow events for a viewer, until leave.
func (h *hub) enter(ctx context.Context) error {
	if joined, err := h.join(nil); joined || err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, beginTimeout)
	defer cancel()
	state, err := h.q.EventsState(ctx) // not under the lock: it waits for NATS
	if err != nil {
		return fmt.Errorf("read the state of the events: %w", err)
	}
	_, err = h.join(&state)
	return err
}

// join counts a viewer. When events are not followed yet it begins after a state of the stream; without a state the viewer is not counted then.
func (h *hub) join(from *queue.EventsState) (joined bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return false, errClosed
	case h.viewers >= h.most:
		return false, fmt.Errorf("%d pages are open at this dashboard, and it takes no more: close some, or start another with `dispatcher dashboard`", h.most)
	case h.stop == nil && from == nil:
		return false, nil
	case h.stop == nil:
		h.begin(*from)
	}
	h.viewers++
	if h.idle != nil {
		h.idle.Stop()
		h.idle = nil
	}
	return true, nil
}

// count is how many viewers there are.
func (h *hub) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.viewers
}

func (h *hub) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.viewers--; h.viewers > 0 || h.closed {
		return
	}
	var mine *time.Timer
	mine = time.AfterFunc(h.linger, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.idle == mine && h.viewers == 0 && h.stop != nil {
			h.stop()
			h.stop, h.idle = nil, nil
		}
	})
	h.idle = mine
}

// begin follows everything after a state of the stream. The caller holds the lock.
func (h *hub) begin(state queue.EventsState) {
	h.ring = ring{after: state.Last, last: state.Last}
	h.epoch++
	h.running = running{}
	ctx, stop := context.WithCancel(context.Background()) //nolint:gosec // stop is kept and called by leave and close
	h.stop = stop
	h.over.Go(func() { h.follow(ctx) })
	h.over.Go(func() { h.checkLoop(ctx) })
	h.over.Go(func() {
		if err := h.q.FollowLive(ctx, "", h.live); ctx.Err() == nil {
			h.log.Warn("the page cannot show progress of jobs", "error", err)
		}
	})
}

// close ends following and waits for it.
func (h *hub) close() {
	h.mu.Lock()
	h.closed = true
	if h.stop != nil {
		h.stop()
		h.stop = nil
	}
	if h.idle != nil {
		h.idle.Stop()
	}
	h.mu.Unlock()
	h.over.Wait()
}

// follow fills the ring until ctx ends.
func (h *hub) follow(ctx context.Context) {
	since := h.q.Now().Add(-overlap)
	for ctx.Err() == nil {
		for note, err := range h.q.Notes(ctx, "", since) {
			if err != nil {
				if ctx.Err() == nil {
					h.log.Warn("the page lost its subscription to events, and subscribes again", "error", err)
				}
				break
			}
			since = note.Time.Add(-overlap)
			h.add(ctx, rowOf(&note))
		}
		queue.Pause(ctx, refollow)
	}
}

// add ignores what is still given after this following has ended.
func (h *hub) add(ctx context.Context, r row) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ctx.Err() == nil && h.ring.add(r) && r.attemptEnds() {
		h.running.remove(jobOf{r.tenant, r.job})
	}
}

func (h *hub) live(l queue.Live) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.running.set(&l, time.Now())
}

// checkLoop drops the progress of jobs of which nothing is received any more, and starts over when COMFY_EVENTS was created again.
func (h *hub) checkLoop(ctx context.Context) {
	for queue.Pause(ctx, checkEvery) {
		state, err := h.q.EventsState(ctx)
		h.mu.Lock()
		h.running.expire(time.Now())
		if err == nil && ctx.Err() == nil && state.Last < h.ring.last {
			h.ring = ring{after: state.Last, last: state.Last}
			h.epoch++
		}
		h.mu.Unlock()
	}
}

// batch is what a viewer receives at a time.
type batch struct {
	events  [][]byte // as JSON
	last    uint64   // sequence up to which the viewer has everything
	epoch   int
	changed [][]byte
	version uint64
	resync  bool // something is missing: the viewer must read everything again
}

const mostBatch = 1000 // rows

// news gives what has happened after a viewer's place.
func (h *hub) news(at place) batch {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := batch{last: h.ring.last, epoch: h.epoch}
	b.changed, b.version = h.running.changed(at.version, at.who)
	found, reaches := h.ring.rowsAfter(at.sequence, mostBatch)
	if !reaches || at.epoch != h.epoch {
		b.resync = true
		h.resyncs.Add(1)
		return b
	}
	if len(found) == mostBatch {
		b.last = found[len(found)-1].sequence
	}
	b.events = visible(found, at.who)
	return b
}

// reach gives the sequence from which on the ring has everything, the newest one, and the epoch.
func (h *hub) reach() (after, last uint64, epoch int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ring.after, h.ring.last, h.epoch
}

// mostMissed is how many stored events a viewer who comes back is sent; after more it reads everything again.
const mostMissed = 5000

// missed reads the stored events after a sequence up to another; false when those are too many, or can no longer be read.
func (h *hub) missed(ctx context.Context, after, upTo uint64) ([]row, bool) {
	if upTo-after > mostMissed {
		return nil, false
	}
	state, err := h.q.EventsState(ctx)
	if err != nil || state.First.Sequence > after+1 || state.Last < after {
		return nil, false
	}
	var mu sync.Mutex
	var rows []row
	reader, err := h.q.ReadEvents(after, func(n jetstream.Note) {
		mu.Lock()
		defer mu.Unlock()
		if r := rowOf(&n); n.Sequence <= upTo {
			r.encode()
			rows = append(rows, r)
		}
	})
	if err != nil {
		return nil, false
	}
	defer reader.Close()
	for there := false; !there; {
		if there, err = reader.Read(ctx, upTo); err != nil {
			h.log.Debug("a viewer's missed events cannot be read", "error", err)
			return nil, false
		}
	}
	mu.Lock()
	defer mu.Unlock()
	return rows, true
}
