package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/jetstream"
)

// DeadLetter is a job that ended dead, as it was published, and what became of it.
type DeadLetter struct {
	Sequence uint64 // in COMFY_DEAD
	Tenant   job.Tenant
	Job      job.ID
	Reason   failure.Reason
	Time     time.Time
	Body     []byte
	Header   nats.Header // of the letter
	Event    job.Event   // the dead event with every attempt, without metadata; in a letter of an earlier version it has only the fields above
}

const (
	// refusedBody is how many bytes are kept of a job that was refused: enough to recognise it, too few to fill the stream with.
	refusedBody = 4 << 10
)

// ErrTruncated: a dead letter does not have the whole job, so the job cannot be requeued. Publish it again instead.
var ErrTruncated = errors.New("the dead letter has only the beginning of the job")

// Bury stores a job in COMFY_DEAD, with its dead event e, and returns the letter's sequence. It is called before e is appended to the
// job's chain, whose last event has the sequence last. The letter outlives the chain and holds all attempts; texts are cut where they
// do not fit beside the body. The job's extra_data, which may hold keys, is left out. After a crash between Bury and the append, Bury
// may be repeated: within two minutes NATS drops the second letter; later the job has two letters, but still one dead event.
func (q *Queue) Bury(ctx context.Context, m *job.Message, e *job.Event, last uint64) (uint64, error) {
	msg := nats.NewMsg(names.DeadSubject(job.Tenant(m.Tenant)))
	msg.Header.Set(names.JobIDHeader, string(e.Job))
	msg.Header.Set(names.ReasonHeader, e.Reason)
	msg.Header.Set(names.LanePriorityHeader, fmt.Sprint(int(m.Priority)))
	if m.RequeueOf != "" {
		msg.Header.Set(names.RequeueOfHeader, m.RequeueOf)
	}
	body, members := job.WithoutExtraData(m.Body)
	if len(members) > 0 {
		msg.Header.Set(names.ExtraDataHeader, memberList(members))
	}
	msg.Data = body
	if most := q.keptOf(failure.Reason(e.Reason)); len(body) > most {
		msg.Header.Set(names.TruncatedHeader, fmt.Sprint(len(m.Body)))
		msg.Data = body[:most]
	}
	msg.Header.Set(names.StoryHeader, story(e, q.storyRoom(len(msg.Data))))
	ack, err := q.js.PublishMsg(ctx, msg, natsjs.WithMsgID(fmt.Sprintf("%s/%s/%d/%d", m.Tenant, e.Job, m.Sequence, last)))
	if err != nil {
		return 0, wrap(err, "bury job %s", e.Job)
	}
	return ack.Sequence, nil
}

// keptOf is how many bytes of a body its letter has.
func (q *Queue) keptOf(reason failure.Reason) int {
	if reason == failure.InvalidJob || reason == failure.OverQuota {
		return refusedBody
	}
	return q.maxPayload()
}

// Truncated reports whether the letter has only the first bytes of the job.
func (d *DeadLetter) Truncated() bool { return d.Header.Get(names.TruncatedHeader) != "" }

// Priority is that of the lane to which the job was published.
func (d *DeadLetter) Priority() job.Priority {
	p := job.Priority(headerInt(d.Header, names.LanePriorityHeader))
	if d.Header.Get(names.LanePriorityHeader) == "" || !p.Valid() {
		return job.Usual
	}
	return p
}

// Root is the id from which the ids of its requeues are made: its own without the number, when it is a requeue itself.
// A publisher may choose an id that looks like one.
func (d *DeadLetter) Root() job.ID {
	if d.Header.Get(names.RequeueOfHeader) == "" {
		return d.Job
	}
	return job.RootID(d.Job)
}

// Purge removes one dead letter.
func (q *Queue) Purge(ctx context.Context, d *DeadLetter) error {
	return wrap(q.dead.DeleteMsg(ctx, d.Sequence), "purge dead letter of job %s", d.Job)
}

// Requeue publishes a dead job again as <root>-r<n>, with the next free number. The header Comfy-Requeue-Of names the dead job. A
// letter without the whole job is ErrTruncated. For a job whose extra_data held a key, extra must be a JSON object, which may be empty;
// without it the error is ErrExtraData. For a job that had no extra_data, extra is ignored.
// The job may run on the hosts of only, and no others, when there are some; else where its body says.
func (q *Queue) Requeue(ctx context.Context, d *DeadLetter, extra json.RawMessage, only []string) (jetstream.Receipt, error) {
	if d.Truncated() {
		return jetstream.Receipt{}, fmt.Errorf("job %s of tenant %s: %w: its first %d of %s bytes, since it was refused as %s; publish the job again instead",
			d.Job, d.Tenant, ErrTruncated, len(d.Body), d.Header.Get(names.TruncatedHeader), d.Reason)
	}
	body, err := d.withExtraData(extra)
	if err != nil {
		return jetstream.Receipt{}, err
	}
	if len(only) > 0 {
		body = job.WithOnlyHosts(body, only)
	}
	root := d.Root()
	for n := 1; ; n++ {
		id := job.RequeueID(root, n)
		_, taken, err := q.Last(ctx, d.Tenant, id)
		if err != nil {
			return jetstream.Receipt{}, err
		}
		if taken {
			continue
		}
		msg := nats.NewMsg(names.LaneSubject(job.Lane{Tenant: d.Tenant, Priority: d.Priority()}))
		msg.Header.Set(names.JobIDHeader, string(id))
		msg.Header.Set(names.RequeueOfHeader, string(d.Job))
		msg.Data = body
		sequence, err := jetstream.Publish(ctx, q.nc, msg)
		if err != nil {
			return jetstream.Receipt{}, err
		}
		return jetstream.Receipt{Tenant: d.Tenant, Job: id, Sequence: sequence}, nil
	}
}

// Requeued reports whether a dead job was published again before.
func (q *Queue) Requeued(ctx context.Context, d *DeadLetter) (bool, error) {
	root := d.Root()
	for n := 1; ; n++ {
		link, found, err := q.Last(ctx, d.Tenant, job.RequeueID(root, n))
		if err != nil || !found {
			return false, err
		}
		if link.RequeueOf == d.Job {
			return true, nil
		}
	}
}
