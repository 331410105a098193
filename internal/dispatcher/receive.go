package dispatcher

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
)

const (
	pullBatch = 64
	pullLeast = 32              // while what is in hand lasts: a request costs about as much as a job
	pullWait  = 2 * time.Second // also how long a graceful stop waits for what is on its way
	pullPause = time.Second
)

// pullLoop takes jobs of one priority as long as stop lasts. It uses ctx for the requests themselves: a request
// that is cut off could have a job on its way to nobody, which then waits for AckWait.
func (d *Dispatcher) pullLoop(ctx, stop context.Context, p job.Priority) error {
	puller, err := d.q.Puller(p, func(delivery queue.Delivery) { d.receive(ctx, stop, delivery) })
	if err != nil {
		return err
	}
	defer puller.Close()
	for stop.Err() == nil {
		n := d.loop.pressure.credit(stop, p)
		if n == 0 {
			continue
		}
		came, err := puller.Pull(ctx, n, pullWait)
		if err == nil && came < n {
			d.loop.pressure.pending(p, 0) // no more came while the request stood
		}
		if err == nil {
			d.unpulled.Store("")
		}
		if err != nil && ctx.Err() == nil {
			d.unpulled.Store("no job can be taken from " + names.JobsStream + ": " + err.Error())
			d.log.Warn("jobs cannot be pulled now; trying again", "priority", p, "error", err)
			sleep(stop, pullPause)
		}
	}
	return ctx.Err()
}

// receive has a delivery placed and walked on its own goroutine; one that comes while the dispatcher stops goes back at
// once. Two deliveries of one id are walked in the order in which they came, so that the first publish is the one that
// runs.
func (d *Dispatcher) receive(ctx, stop context.Context, delivery queue.Delivery) {
	if stop.Err() != nil {
		d.giveBack(delivery.Lease)
		return
	}
	d.loop.pressure.pending(delivery.Priority, int64(delivery.Pending))
	if !d.pass(&delivery) {
		return
	}
	d.loop.pressure.enter()
	j, err := d.read(delivery.Message)
	if err != nil {
		d.refuseSoon(ctx, delivery, err)
		return
	}
	o := &owned{
		job: j, message: delivery.Message, lease: delivery.Lease, attempt: 1,
		notBefore: j.NotBefore(), taken: d.clock(),
	}
	o.job.Graph.Hash() // once for all, and not in the loop
	d.ids.enter(o)
	if o.turn.before == nil {
		d.loop.tell(func(now time.Time) {
			spot := d.loop.placeNow(o, now)
			d.walks.Go(func() { d.firstWalk(ctx, o, spot) })
		})
		return
	}
	d.walks.Go(func() {
		select {
		case <-o.turn.before:
			d.firstWalk(ctx, o, d.loop.place(o))
		case <-ctx.Done():
			d.gate.leave(o.job.Tenant)
		}
	})
}

func (d *Dispatcher) firstWalk(ctx context.Context, o *owned, s spot) {
	defer d.loop.pressure.exit()
	defer d.gate.leave(o.job.Tenant)
	defer d.ids.done(o)
	d.beginChain(ctx, o, s, 0)
}

func (d *Dispatcher) refuseSoon(ctx context.Context, delivery queue.Delivery, invalid error) {
	d.walks.Go(func() {
		defer d.loop.pressure.exit()
		defer d.gate.leave(job.Tenant(delivery.Tenant))
		d.refuse(ctx, delivery, invalid)
	})
}

func (d *Dispatcher) giveBack(lease queue.Lease) { d.putOff(lease, 0) }

// putOff has a delivery come again later. One that is lost comes after AckWait.
func (d *Dispatcher) putOff(lease queue.Lease, rest time.Duration) {
	if err := d.q.Park(lease, rest); err != nil {
		d.log.Debug("give a job back", "error", err)
	}
}

// text is a string that goroutines share.
type text struct{ atomic.Value }

func (t *text) Store(s string) { t.Value.Store(s) }

func (t *text) Load() string {
	s, _ := t.Value.Load().(string)
	return s
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
