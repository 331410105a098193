package dispatcher

import (
	"context"
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

const (
	pullBatch = 64
	pullWait  = 2 * time.Second // also how long a graceful stop waits for what is on its way
	pullPause = time.Second
)

// pullLoop takes jobs of one priority as long as stop lasts. It uses ctx for the requests themselves: a request
// that is cut off could have a job on its way to nobody, which then waits for AckWait.
func (d *Dispatcher) pullLoop(ctx, stop context.Context, p job.Priority) error {
	var puller *jetstream.Puller
	for stop.Err() == nil {
		n := d.brain.credit(stop, int(p))
		if n == 0 {
			continue
		}
		var err error
		if puller == nil {
			puller, err = d.q.Puller(ctx, p)
		}
		if err == nil {
			err = puller.Pull(ctx, n, pullWait, func(delivery jetstream.Delivery) {
				n--
				d.accept(ctx, stop, delivery)
			})
		}
		if err == nil && n > 0 {
			d.brain.line.pending[p].Store(0) // no more came while the request stood
		}
		if err != nil && ctx.Err() == nil {
			d.log.Warn("jobs cannot be pulled now; trying again", "priority", p, "error", err)
			puller = nil // its consumer may have been deleted
			sleep(stop, pullPause)
		}
	}
	return ctx.Err()
}

// accept walks a delivery on its own goroutine; one that comes while the dispatcher stops goes back at once. Two
// deliveries of one id are walked in the order in which they came, so that the first publish is the one that runs.
func (d *Dispatcher) accept(ctx, stop context.Context, delivery jetstream.Delivery) {
	if stop.Err() != nil {
		d.giveBack(delivery.Lease)
		return
	}
	d.brain.line.pending[delivery.Priority].Store(int64(delivery.Pending))
	d.brain.enter()
	j, err := d.read(delivery.Message)
	if err != nil {
		d.walk(func() {
			defer d.brain.exit()
			d.refuse(ctx, delivery, err)
		})
		return
	}
	before, done := d.ids.enter(j)
	d.walk(func() {
		defer d.brain.exit()
		defer done()
		<-before
		d.receive(ctx, delivery, j)
	})
}

func (d *Dispatcher) giveBack(lease jetstream.Lease) {
	if err := d.q.Park(lease, 0); err != nil {
		d.log.Debug("give a job back", "error", err)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// turns lets walks of one id follow each other.
type turns struct {
	mu   sync.Mutex // guards last
	last map[idKey]chan struct{}
}

type idKey struct {
	tenant job.Tenant
	id     job.ID
}

// enter gives what is closed when it is this walk's turn, and what ends the turn.
func (t *turns) enter(j *job.Job) (before <-chan struct{}, done func()) {
	key := idKey{j.Tenant, j.ID}
	mine := make(chan struct{})
	t.mu.Lock()
	defer t.mu.Unlock()
	previous, waits := t.last[key]
	if !waits {
		previous = make(chan struct{})
		close(previous)
	}
	t.last[key] = mine
	return previous, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		close(mine)
		if t.last[key] == mine {
			delete(t.last, key)
		}
	}
}
