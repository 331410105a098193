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
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

const (
	lettersAtOnce = 64              // letters that are worked on at the same time
	answerTime    = 4 * time.Second // how long a call goes on; its caller waits for 10 s or more
)

func (d *Dispatcher) apiDead(ctx context.Context, r jetstream.DeadRequest) (answer jetstream.DeadAnswer, err error) {
	p, err := d.page(r.Limit)
	if err != nil {
		return answer, err
	}
	answer.Dead = []job.Event{}
	if r.Group != "" {
		return d.deadGroups(ctx, r, p)
	}
	answer.Next, err = d.eachDead(ctx, r, func(letters []deadLetter) (taken int, more bool, err error) {
		for ; taken < len(letters); taken++ {
			e := &letters[taken].event
			if fits, err := p.take(e); err != nil || !fits {
				return taken, false, err
			}
			answer.Dead = append(answer.Dead, *e)
		}
		return taken, p.rows > 0, nil
	})
	return answer, err
}

func (d *Dispatcher) apiRequeue(ctx context.Context, r jetstream.RequeueRequest) (jetstream.RequeueAnswer, error) {
	if !r.All && !r.Narrow() {
		return jetstream.RequeueAnswer{}, needsCondition("tenant, job, hash, kind, reason, signature or since")
	}
	return d.requeueAll(ctx, r, operatorBy(r.By))
}

func needsCondition(conditions string) error {
	return &jetstream.BadRequest{Message: `say which dead jobs are meant: give ` + conditions + `, or "all":true for every one there is`}
}

func (d *Dispatcher) requeueAll(ctx context.Context, r jetstream.RequeueRequest, by string) (answer jetstream.RequeueAnswer, err error) {
	if err := checkExtraData(r.ExtraData); err != nil {
		return answer, err
	}
	if err := job.CheckHosts(r.OnlyHosts); err != nil {
		return answer, &jetstream.BadRequest{Message: err.Error()}
	}
	extra := r.ExtraData
	r.By, r.ExtraData = "", nil // it may hold keys, and the audit is stored
	all := &bulkAudit{d: d, record: queue.AuditRecord{Call: "requeue", By: by, Tenant: r.Tenant}, request: &r}
	defer func() { all.end(ctx, answer.Count, err) }()
	answer.Jobs = map[job.ID]job.ID{}
	room := d.q.AnswerBytes()
	taken := map[string]bool{}
	which := jetstream.DeadRequest{
		Tenant: r.Tenant, Job: r.Job, Hash: r.Hash, Kind: r.Kind, Reason: r.Reason, Since: r.Since, After: r.After, UpTo: r.UpTo,
		Limit: r.Limit, Signature: r.Signature,
	}
	answer.Next, err = d.eachDead(ctx, which, func(found []deadLetter) (int, bool, error) {
		letters := slices.DeleteFunc(slices.Clone(found), func(l deadLetter) bool {
			return !concerns(&r, &l.DeadLetter) || repeated(taken, &l.DeadLetter, r.Again)
		})
		ids, need := make([]job.ID, len(letters)), make([]bool, len(letters))
		err := atOnce(ctx, len(letters), func(ctx context.Context, i int) (err error) {
			ids[i], err = d.requeue(ctx, &letters[i].DeadLetter, &r, extra, all)
			if need[i] = errors.Is(err, queue.ErrExtraData); need[i] {
				return nil
			}
			return err
		})
		for i, id := range ids {
			if need[i] {
				answer.NeedExtraData = append(answer.NeedExtraData, letters[i].Job)
				room -= len(letters[i].Job) + 3
			}
			if id != "" {
				answer.Jobs[letters[i].Job] = id
				answer.Count++
				room -= len(letters[i].Job) + len(id) + 6
			}
		}
		return len(found), room > 0, err
	})
	if err != nil && answer.Count > 0 {
		err = fmt.Errorf("%d jobs were requeued, then: %w; the call can be repeated", answer.Count, err)
	}
	return answer, err
}

// concerns reports whether a request concerns a letter. A letter of a message that was never a job is left out unless it was
// asked for, since it would be refused again. One without the whole job cannot be run again: only a caller that names the
// job is told so.
func concerns(r *jetstream.RequeueRequest, l *queue.DeadLetter) bool {
	if l.Truncated() && r.Job == "" {
		return false
	}
	return l.Job.Valid() && (l.Reason != failure.InvalidJob || r.Reason == failure.InvalidJob || r.Job != "")
}

