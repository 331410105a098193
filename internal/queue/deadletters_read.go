package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
)

const (
	letterBatch = 200     // letters that one request asks for
	letterBytes = 4 << 20 // the most bytes of a batch, since letters have the bodies of jobs
)

// DeadLetters calls tell for the dead letters of a tenant (empty: of all) that are stored at this moment, oldest first, until tell
// returns false.
func (q *Queue) DeadLetters(ctx context.Context, tenant job.Tenant, since time.Time, tell func(DeadLetter) bool) error {
	return q.DeadLettersAfter(ctx, tenant, since, 0, tell)
}

// DeadLettersAfter is DeadLetters for the letters after a sequence of COMFY_DEAD. It reads by direct gets, so frequent calls make no
// consumers.
func (q *Queue) DeadLettersAfter(ctx context.Context, tenant job.Tenant, since time.Time, after uint64, tell func(DeadLetter) bool) error {
	stream, err := q.dead.Info(ctx)
	if err != nil {
		return fmt.Errorf("read %s: %w", names.DeadStream, err)
	}
	answers, err := q.nc.SubscribeSync(q.nc.NewInbox())
	if err != nil {
		return fmt.Errorf("read %s: %w", names.DeadStream, err)
	}
	defer func() { _ = answers.Unsubscribe() }() // the connection may be closed already
	r := deadReader{at: after, last: stream.State.LastSeq, since: since, tell: tell}
	want := batchGet{Subject: names.DeadSubjects, Batch: letterBatch, MaxBytes: letterBytes}
	if tenant != "" {
		want.Subject = names.DeadSubject(tenant)
	}
	for {
		want.Sequence, want.Since = r.at+1, nil
		if r.at == 0 && !since.IsZero() {
			want.Sequence, want.Since = 0, &since
		}
		before := r.at
		complete, err := q.gets(ctx, answers, names.DeadStream, want, r.take)
		switch {
		case complete, errors.Is(err, errEnough):
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("read %s: %w", names.DeadStream, ctx.Err())
		case err != nil && !unreachable(err):
			return fmt.Errorf("read %s: %w", names.DeadStream, err)
		case r.at == before: // no server has answered
			Pause(ctx, rewatchPause)
		}
	}
}

type deadReader struct {
	at, last uint64 // sequences of the letter that was read last, and of the last one that is to be read
	since    time.Time
	tell     func(DeadLetter) bool
}

// take stops at the letter that was the last at the begin: a caller that requeues does not get the letters of jobs that die again
// meanwhile.
func (r *deadReader) take(msg *nats.Msg) error {
	sequence := sequenceOf(msg)
	if sequence <= r.at { // of a batch that was asked for again
		return nil
	}
	if sequence > r.last {
		return errEnough
	}
	r.at = sequence
	d := deadLetter(msg)
	if !d.Time.Before(r.since) && !r.tell(d) || sequence == r.last {
		return errEnough
	}
	return nil
}

func deadLetter(msg *nats.Msg) DeadLetter {
	h := msg.Header
	stored, _ := time.Parse(time.RFC3339Nano, h.Get(natsjs.TimeStampHeaer)) // NATS has written it
	d := DeadLetter{
		Sequence: sequenceOf(msg), Tenant: names.TenantOfLetter(h.Get(natsjs.SubjectHeader)), Job: job.ID(h.Get(names.JobIDHeader)),
		Reason: failure.Reason(h.Get(names.ReasonHeader)), Time: stored, Body: msg.Data, Header: h,
	}
	d.setEvent()
	return d
}
