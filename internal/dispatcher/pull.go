package dispatcher

import (
	"context"
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
	puller, err := d.q.Puller(ctx, p)
	if err != nil {
		return err
	}
	for stop.Err() == nil {
		n := d.brain.credit(stop, int(p))
		if n == 0 {
			continue
		}
		err := puller.Pull(ctx, n, pullWait, func(delivery jetstream.Delivery) { d.accept(ctx, stop, delivery) })
		if err != nil && ctx.Err() == nil {
			d.log.Warn("jobs cannot be pulled now", "priority", p, "error", err)
			sleep(stop, pullPause)
		}
	}
	return nil
}

// accept walks a delivery on its own goroutine; one that comes while the dispatcher stops goes back at once.
func (d *Dispatcher) accept(ctx, stop context.Context, delivery jetstream.Delivery) {
	if stop.Err() != nil {
		d.giveBack(delivery.Lease)
		return
	}
	d.brain.pending[delivery.Priority].Store(int64(delivery.Pending))
	d.brain.enter()
	d.walks.Go(func() {
		defer d.brain.exit()
		d.receive(ctx, delivery)
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
