package dispatcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

// DeadRequest filters dead letters; an empty field matches all. An answer that would grow too long or take too
// long ends early and names where to go on: ask again with After.
type DeadRequest struct {
	Tenant job.Tenant     `json:"tenant,omitempty"`
	Job    job.ID         `json:"job,omitempty"`
	Hash   workflow.Hash  `json:"hash,omitempty"` // or its first digits
	Kind   failure.Kind   `json:"kind,omitempty"`
	Reason failure.Reason `json:"reason,omitempty"`
	Since  string         `json:"since,omitempty"` // RFC 3339, or a Go duration back from now
	After  uint64         `json:"after,omitempty"` // only letters behind this one; Next of the answer before
	Limit  int            `json:"limit,omitempty"` // at most so many
	Again  bool           `json:"again,omitempty"` // requeue only: also letters that were requeued before
}

// DeadAnswer lists dead jobs by their dead events.
type DeadAnswer struct {
	Dead []job.Event `json:"dead"`
	Next uint64      `json:"next,omitempty"` // more may follow behind it; 0 at the end
}

// RequeueAnswer lists the ids under which the jobs were published again.
type RequeueAnswer struct {
	Count int               `json:"count"`
	Jobs  map[job.ID]job.ID `json:"jobs"`           // dead id: new id
	Next  uint64            `json:"next,omitempty"` // more may follow behind it; 0 at the end
}

const (
	lettersAtOnce = 64              // letters that are worked on at the same time
	answerBytes   = 512 << 10       // half of NATS' usual max_payload
	answerTime    = 4 * time.Second // of the 10 s that an asker waits
)

func (d *Dispatcher) apiDead(ctx context.Context, r DeadRequest) (DeadAnswer, error) {
	answer, size := DeadAnswer{Dead: []job.Event{}}, 0
	var err error
	answer.Next, err = d.eachDead(ctx, r, func(letters []deadLetter) (more bool, err error) {
		for _, l := range letters {
			body, err := json.Marshal(&l.event)
			if err != nil {
				return false, fmt.Errorf("encode dead event of job %s: %w", l.Job, err)
			}
			size += len(body) + 1
			answer.Dead = append(answer.Dead, l.event)
		}
		return size < answerBytes/2, nil
	})
	return answer, err
}

func (d *Dispatcher) apiRequeue(ctx context.Context, r DeadRequest) (RequeueAnswer, error) {
	answer, size := RequeueAnswer{Jobs: map[job.ID]job.ID{}}, 0
	taken := map[string]bool{}
	var err error
	answer.Next, err = d.eachDead(ctx, r, func(letters []deadLetter) (more bool, err error) {
		letters = slices.DeleteFunc(letters, func(l deadLetter) bool {
			return !r.meant(&l.DeadLetter) || repeated(taken, &l.DeadLetter, r.Again)
		})
		ids := make([]job.ID, len(letters))
		err = atOnce(ctx, len(letters), func(ctx context.Context, i int) (err error) {
			ids[i], err = d.requeue(ctx, &letters[i].DeadLetter, r.Again)
			return err
		})
		for i, id := range ids {
			if id != "" {
				answer.Jobs[letters[i].Job] = id
				answer.Count++
				size += len(letters[i].Job) + len(id) + 6
			}
		}
		return size < answerBytes, err
	})
	if err != nil && answer.Count > 0 {
		err = fmt.Errorf("%d jobs were requeued, then: %w; the call can be repeated", answer.Count, err)
	}
	return answer, err
}

// meant leaves out what was never a job, and would be refused again, unless it was asked for. A letter without the
// whole job cannot be run again: only who names its job is told so.
func (r *DeadRequest) meant(l *jetstream.DeadLetter) bool {
	if l.Truncated() && r.Job == "" {
		return false
	}
	return l.Job.Valid() && (l.Reason != failure.InvalidJob || r.Reason == failure.InvalidJob || r.Job != "")
}

// repeated reports whether the same work was requeued by this call already: a letter may be stored twice, and the
// letters of a job and of its requeues have one body.
func repeated(taken map[string]bool, l *jetstream.DeadLetter, again bool) bool {
	key := string(l.Tenant) + "/" + string(l.Job)
	if again {
		key = string(l.Tenant) + "/" + string(job.RequeueID(l.Root(), 0))
	}
	was := taken[key]
	taken[key] = true
	return was
}

