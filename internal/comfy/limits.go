package comfy

import (
	"context"
	"fmt"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
)

// limit is one bound on how long something may take.
type limit struct {
	from          time.Time // zero: it does not run now
	most          time.Duration
	kind          failure.Kind
	before, after string // of the message, around the duration
	node, class   string // the node that took too long, when it was one
}

// limits says when the next limit runs out, or which one has.
func (r *run) limits(now time.Time) (next time.Time, failed *failure.Failure) {
	all := []limit{
		{from: r.lastAnswer(), most: r.host.options.FreezeTimeout, kind: failure.HostLost, before: "ComfyUI gave no answer for "},
		r.stepLimit(now),
		{from: r.yieldSince, most: r.prompt.Start, kind: failure.RejectedBusy, before: "other people's prompts ran before it for ", after: " (start timeout)"},
		{from: r.firstHead, most: r.prompt.Total, kind: failure.Timeout, before: "the prompt did not end within ", after: " (total timeout)"},
	}
	next = now.Add(r.host.options.FreezeTimeout)
	for _, l := range all {
		if l.from.IsZero() || l.most <= 0 {
			continue
		}
		end := l.from.Add(l.most)
		if !end.After(now) {
			return now, &failure.Failure{Kind: l.kind, Message: l.before + l.most.String() + l.after, Node: l.node, Class: l.class}
		}
		next = earliest(next, end)
	}
	return next, nil
}

// stepLimit is the start limit before the prompt runs, the node limit after.
func (r *run) stepLimit(now time.Time) limit {
	if r.runSince.IsZero() {
		return limit{from: r.headSince, most: r.prompt.Start, kind: failure.Timeout, before: "the prompt did not start within ", after: " (start timeout)"}
	}
	t := r.track
	hears := t.hears(r.host.current())
	t.mu.Lock()
	defer t.mu.Unlock()
	if !hears {
		if r.blindSince.IsZero() {
			r.blindSince = now
		}
		left := max(1, len(t.classes)-len(t.done))
		return limit{
			from: r.blindSince, most: time.Duration(left) * r.prompt.Node, kind: failure.Timeout,
			before: "the nodes that were left did not end within ", after: " (node timeout for each of them; the host sent no events)",
		}
	}
	r.blindSince = time.Time{}
	where, node, class := "the prompt", clip(oneLine(t.node), 60), clip(oneLine(t.class(t.node)), 60)
	if t.node != "" {
		where = fmt.Sprintf("node %s (%s)", node, class)
	}
	return limit{
		from: latest(t.lastTick, r.runSince), most: r.prompt.Node, kind: failure.Timeout,
		before: where + " made no progress for ", after: " (node timeout)", node: node, class: class,
	}
}

// lastAnswer is when the host last showed that it lives.
func (r *run) lastAnswer() time.Time {
	last := time.Unix(0, r.host.lastAnswer.Load())
	if last.Before(r.began) {
		return r.began
	}
	return last
}

// checkup reads the host's log when the prompt shows no sign for QuietTime: a
// dead worker thread looks like a long node from everywhere else. Logs without
// its signature are read again after twice the time, up to a minute.
func (r *run) checkup(ctx context.Context, now time.Time) time.Time {
	r.track.mu.Lock()
	quiet := r.track.lastSign.Add(r.host.options.QuietTime)
	r.track.mu.Unlock()
	if r.checking || !r.accepted {
		return now.Add(time.Minute)
	}
	if at := latest(quiet, r.checkAt); at.After(now) {
		return at
	}
	r.checking = true
	r.work.Go(func() {
		reason, cause, err := r.host.Sick(ctx)
		if err != nil || cause != failure.WorkerGone {
			reason = ""
		}
		r.sicks <- reason
	})
	return now.Add(time.Minute)
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func (r *run) checked(reason string) *failure.Failure {
	r.checking = false
	r.checkEvery = min(2*r.checkEvery, time.Minute)
	r.checkAt = time.Now().Add(r.checkEvery)
	if reason == "" {
		return nil
	}
	return &failure.Failure{Kind: failure.HostSick, Cause: failure.WorkerGone, Message: reason, Exception: failure.WorkerDied}
}
