package dispatcher

import (
	"sync"

	"github.com/comfyherd/comfyherd/internal/job"
)

// walkOrder lets the walks of deliveries of one id follow each other, in the order in which the deliveries came: so the
// first publish of an id is the one that runs.
type walkOrder struct {
	mu   sync.Mutex // guards last, and over of each turn
	last map[idKey]*walkTurn
}

// idKey is a job's name: ids are a tenant's own.
type idKey struct {
	tenant job.Tenant
	id     job.ID
}

// walkTurn is one walk's. Few have another before or after them.
type walkTurn struct {
	before <-chan struct{} // closed when the one before it is over; nil when there is none
	over   chan struct{}
}

func newWalkOrder() *walkOrder { return &walkOrder{last: map[idKey]*walkTurn{}} }

// enter queues a walk behind the others of its job's id.
func (w *walkOrder) enter(o *owned) {
	key, mine := idKey{o.job.Tenant, o.job.ID}, &o.turn
	w.mu.Lock()
	defer w.mu.Unlock()
	if before := w.last[key]; before != nil {
		before.over = make(chan struct{})
		mine.before = before.over
	}
	w.last[key] = mine
}

// done ends a walk.
func (w *walkOrder) done(o *owned) {
	key, mine := idKey{o.job.Tenant, o.job.ID}, &o.turn
	w.mu.Lock()
	defer w.mu.Unlock()
	if mine.over != nil {
		close(mine.over)
	}
	if w.last[key] == mine {
		delete(w.last, key)
	}
}
