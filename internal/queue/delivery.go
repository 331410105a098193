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

// Delivery is a job as NATS has delivered it from COMFY_JOBS, with its lease.
type Delivery struct {
	job.Message
	Lease   Lease
	Pending uint64 // how many jobs the consumer had not delivered yet at that moment
}

// Puller takes deliveries of one priority from the durable consumer that all dispatchers share.
type Puller struct{ p *puller }

// Puller makes a Puller of the consumer dispatch_<priority>; the first Pull creates the consumer when it is missing. take is called
// for every delivery, one after the other, also for one that comes after the Pull that asked for it has returned.
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

// Pull asks for up to n deliveries and returns how many came: when all have come, when wait is over, or at once when the connection
// was lost and restored, since the request is lost then. After an error the caller should pause before it pulls again.
func (p *Puller) Pull(ctx context.Context, n int, wait time.Duration) (int, error) {
	return p.p.pull(ctx, n, wait)
}

// Close ends the Puller and returns when take is no longer called.
func (p *Puller) Close() { p.p.close() }

// delivery reads a message's subject and headers; false when the subject is none of a lane, which cannot occur in this stream.
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
			RequeueOf: h.Get(names.RequeueOfHeader), Traceparent: names.Traceparent(h), Body: msg.Data,
		},
	}, ok
}

// ErrGone: the job is no longer in COMFY_JOBS.
var ErrGone = errors.New("the job is no longer stored")

// Stored reads the job at a sequence of COMFY_JOBS again; ErrGone when it is no longer there. It gives no lease.
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

// NextStored reads a tenant's first job after a sequence of COMFY_JOBS, in one lane or (nil) in any; false when there is none.
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
		RequeueOf: raw.Header.Get(names.RequeueOfHeader), Traceparent: names.Traceparent(raw.Header), Body: raw.Data,
	}
}

// JobsHeld is how many unfinished jobs of all tenants COMFY_JOBS holds, and how many bytes, headers and NATS' overhead included.
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
