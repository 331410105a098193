package dispatcher

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
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

// pullLoop takes jobs of one priority as long as stop lasts. The requests themselves end with ctx and not with stop:
// cutting a request off could leave a job that is on its way without a dispatcher until AckWait is over.
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
			d.loop.pressure.pending(p, 0) // no more came while the request was open
		}
		if err == nil {
			d.unpulled.Store("")
		}
		if err != nil && ctx.Err() == nil {
			d.unpulled.Store("no job can be taken from " + names.JobsStream + ": " + err.Error())
			d.log.Warn("jobs cannot be pulled now; trying again", "priority", p, "error", err)
			queue.Pause(stop, pullPause)
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
	if !d.withinLimit(&delivery) {
		return
	}
	d.loop.pressure.enter()
	j, err := d.read(delivery.Message)
	switch {
	case err != nil:
		d.refuseSoon(ctx, delivery, err)
	case j.Graph == nil:
		d.walks.Go(func() { d.receiveFile(ctx, delivery) })
	default:
		d.begin(ctx, d.ownedOf(&delivery, j))
	}
}

// ownedOf gives the job of a delivery as one that this dispatcher owns.
func (d *Dispatcher) ownedOf(delivery *queue.Delivery, j *job.Job) *owned {
	return &owned{
		job: j, message: delivery.Message, lease: delivery.Lease, attempt: 1,
		notBefore: j.NotBefore(), taken: d.clock(),
	}
}

// begin has a job placed and walked when the earlier deliveries of its id have been walked.
func (d *Dispatcher) begin(ctx context.Context, o *owned) {
	o.job.Graph.Hash() // computed here, so that the loop need not
	d.ids.Enter(o.key(), &o.turn)
	if o.turn.Before == nil {
		d.loop.tell(func(now time.Time) {
			spot := d.loop.placeNow(o, now)
			d.walks.Go(func() { d.firstWalk(ctx, o, spot) })
		})
		return
	}
	d.walks.Go(func() {
		select {
		case <-o.turn.Before:
			d.firstWalk(ctx, o, d.loop.place(o))
		case <-ctx.Done():
			d.limit.done(o.job.Tenant)
		}
	})
}

func (d *Dispatcher) firstWalk(ctx context.Context, o *owned, s spot) {
	defer d.loop.pressure.exit()
	defer d.limit.done(o.job.Tenant)
	defer d.ids.Leave(o.key(), &o.turn)
	d.beginChain(ctx, o, s, 0)
}

// read parses a job, and refuses one that is larger than jobs may be.
func (d *Dispatcher) read(m job.Message) (*job.Job, error) {
	if why := d.q.TooLarge(len(m.Body)); why != "" {
		return nil, errors.New(why)
	}
	return job.Parse(m)
}

// refuseSoon refuses a message on a goroutine of its own.
func (d *Dispatcher) refuseSoon(ctx context.Context, delivery queue.Delivery, invalid error) {
	d.walks.Go(func() {
		defer d.loop.pressure.exit()
		defer d.limit.done(job.Tenant(delivery.Tenant))
		d.refuse(ctx, delivery, invalid)
	})
}

// refuse ends a message that is no job: the dead letter first, then its chain's only event, then the ack; each
// may be repeated. The chain is that of the id which the publisher follows. When another job has that id, it is not touched:
// the message ends under an id that the dispatcher makes, and a dead letter that was stored a moment too early is taken back.
func (d *Dispatcher) refuse(ctx context.Context, delivery queue.Delivery, invalid error) {
	id, letter, err := d.endRefused(ctx, &delivery.Message, delivery.PublishedID(), invalid)
	if errors.Is(err, queue.ErrOvertaken) && id != delivery.GeneratedID() {
		first := id
		if id, _, err = d.endRefused(ctx, &delivery.Message, first, invalid); id != first {
			d.takeLetterBack(ctx, letter, first)
		}
	}
	if err != nil && !errors.Is(err, queue.ErrOvertaken) {
		d.log.Warn("an invalid job could not be ended; it is delivered again", "job", id, "error", err)
		return
	}
	if id == delivery.PublishedID() {
		d.finish(ctx, &delivery.Message, delivery.Lease)
	} else {
		d.finishMessage(ctx, &delivery.Message, delivery.Lease)
	}
	d.log.Info("refused an invalid job", "tenant", delivery.Tenant, "job", id, "why", invalid)
}

// endRefused stores the letter and the end of an invalid message under an id that no other job has, and gives that id and the letter.
func (d *Dispatcher) endRefused(ctx context.Context, m *job.Message, id job.ID, invalid error) (_ job.ID, letter uint64, err error) {
	last, found, err := d.q.Last(ctx, job.Tenant(m.Tenant), id)
	if err != nil {
		return id, 0, err
	}
	if ended := last.Reason == string(failure.InvalidJob) && last.Sequence == m.Sequence; found && !ended {
		id, last = m.GeneratedID(), queue.Link{}
	} else if ended {
		return id, 0, nil // by an earlier delivery
	}
	e := job.Event{
		EventKind: job.Dead, Job: id, Tenant: job.Tenant(m.Tenant), Priority: m.Priority, Time: d.clock(),
		Sequence: m.Sequence, Reason: string(failure.InvalidJob), Kind: failure.InvalidWorkflow, Message: invalid.Error(),
	}
	if letter, err = d.q.Bury(ctx, m, &e, last.ChainSequence); err != nil {
		return id, 0, err
	}
	_, err = d.q.Append(ctx, &e, last.ChainSequence, d.source, "")
	return id, letter, err
}

// sharedText is a string that several goroutines write and read.
type sharedText struct{ atomic.Value }

func (t *sharedText) Store(s string) { t.Value.Store(s) }

func (t *sharedText) Load() string {
	s, _ := t.Value.Load().(string)
	return s
}