// requeue gives no id for a letter that was requeued before.
func (d *Dispatcher) requeue(ctx context.Context, l *jetstream.DeadLetter, again bool) (job.ID, error) {
	if !again {
		done, err := d.q.Requeued(ctx, l)
		if err != nil || done {
			return "", err
		}
	}
	receipt, err := d.q.Requeue(ctx, l)
	if errors.Is(err, jetstream.ErrTruncated) {
		err = &jetstream.BadRequest{Message: err.Error()}
	}
	return receipt.Job, err
}

// deadLetter is a letter with the event that tells why.
type deadLetter struct {
	jetstream.DeadLetter
	event job.Event
}

// eachDead hands fitting letters to do, some at a time, oldest first, and gives the sequence to go on behind.
func (d *Dispatcher) eachDead(ctx context.Context, r DeadRequest, do func([]deadLetter) (more bool, err error)) (next uint64, err error) {
	since, err := sinceOf(r.Since, d.clock())
	if err != nil {
		return 0, err
	}
	var failed error
	var batch []jetstream.DeadLetter
	left, until := r.Limit, d.clock().Add(answerTime)
	flush := func() (more bool) {
		letters, err := d.fitting(ctx, batch, r)
		if r.Limit > 0 {
			letters = letters[:min(left, len(letters))]
			left -= len(letters)
		}
		next, batch = lastOf(batch, letters, r.Limit > 0 && left == 0), batch[:0]
		if err == nil {
			more, err = do(letters)
		}
		failed = errors.Join(failed, err)
		return more && failed == nil && (r.Limit <= 0 || left > 0) && d.clock().Before(until)
	}
	stopped := false
	err = d.q.DeadLettersAfter(ctx, r.Tenant, since, r.After, func(l jetstream.DeadLetter) bool {
		if (r.Job == "" || r.Job == l.Job) && (r.Reason == "" || r.Reason == l.Reason) {
			batch = append(batch, l)
		}
		stopped = len(batch) == lettersAtOnce && !flush()
		return !stopped
	})
	if err == nil && !stopped && len(batch) > 0 {
		stopped = !flush()
	}
	if err = errors.Join(err, failed); err != nil || !stopped {
		return 0, err
	}
	return next, nil
}

// lastOf is the last letter that was looked at.
func lastOf(batch []jetstream.DeadLetter, fitting []deadLetter, cut bool) uint64 {
	switch {
	case cut && len(fitting) > 0:
		return fitting[len(fitting)-1].Sequence
	case len(batch) > 0:
		return batch[len(batch)-1].Sequence
	}
	return 0
}

// fitting reads the letters' events and leaves out those that the filter does.
func (d *Dispatcher) fitting(ctx context.Context, batch []jetstream.DeadLetter, r DeadRequest) ([]deadLetter, error) {
	all := make([]deadLetter, len(batch))
	err := atOnce(ctx, len(batch), func(ctx context.Context, i int) (err error) {
		all[i].DeadLetter = batch[i]
		all[i].event, err = d.deadEvent(ctx, &batch[i])
		return err
	})
	fits := all[:0]
	for _, l := range all {
		if strings.HasPrefix(string(l.event.Hash), string(r.Hash)) && (r.Kind == "" || r.Kind == l.event.Kind) {
			fits = append(fits, l)
		}
	}
	return fits, err
}

// atOnce calls do for 0 to n-1, some at the same time.
func atOnce(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i := range n {
		g.Go(func() error { return do(ctx, i) })
	}
	return g.Wait()
}

// deadEvent gives the job's dead event; after the events' horizon the letter tells it.
func (d *Dispatcher) deadEvent(ctx context.Context, l *jetstream.DeadLetter) (job.Event, error) {
	link, found, err := d.q.LastOf(ctx, l.Tenant, l.Job, job.Dead)
	if err != nil || found {
		return link.Event, err
	}
	return l.Event, nil
}

func sinceOf(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil {
		return now.Add(-ago), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, &jetstream.BadRequest{Message: fmt.Sprintf("since %q is neither a duration like 24h nor a time like 2026-12-01T08:00:00Z", text)}
	}
	return t, nil
}
