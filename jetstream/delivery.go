package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
)

// Delivery is a job as COMFY_JOBS hands it out, with the lease that comes with it.
type Delivery struct {
	job.Message
	Lease   Lease
	Pending uint64 // how many the consumer had left behind it at that moment
}

// Puller takes deliveries of one priority from the durable consumer that all dispatchers share.
type Puller struct {
	q        *Queue
	consumer natsjs.Consumer
}

// Puller opens the consumer dispatch_<priority>, and makes it when it is missing.
func (q *Queue) Puller(ctx context.Context, p job.Priority) (*Puller, error) {
	consumer, err := answered(ctx, func(ctx context.Context) (natsjs.Consumer, error) {
		return q.durable(ctx, JobsStream, natsjs.ConsumerConfig{
			Durable: dispatchConsumer(p), FilterSubject: prioritySubject(p), AckPolicy: natsjs.AckExplicitPolicy,
			AckWait: q.ackWait, MaxDeliver: -1, MaxAckPending: -1, MaxWaiting: 8192,
		})
	})
	if err != nil {
		return nil, err
	}
	return &Puller{q: q, consumer: consumer}, nil
}

// durable makes or widens a durable consumer; what an operator set on it stays.
func (q *Queue) durable(ctx context.Context, stream string, want natsjs.ConsumerConfig) (natsjs.Consumer, error) {
	consumer, err := q.js.Consumer(ctx, stream, want.Durable)
	if errors.Is(err, natsjs.ErrConsumerNotFound) {
		consumer, err = q.js.CreateOrUpdateConsumer(ctx, stream, want)
	}
	if err != nil {
		return nil, fmt.Errorf("open consumer %s of %s: %w", want.Durable, stream, err)
	}
	cfg := consumer.CachedInfo().Config
	if stream == JobsStream && q.cfg.AckWait != 0 && cfg.AckWait != q.cfg.AckWait {
		cfg.AckWait = q.cfg.AckWait
		consumer, err = q.js.UpdateConsumer(ctx, stream, cfg)
	}
	return consumer, wrap(err, "set AckWait of consumer %s", want.Durable)
}

// Pull asks for up to n deliveries and hands each to take as it comes. It returns when it has n of them, when
// wait is over, or at once when NATS came back from an outage, since a request from before it is lost. An error
// is only returned when asking again at once makes no sense.
func (p *Puller) Pull(ctx context.Context, n int, wait time.Duration, take func(Delivery)) error {
	bound, cancel := p.q.reconnects.bound(ctx)
	defer cancel()
	timed, cancelTimed := context.WithTimeout(bound, wait)
	defer cancelTimed()
	batch, err := p.consumer.Fetch(n, natsjs.FetchContext(timed))
	if err != nil {
		return p.harmless(ctx, err)
	}
	for msg := range batch.Messages() {
		if d, ok := p.q.delivery(msg); ok {
			take(d)
		}
	}
	return p.harmless(ctx, batch.Error())
}

func (p *Puller) harmless(ctx context.Context, err error) error {
	switch {
	case err == nil, ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, nats.ErrTimeout), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, natsjs.ErrNoMessages), errors.Is(err, natsjs.ErrNoHeartbeat):
		return nil
	}
	return fmt.Errorf("pull from %s: %w", p.consumer.CachedInfo().Name, err)
}

// delivery reads what stands around a message. A message on a subject of no lane cannot occur in this stream.
func (q *Queue) delivery(msg natsjs.Msg) (Delivery, bool) {
	meta, err := msg.Metadata()
	if err != nil {
		return Delivery{}, false
	}
	tenant, priority, ok := splitLane(msg.Subject())
	h := msg.Headers()
	return Delivery{
		Lease: Lease(msg.Reply()), Pending: meta.NumPending,
		Message: job.Message{
			Tenant: tenant, Priority: priority, Sequence: meta.Sequence.Stream, Received: meta.Timestamp,
			StreamCreated: q.streamCreated, JobIDHeader: h.Get(JobIDHeader), MsgIDHeader: h.Get(msgIDHeader),
			RequeueOf: h.Get(RequeueOfHeader), Body: msg.Data(),
		},
	}, ok
}

// ErrGone: the job is no longer in COMFY_JOBS.
var ErrGone = errors.New("the job is no longer stored")

// Stored reads the job at a sequence of COMFY_JOBS again; its lease is the caller's to know.
func (q *Queue) Stored(ctx context.Context, sequence uint64) (job.Message, error) {
	raw, err := q.readJobs.GetMsg(ctx, sequence)
	if errors.Is(err, natsjs.ErrMsgNotFound) {
		return job.Message{}, fmt.Errorf("read job %d: %w", sequence, ErrGone)
	}
	if err != nil {
		return job.Message{}, fmt.Errorf("read job %d: %w", sequence, err)
	}
	tenant, priority, _ := splitLane(raw.Subject)
	return job.Message{
		Tenant: tenant, Priority: priority, Sequence: raw.Sequence, Received: raw.Time, StreamCreated: q.streamCreated,
		JobIDHeader: raw.Header.Get(JobIDHeader), MsgIDHeader: raw.Header.Get(msgIDHeader),
		RequeueOf: raw.Header.Get(RequeueOfHeader), Body: raw.Data,
	}, nil
}

// Depth counts the unfinished jobs of every lane.
func (q *Queue) Depth(ctx context.Context) (map[job.Lane]uint64, error) {
	info, err := q.jobs.Info(ctx, natsjs.WithSubjectFilter("comfy.jobs.>"))
	if err != nil {
		return nil, fmt.Errorf("read depth of lanes: %w", err)
	}
	lanes := make(map[job.Lane]uint64, len(info.State.Subjects))
	for subject, n := range info.State.Subjects {
		if tenant, p, ok := splitLane(subject); ok {
			lanes[job.Lane{Tenant: job.Tenant(tenant), Priority: p}] = n
		}
	}
	return lanes, nil
}

func headerInt(h nats.Header, name string) int {
	n, _ := strconv.Atoi(strings.TrimSpace(h.Get(name)))
	return n
}

func headerUint(h nats.Header, name string) uint64 {
	n, _ := strconv.ParseUint(strings.TrimSpace(h.Get(name)), 10, 64)
	return n
}
