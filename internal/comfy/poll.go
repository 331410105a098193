package comfy

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
)

// act starts what is due and gives the time at which the next thing is.
func (r *run) act(ctx context.Context, now time.Time) time.Time {
	if !r.looking && !now.Before(r.lookAt) {
		r.look(ctx)
	}
	next := r.track.due(now.Add(r.host.options.PollInterval))
	if !r.looking {
		next = earliest(next, r.lookAt)
	}
	if !r.socketCheckAt.IsZero() {
		if now.Before(r.socketCheckAt) {
			next = earliest(next, r.socketCheckAt)
		} else {
			r.checkSocket()
		}
	}
	return earliest(earliest(next, r.checkPort(ctx, now)), r.readLogWhenQuiet(ctx, now))
}

// checkSocket reopens a socket over which no status came after the POST.
func (r *run) checkSocket() {
	r.socketCheckAt = time.Time{}
	if r.session != nil && r.session == r.host.current() && r.session.statuses.Load() == r.statuses {
		r.host.reopen(r.session)
	}
}

func (r *run) look(ctx context.Context) {
	r.looking, r.again = true, false
	id, place, last := r.id, r.wantsPlace(), r.accepted && r.unknown == goneLooks-1
	r.work.Go(func() {
		var l looked
		l.state, l.ending, l.err = r.host.lookup(ctx, id)
		if session := r.host.current(); l.err == nil && l.state == Unknown && last && session != nil {
			session.answers(ctx) // when it returns, the end of a dead socket is counted, by which disappeared knows a restart
		}
		if l.err == nil && l.state == Pending && place {
			l = r.host.place(ctx, id)
		}
		r.looks <- l
	})
}

// place says how many prompts are before a pending one. The whole backlog is
// read for that only when more than one prompt is in it.
func (h *Host) place(ctx context.Context, id string) looked {
	if probe, err := h.Probe(ctx); err == nil && probe.QueueRemaining <= 1 {
		return looked{state: Pending}
	}
	line, err := h.backlog(ctx)
	if err != nil {
		return looked{err: err}
	}
	state, ahead := line.find(id)
	if state == Unknown {
		return looked{state: Pending} // it has just begun or ended
	}
	return looked{state: state, ahead: ahead, foreign: h.runsForeign(line.running)}
}

// runsForeign reports whether a prompt runs that this process has not submitted.
func (h *Host) runsForeign(running []place) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.ContainsFunc(running, func(p place) bool { return h.tracks[p.id] == nil })
}

// onLook takes in the answer to a look.
func (r *run) onLook(l looked) (*Result, *failure.Failure) {
	now := time.Now()
	r.looking = false
	r.lookAt = now.Add(r.interval())
	if r.again {
		r.lookAt = now
	}
	if l.err != nil {
		return nil, r.failedLook(l.err, now)
	}
	r.refused, r.badAnswers = 0, 0
	if l.state == Unknown {
		return r.notFound(now)
	}
	if r.prompt.Resume && !r.accepted {
		r.accept(now)
	}
	r.unknown, r.drops, r.broken = 0, r.host.drops(), false
	switch l.state {
	case Ended:
		return r.ended(l.ending, now)
	case Running:
		r.noteRunning(now)
	case Pending:
		r.notePending(l.ahead, now)
		r.noteForeign(l.foreign, now)
	case Unknown:
	}
	return nil, nil
}

// interval is the time to the next look: short and doubling after a hint.
func (r *run) interval() time.Duration {
	if r.quick == 0 {
		return r.host.options.PollInterval
	}
	r.quick--
	return min(r.host.options.PollInterval, 10*time.Millisecond<<(quickLooks-r.quick))
}

func (r *run) notePending(ahead int, now time.Time) {
	r.othersFirst = ahead > 0
	switch {
	case ahead > 0:
		r.headSince = time.Time{}
		if r.runSince.IsZero() {
			r.firstHead = time.Time{}
		}
	case r.headSince.IsZero():
		r.headSince, r.firstHead = now, now
	}
}

// noteForeign records since when foreign prompts have been running before it.
func (r *run) noteForeign(foreign bool, now time.Time) {
	switch {
	case !foreign:
		r.foreignSince = time.Time{}
	case r.foreignSince.IsZero():
		r.foreignSince = now
	}
}

// ended delays an ending for a moment when the POST has no answer yet: that answer may say that ComfyUI left out a part of
// the workflow.
func (r *run) ended(e *ending, now time.Time) (*Result, *failure.Failure) {
	if r.accepted && !r.awaitsSocket(e, now) {
		return r.end(e)
	}
	if r.ending == nil {
		r.ending, r.endedAt = e, now
	}
	if !r.accepted && now.Sub(r.endedAt) > answerGrace {
		return r.end(e)
	}
	return nil, nil
}

