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

// limits gives the time at which the next limit is reached, or the failure of one that was.
func (r *run) limits(now time.Time) (next time.Time, failed *failure.Failure) {
	all := []limit{
		r.silenceLimit(now),
		r.stepLimit(now),
		{from: r.foreignSince, most: r.prompt.Start, kind: failure.RejectedBusy, before: "other people's prompts ran before it for ", after: " (start timeout)"},
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
	receives := t.receivesFrom(r.host.current())
	t.mu.Lock()
	defer t.mu.Unlock()
	if !receives {
		if r.unheardSince.IsZero() {
			r.unheardSince = now
		}
		left := max(1, len(t.classes)-len(t.done))
		return limit{
			from: r.unheardSince, most: time.Duration(left) * r.prompt.Node, kind: failure.Timeout,
			before: "the nodes that were left did not end within ", after: " (node timeout for each of them; the host sent no events)",
		}
	}
	where, node, class := "the prompt", clip(oneLine(t.node), 60), clip(oneLine(t.class(t.node)), 60)
	if t.node != "" {
		where = fmt.Sprintf("node %s (%s)", node, class)
	}
	return limit{
		from: latest(t.lastTick, r.runSince), most: r.prompt.Node, kind: failure.Timeout,
		before: where + " made no progress for ", after: " (node timeout)", node: node, class: class,
	}
}

// silenceLimit bounds the time without an answer. It is longer while the port takes connections, and does not run while
// this process reads /object_info.
func (r *run) silenceLimit(now time.Time) limit {
	last := r.lastAnswer(now)
	l := limit{from: last, most: r.host.options.FreezeTimeout, kind: failure.HostLost, before: "ComfyUI gave no answer for "}
	if r.accepting.After(last) {
		l.most, l.after = r.host.options.SilentTimeout, " although its port takes connections"
	}
	return l
}

// lastAnswer is when the host last answered.
func (r *run) lastAnswer(now time.Time) time.Time {
	if r.host.reading.Load() > 0 {
		return now
	}
	return latest(r.began, r.host.born.Add(time.Duration(r.host.lastAnswer.Load())))
}

// checkPort finds out whether the port of a host that does not answer takes connections, well before the short limit.
func (r *run) checkPort(ctx context.Context, now time.Time) time.Time {
	silent := r.lastAnswer(now)
	due := latest(silent.Add(r.host.options.FreezeTimeout/3), r.portCheckAt)
	if r.checkingPort {
		return now.Add(time.Minute)
	}
	if now.Before(due) {
		return due
	}
	r.checkingPort = true
	r.work.Go(func() { r.portChecks <- r.host.accepts(ctx) })
	return now.Add(time.Minute)
}

func (r *run) onPortCheck(accepts bool, now time.Time) {
	r.checkingPort, r.portCheckAt = false, now.Add(r.host.options.FreezeTimeout/3)
	if accepts {
		r.accepting = now
		return
	}
	r.accepting = time.Time{}
}

// readLogWhenQuiet reads the host's log when there was no event of the prompt for QuietTime: everything else looks the
// same with a dead worker thread as during a long node. A log without its traceback is read again after twice the time, up to a minute.
func (r *run) readLogWhenQuiet(ctx context.Context, now time.Time) time.Time {
	r.track.mu.Lock()
	sign := r.track.lastSign
	r.track.mu.Unlock()
	if r.checking || !r.accepted {
		return now.Add(time.Minute)
	}
	at := sign.Add(r.host.options.QuietTime)
	if sign.After(r.checkedAt) {
		r.checkEvery = r.host.options.QuietTime // there was an event since the last reading
	} else {
		at = latest(at, r.checkAt)
	}
	if at.After(now) {
		return at
	}
	r.checking = true
	r.work.Go(func() {
		reason, cause, err := r.host.Sick(ctx)
		if err != nil || cause != failure.WorkerGone {
			reason = ""
		}
		r.logReads <- reason
	})
	return now.Add(time.Minute)
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func (r *run) onLogRead(reason string) *failure.Failure {
	r.checking, r.checkedAt = false, time.Now()
	r.checkEvery = min(2*r.checkEvery, time.Minute)
	r.checkAt = r.checkedAt.Add(r.checkEvery)
	if reason == "" {
		return nil
	}
	return &failure.Failure{Kind: failure.HostSick, Cause: failure.WorkerGone, Message: reason, Exception: failure.WorkerDied}
}
