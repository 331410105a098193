package queue

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
	"github.com/comfyherd/comfyherd/internal/names"
)

// Delivery is a job as COMFY_JOBS hands it out, with the lease that comes with it.
type Delivery struct {
	job.Message
	Lease   Lease
	Pending uint64 // how many the consumer had left behind it at that moment
}

// Puller takes deliveries of one priority from the durable consumer that all dispatchers share.
type Puller struct{ p *puller }

// Puller makes ready to pull from the consumer dispatch_<priority>, which the first Pull makes when it is missing. Every
// delivery is handed to take, one after the other, also one that comes later than the Pull that asked for it.
func (q *Queue) Puller(p job.Priority, take func(Delivery)) (*Puller, error) {
	open := q.opening(names.JobsStream, natsjs.ConsumerConfig{
		Durable: names.DispatchConsumer(p), FilterSubject: names.PrioritySubject(p), AckPolicy: natsjs.AckExplicitPolicy,
		AckWait: q.ackWait, MaxDeliver: -1, MaxAckPending: -1, MaxWaiting: 8192,
	})
	made, err := q.puller(open, func(msg *nats.Msg) {
		if d, ok := q.delivery(msg); ok {
			take(d)
		}
	})
	if err != nil {
		return nil, err
	}
	return &Puller{made}, nil
}

// Pull asks for up to n deliveries and returns how many came when all have, when wait is over, or at once when NATS
// came back from an outage, since a request from before it is lost. An error is only returned when asking again at once
// makes no sense.
func (p *Puller) Pull(ctx context.Context, n int, wait time.Duration) (int, error) {
	return p.p.pull(ctx, n, wait)
}

// Close ends it when take is not under way any more.
func (p *Puller) Close() { p.p.close() }

// delivery reads what stands around a message. A message on a subject of no lane cannot occur in this stream.
func (q *Queue) delivery(msg *nats.Msg) (Delivery, bool) {
	meta, err := msg.Metadata()
	if err != nil {
		return Delivery{}, false
	}
	tenant, priority, ok := names.SplitLane(msg.Subject)
	h := msg.Header
	return Delivery{
		Lease: Lease(msg.Reply), Pending: meta.NumPending,
		Message: job.Message{
			Tenant: tenant, Priority: priority, Sequence: meta.Sequence.Stream, Received: meta.Timestamp,
			StreamCreated: q.Created(), JobIDHeader: h.Get(names.JobIDHeader), MsgIDHeader: h.Get(names.MsgIDHeader),
			RequeueOf: h.Get(names.RequeueOfHeader), Body: msg.Data,
		},
	}, ok
}

// ErrGone: the job is no longer in COMFY_JOBS.
var ErrGone = errors.New("the job is no longer stored")

// Stored reads the job at a sequence of COMFY_JOBS again; the message has no lease with it.
func (q *Queue) Stored(ctx context.Context, sequence uint64) (job.Message, error) {
	raw, err := q.readJobs.GetMsg(ctx, sequence)
	if errors.Is(err, natsjs.ErrMsgNotFound) {
		return job.Message{}, fmt.Errorf("read job %d: %w", sequence, ErrGone)
	}
	if err != nil {
		return job.Message{}, fmt.Errorf("read job %d: %w", sequence, err)
	}
	return q.messageOf(raw), nil
}

// NextStored reads the first job of a tenant that stands behind a sequence of COMFY_JOBS, in one lane or, without one, in
// any; false when there is none.
func (q *Queue) NextStored(ctx context.Context, tenant job.Tenant, lane *job.Priority, after uint64) (job.Message, bool, error) {
	subject := names.LanesSubject(tenant)
	if lane != nil {
		subject = names.LaneSubject(job.Lane{Tenant: tenant, Priority: *lane})
	}
	raw, err := q.readJobs.GetMsg(ctx, after+1, natsjs.WithGetMsgSubject(subject))
	if errors.Is(err, natsjs.ErrMsgNotFound) {
		return job.Message{}, false, nil
	}
	if err != nil {
		return job.Message{}, false, fmt.Errorf("read the jobs of tenant %s: %w", tenant, err)
	}
	return q.messageOf(raw), true, nil
}

func (q *Queue) messageOf(raw *natsjs.RawStreamMsg) job.Message {
	tenant, priority, _ := names.SplitLane(raw.Subject)
	return job.Message{
		Tenant: tenant, Priority: priority, Sequence: raw.Sequence, Received: raw.Time, StreamCreated: q.Created(),
		JobIDHeader: raw.Header.Get(names.JobIDHeader), MsgIDHeader: raw.Header.Get(names.MsgIDHeader),
		RequeueOf: raw.Header.Get(names.RequeueOfHeader), Body: raw.Data,
	}
}

// JobsHeld is how many unfinished jobs COMFY_JOBS holds, of all tenants, and how many bytes with all that is stored beside
// their bodies.
func (q *Queue) JobsHeld(ctx context.Context) (jobs int, bytes int64, err error) {
	info, err := q.streamState(ctx, names.JobsStream)
	if err != nil {
		return 0, 0, err
	}
	return int(info.State.Msgs), int64(info.State.Bytes), nil
}

// Depth counts the unfinished jobs of every lane.
func (q *Queue) Depth(ctx context.Context) (map[job.Lane]uint64, error) {
	info, err := q.jobs.Info(ctx, natsjs.WithSubjectFilter(names.AllJobs))
	if err != nil {
		return nil, fmt.Errorf("read depth of lanes: %w", err)
	}
	lanes := make(map[job.Lane]uint64, len(info.State.Subjects))
	for subject, n := range info.State.Subjects {
		if tenant, p, ok := names.SplitLane(subject); ok {
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