// socketGrace is how long an ending waits for more events of the websocket, from the newest one on.
const socketGrace = 3 * time.Second

// awaitsSocket reports whether more may come over the websocket: the event of its end has not come, and the prompt ended well and
// left no file, or it sends pictures, or the caller wants all messages.
func (r *run) awaitsSocket(e *ending, now time.Time) bool {
	t := r.track
	receives := t.receivesFrom(r.host.current())
	t.mu.Lock()
	defer t.mu.Unlock()
	ended := t.succeeded || t.relay != nil && (t.stopped || t.raised != nil)
	pictures := e.failure() == nil && (len(e.files)+len(e.texts) == 0 || t.album.expected(t.classes))
	if !receives || ended || !pictures && t.relay == nil {
		return false
	}
	since := r.endedAt
	if since.IsZero() {
		since = now
	}
	return now.Sub(latest(since, t.lastSign)) < socketGrace
}

// failedLook counts failed looks by their reason. A host that gives no answer is left to the silence limit.
func (r *run) failedLook(err error, now time.Time) *failure.Failure {
	var status *statusError
	switch {
	case refused(err):
		r.refused, r.broken = r.refused+1, true
		r.lookAt = now.Add(100 * time.Millisecond)
		if r.refused >= portRefusals && (r.accepted || r.prompt.Resume) {
			return failure.New(failure.HostLost, "ComfyUI is gone, its port refuses connections: "+why(err))
		}
	case errors.Is(err, errTooLarge):
		return failure.New(failure.ExecutionError, "ComfyUI cannot report the result: "+why(err)+"; a node leaves too much in the record of the prompt")
	case foreignAnswer(err):
		if r.badAnswers++; r.badAnswers > mostForeignAnswers {
			return notComfyUI(err)
		}
		r.quick, r.lookAt = 0, now.Add(r.host.options.PollInterval) // a proxy may bound how often it is asked
	case errors.As(err, &status) && status.status == http.StatusInternalServerError:
		r.badAnswers++
		if r.badAnswers > goneLooks && r.accepted {
			return failure.New(failure.ExecutionError, "ComfyUI cannot report the result (HTTP 500): a node left something that is no JSON")
		}
	default:
		r.lookAt = now.Add(min(250*time.Millisecond, r.host.options.PollInterval))
	}
	return nil
}

// mostForeignAnswers bounds the looks in a row that another program answers.
const mostForeignAnswers = 3

// foreignAnswer reports whether another program answered a look, such as a proxy.
func foreignAnswer(err error) bool {
	var status *statusError
	return errors.As(err, &status) && status.status < 500 || errors.Is(err, errForeignAnswer)
}

// notComfyUI is the failure of a prompt whose looks another program answers. The workflow may be the reason: a firewall inspects
// answers too, and ComfyUI's answer contains the workflow.
func notComfyUI(err error) *failure.Failure {
	return &failure.Failure{Kind: failure.Lost, Exception: Foreign,
		Message: "ComfyUI cannot be asked how far the prompt is: " + why(err) + "; check the proxy or firewall before ComfyUI"}
}

// notFound takes in a look in which the host has no such prompt.
func (r *run) notFound(now time.Time) (*Result, *failure.Failure) {
	if !r.accepted {
		if r.prompt.Resume {
			return nil, failure.New(failure.Lost, "ComfyUI does not have the prompt any more: it was restarted, or its history was cleared")
		}
		return nil, nil // the POST is under way
	}
	r.unknown++
	if r.unknown < goneLooks {
		r.lookAt = now.Add(50 * time.Millisecond)
		return nil, nil
	}
	return r.disappeared()
}

// disappeared decides about a prompt that was on the host and is neither in the backlog nor in the history: it was deleted
// while pending, the history was wiped, or ComfyUI was restarted.
func (r *run) disappeared() (*Result, *failure.Failure) {
	t := r.track
	t.mu.Lock()
	e := &ending{produced: readOutputs(t.outputs), cached: t.cached, raised: t.raised, interrupted: t.stopped}
	known := t.succeeded || t.raised != nil || t.stopped
	t.mu.Unlock()
	switch {
	case known:
		return r.end(e)
	case r.host.drops() != r.drops || r.broken:
		return nil, failure.New(failure.HostLost, "ComfyUI was restarted while it had the prompt")
	case r.runSince.IsZero():
		return nil, failure.New(failure.Interrupted, "the prompt was deleted from ComfyUI's backlog by somebody else")
	}
	return nil, failure.New(failure.Interrupted, "the prompt ran, and ComfyUI's history was cleared before its result could be read")
}
