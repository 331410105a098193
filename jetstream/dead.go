package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
)

// DeadLetter is a job that ended dead, as it was published.
type DeadLetter struct {
	Sequence uint64 // in COMFY_DEAD
	Tenant   job.Tenant
	Job      job.ID
	Reason   failure.Reason
	Time     time.Time
	Body     []byte
	Header   nats.Header // of the publish
}

const (
	lanePriorityHeader = "Comfy-Lane-Priority"
	truncatedHeader    = "Comfy-Truncated" // the size of a body that was larger than MaxBody; the letter has its first bytes
)

// Bury stores a job in COMFY_DEAD. Burying it again within some minutes changes nothing, so a crash between
// Bury and the dead event can be repeated; after that the letter may stand there twice, never with two events. It
// returns the letter's sequence.
func (q *Queue) Bury(ctx context.Context, m *job.Message, id job.ID, reason failure.Reason) (uint64, error) {
	msg := nats.NewMsg(deadSubject(job.Tenant(m.Tenant)))
	msg.Header.Set(JobIDHeader, string(id))
	msg.Header.Set(ReasonHeader, string(reason))
	msg.Header.Set(lanePriorityHeader, fmt.Sprint(int(m.Priority)))
	if m.RequeueOf != "" {
		msg.Header.Set(RequeueOfHeader, m.RequeueOf)
	}
	msg.Data = m.Body
	if len(m.Body) > q.MaxBody() {
		msg.Header.Set(truncatedHeader, fmt.Sprint(len(m.Body)))
		msg.Data = m.Body[:q.MaxBody()]
	}
	ack, err := q.js.PublishMsg(ctx, msg, natsjs.WithMsgID(m.Tenant+"/"+string(id)+"/"+fmt.Sprint(m.Sequence)))
	if err != nil {
		return 0, fmt.Errorf("bury job %s: %w", id, err)
	}
	return ack.Sequence, nil
}

// DeadLetters tells the dead letters of a tenant, or of all when it is empty, oldest first, until tell says stop.
func (q *Queue) DeadLetters(ctx context.Context, tenant job.Tenant, since time.Time, tell func(DeadLetter) bool) error {
	subject := deadSubjects
	if tenant != "" {
		subject = deadSubject(tenant)
	}
	info, err := q.dead.Info(ctx)
	if err != nil {
		return fmt.Errorf("read %s: %w", DeadStream, err)
	}
	for next := info.State.FirstSeq; next <= info.State.LastSeq; {
		raw, err := q.dead.GetMsg(ctx, next, natsjs.WithGetMsgSubject(subject))
		if errors.Is(err, natsjs.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read dead letter %d: %w", next, err)
		}
		next = raw.Sequence + 1
		if raw.Time.Before(since) {
			continue
		}
		if !tell(deadLetter(raw)) {
			return nil
		}
	}
	return nil
}

func deadLetter(raw *natsjs.RawStreamMsg) DeadLetter {
	return DeadLetter{
		Sequence: raw.Sequence, Tenant: job.Tenant(raw.Subject[len("comfy.dead."):]), Job: job.ID(raw.Header.Get(JobIDHeader)),
		Reason: failure.Reason(raw.Header.Get(ReasonHeader)), Time: raw.Time, Body: raw.Data, Header: raw.Header,
	}
}

// Priority is the lane's that the job was published to.
func (d *DeadLetter) Priority() job.Priority {
	p := job.Priority(headerInt(d.Header, lanePriorityHeader))
	if d.Header.Get(lanePriorityHeader) == "" || !p.Valid() {
		return job.Usual
	}
	return p
}

// Purge removes one dead letter.
func (q *Queue) Purge(ctx context.Context, d *DeadLetter) error {
	return wrap(q.dead.DeleteMsg(ctx, d.Sequence), "purge dead letter of job %s", d.Job)
}

// Requeue publishes a dead job again as <root>-r<n>, the next free number. The header Comfy-Requeue-Of keeps its
// lineage.
func (q *Queue) Requeue(ctx context.Context, d *DeadLetter) (Receipt, error) {
	root := job.RootID(d.Job)
	for n := 1; ; n++ {
		id := job.RequeueID(root, n)
		_, taken, err := q.Last(ctx, d.Tenant, id)
		if err != nil {
			return Receipt{}, err
		}
		if taken {
			continue
		}
		msg := nats.NewMsg(laneSubject(job.Lane{Tenant: d.Tenant, Priority: d.Priority()}))
		msg.Header.Set(JobIDHeader, string(id))
		msg.Header.Set(RequeueOfHeader, string(d.Job))
		msg.Data = d.Body
		return q.publishJob(ctx, msg, Receipt{Tenant: d.Tenant, Job: id})
	}
}