// repeated reports whether the same work was requeued by this call already: a letter may be stored twice, and the
// letters of a job and of its requeues have one body.
func repeated(taken map[string]bool, l *queue.DeadLetter, again bool) bool {
	key := string(l.Tenant) + "/" + string(l.Job)
	if again {
		key = string(l.Tenant) + "/" + string(job.RequeueID(l.Root(), 0))
	}
	was := taken[key]
	taken[key] = true
	return was
}

// requeue gives no id for a letter that was requeued before.
func (d *Dispatcher) requeue(ctx context.Context, l *queue.DeadLetter, r *jetstream.RequeueRequest, extra json.RawMessage, all *bulkAudit) (job.ID, error) {
	if !r.Again {
		done, err := d.q.Requeued(ctx, l)
		if err != nil || done {
			return "", err
		}
	}
	refused := l.Truncated() || len(extra) == 0 && l.NeedsExtraData()
	if !refused {
		if err := all.begin(ctx); err != nil {
			return "", err
		}
	}
	receipt, err := d.q.Requeue(ctx, l, extra, r.OnlyHosts)
	if errors.Is(err, queue.ErrTruncated) {
		err = &jetstream.BadRequest{Message: err.Error()}
	}
	return receipt.Job, err
}

func checkExtraData(extra json.RawMessage) error {
	var members map[string]json.RawMessage
	if len(extra) > 0 && (json.Unmarshal(extra, &members) != nil || members == nil) {
		return &jetstream.BadRequest{Message: "extra_data must be a JSON object; {} runs the jobs without"}
	}
	return nil
}

// deadLetter is a letter with the event that tells why.
type deadLetter struct {
	queue.DeadLetter
	event job.Event
}

// eachDead hands fitting letters to do, some at a time, oldest first, and gives the sequence after which the next call goes
// on. do returns how many of them it has taken, and whether it takes more.
func (d *Dispatcher) eachDead(ctx context.Context, r jetstream.DeadRequest, do func([]deadLetter) (taken int, more bool, err error)) (next uint64, err error) {
	since, err := sinceOf(r.Since, d.clock())
	if err != nil {
		return 0, err
	}
	leave, err := d.answers.enterLetters(ctx)
	if err != nil {
		return 0, err
	}
	defer leave()
	var failed error
	var batch []queue.DeadLetter
	left, until := r.Limit, d.clock().Add(answerTime)
	flush := func() (more bool) {
		letters, err := d.matching(ctx, batch, r)
		next, batch = batch[len(batch)-1].Sequence, batch[:0]
		if r.Limit > 0 && left <= len(letters) {
			letters = letters[:left]
			next = letters[left-1].Sequence
		}
		left -= len(letters)
		taken := 0
		if err == nil {
			taken, more, err = do(letters)
		}
		if taken < len(letters) {
			next = letters[taken].Sequence - 1
		}
		failed = errors.Join(failed, err)
		return more && failed == nil && (r.Limit <= 0 || left > 0) && d.clock().Before(until)
	}
	stopped := false
	err = d.q.DeadLettersAfter(ctx, r.Tenant, since, r.After, func(l queue.DeadLetter) bool {
		if r.UpTo > 0 && l.Sequence > r.UpTo {
			return false
		}
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

// matching reads the letters' events, and leaves out the letters that the filter excludes.
func (d *Dispatcher) matching(ctx context.Context, batch []queue.DeadLetter, r jetstream.DeadRequest) ([]deadLetter, error) {
	all := make([]deadLetter, len(batch))
	err := atOnce(ctx, len(batch), func(ctx context.Context, i int) (err error) {
		all[i].DeadLetter = batch[i]
		all[i].event, err = d.deadEvent(ctx, &batch[i])
		return err
	})
	fits := all[:0]
	for _, l := range all {
		if strings.HasPrefix(string(l.event.Hash), string(r.Hash)) && (r.Kind == "" || r.Kind == l.event.Kind) &&
			(r.Signature == "" || r.Signature == l.event.Signature()) {
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

// deadEvent gives the job's dead event; when events of that age are not kept any more, the letter has it.
func (d *Dispatcher) deadEvent(ctx context.Context, l *queue.DeadLetter) (job.Event, error) {
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
