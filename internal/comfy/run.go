package comfy

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/comfyherd/comfyherd/internal/failure"
)

const (
	// statusTime is how soon a status comes over a working socket after a POST.
	statusTime = 1500 * time.Millisecond
	// answerGrace is how long a prompt that ended waits for the answer to its POST.
	answerGrace = 3 * time.Second
	// quickLooks bounds the quick looks after an event: the history may be updated a little later.
	quickLooks = 8
	// goneLooks is how often a prompt must be unknown before it counts as gone.
	goneLooks = 3
	// portRefusals is how often the port must refuse a connection before ComfyUI counts as dead.
	portRefusals = 2
)

// run is one call of Run. Only its goroutine uses it; what it starts answers through channels.
type run struct {
	host   *Host
	prompt Prompt
	watch  Watch
	track  *tracker
	album  *album // pictures that came over the websocket; set when loop has returned
	id     string // as ComfyUI calls it

	posts    chan submitted // one answer
	looks    chan looked
	logReads chan string // why the worker thread is dead; empty when the log does not show that
	work     sync.WaitGroup

	began          time.Time
	accepted       bool
	acceptedAt     time.Time
	dropsBefore    int       // of the host's sockets, before the POST
	othersFirst    bool      // another prompt was before it at the last look that found it
	headSince      time.Time // since when nothing is before it; zero: something is
	firstHead      time.Time // since when no prompt was before it, also while it runs; zero: one was at the last look
	foreignSince   time.Time // since when foreign prompts run before it; zero: none does
	runSince       time.Time // zero until it runs
	unheardSince   time.Time // since when no event of it can reach this process; zero: events can reach it
	submitNotified bool
	runNotified    bool

	looking, again bool // looking: a look is under way; again: another one must follow it
	lookAt         time.Time
	quick          int  // quick looks that are left
	unknown        int  // looks in a row that did not find it
	refused        int  // looks in a row that the port refused
	badAnswers     int  // looks in a row that another program answered, or ComfyUI with HTTP 500
	drops          int  // of the host's sockets, when the prompt was last seen
	broken         bool // the port refused since then

	ending  *ending // seen before the POST was answered
	endedAt time.Time

	session       *session // at the POST
	statuses      int64    // of session, before the POST
	socketCheckAt time.Time

	portChecks   chan bool // whether the port takes connections
	checkingPort bool
	portCheckAt  time.Time
	accepting    time.Time // when the port last took a connection; zero: it did not at the last check

	checking   bool
	checkAt    time.Time
	checkedAt  time.Time
	checkEvery time.Duration
}

type looked struct {
	state   PromptState
	ahead   int
	foreign bool // the prompt that runs before it is not one of this process
	ending  *ending
	err     error
}

// Run submits one prompt, follows it to its end and says how it ended. The error is a *failure.Failure, or
// context.Cause(ctx) as soon as ctx is done. Run cancels nothing on the host, which is what Cancel is for: after any
// failure but a refusal the prompt may still be on the host, or arrive there later. A prompt that ended with a file that
// may be another prompt's (prove.go) is run once more under its id, with nothing cached.
func (h *Host) Run(ctx context.Context, p Prompt, w Watch) (*Result, error) {
	if f := p.check(); f != nil {
		return nil, f
	}
	result, err := h.runOnce(ctx, p, w)
	var f *failure.Failure
	if !errors.As(err, &f) || f.Exception != unproven || p.Resume || h.dropCache(ctx, p.ID) != nil {
		return result, err
	}
	h.log.Info("a cached result may be another prompt's, running the prompt again with nothing cached", "prompt", p.ID, "node", f.Node)
	return h.runOnce(ctx, p, Watch{Progress: w.Progress, Preview: w.Preview, Frame: w.Frame})
}

func (h *Host) runOnce(ctx context.Context, p Prompt, w Watch) (*Result, error) {
	r := &run{
		host: h, prompt: p, watch: w, id: p.ID, track: newTracker(p.ID, p.shape()),
		posts: make(chan submitted, 1), looks: make(chan looked, 1), logReads: make(chan string, 1), portChecks: make(chan bool, 1),
		began: time.Now(), checkEvery: h.options.QuietTime,
	}
	r.track.album = h.newAlbum()
	if w.Frame != nil {
		r.track.relay = &relay{}
		h.relays.Add(1)
		defer h.relays.Add(-1)
	}
	if h.register(r.track) {
		return nil, failure.New(failure.Lost, "the prompt is being run already")
	}
	defer func() { h.unregister(p.ID, r.id) }()
	work, stop := context.WithCancel(ctx)
	defer r.work.Wait()
	defer stop()
	r.start(work)
	result, f := r.loop(work)
	r.album = r.track.seal()
	if result != nil {
		h.threads.afterPrompt(ctx, result.Ran)
	}
	if result != nil && f == nil && ctx.Err() == nil {
		f = r.finish(ctx, result)
	}
	if f == nil && ctx.Err() == nil {
		h.keep(p.ID, result.Outputs, r.album)
		return result, nil
	}
	r.album.drop()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if f.Kind == failure.HostLost || f.Kind == failure.HostSick {
		r.track.where(f, time.Now())
		f.Waited = f.Waited || r.waited()
	}
	return nil, f
}

// start posts the prompt; a resumed one is looked up at once instead. The
// tracker is registered by now: events may overtake the answer.
func (r *run) start(ctx context.Context) {
	r.headSince, r.firstHead, r.drops = r.began, r.began, r.host.drops()
	r.dropsBefore = r.drops
	r.checkAt = r.began.Add(r.checkEvery)
	if r.prompt.Resume {
		r.lookAt = r.began
		return
	}
	r.lookAt = r.began.Add(r.host.options.PollInterval)
	client := strings.ReplaceAll(uuid.NewString(), "-", "") // an id that no socket has, so that the events are sent to nobody
	if s := r.host.current(); s != nil {
		client, r.session, r.statuses = s.clientID, s, s.statuses.Load()
		r.track.attach(s)
	}
	body, err := submitBody(r.prompt, client)
	if err != nil {
		r.posts <- submitted{failure: failure.New(failure.InvalidWorkflow, err.Error())}
		return
	}
	r.work.Go(func() {
		r.host.threads.beforePrompt(ctx)
		r.posts <- r.host.submit(ctx, r.track, body)
	})
}

// loop reacts to one thing at a time until the prompt has ended.
func (r *run) loop(ctx context.Context) (*Result, *failure.Failure) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var result *Result
		var failed *failure.Failure
		select {
		case <-ctx.Done():
			return nil, nil
		case <-r.track.wake:
		case <-timer.C:
		case s := <-r.posts:
			result, failed = r.onPost(s)
		case l := <-r.looks:
			result, failed = r.onLook(l)
		case reason := <-r.logReads:
			failed = r.onLogRead(reason)
		case accepts := <-r.portChecks:
			r.onPortCheck(accepts, time.Now())
		}
		if result != nil || failed != nil {
			return result, failed
		}
		now := time.Now()
		r.notify(now)
		next, failed := r.limits(now)
		if failed != nil {
			return nil, failed
		}
		timer.Reset(time.Until(earliest(next, r.act(ctx, now))))
	}
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// notify passes on what came over the socket since the last time.
func (r *run) notify(now time.Time) {
	t := r.track
	t.mu.Lock()
	progress, preview, started, hint := t.progress, t.preview, t.started, t.hint
	frames := t.relay.take(now)
	t.progress, t.preview, t.hint = nil, nil, false
	t.mu.Unlock()
	if !started.IsZero() {
		r.noteRunning(started)
	}
	if progress != nil && r.watch.Progress != nil {
		r.watch.Progress(*progress)
	}
	if preview != nil && r.watch.Preview != nil {
		r.watch.Preview(preview.contentType, preview.image)
	}
	for _, f := range frames {
		r.watch.Frame(f)
	}
	if hint {
		r.quick, r.again, r.lookAt = quickLooks, r.looking, now
	}
}

// noteRunning records that the prompt is executed.
func (r *run) noteRunning(since time.Time) {
	if r.runSince.IsZero() {
		r.runSince, r.foreignSince = since, time.Time{}
	}
	if r.firstHead.IsZero() {
		r.firstHead = since
	}
	r.notifyRunning()
}

func (r *run) notifySubmitted() {
	if !r.submitNotified && r.watch.Submitted != nil {
		r.watch.Submitted()
	}
	r.submitNotified = true
}

func (r *run) notifyRunning() {
	r.notifySubmitted()
	if !r.runNotified && r.watch.Running != nil {
		r.watch.Running()
	}
	r.runNotified = true
}

// onPost takes in the outcome of the POST.
func (r *run) onPost(s submitted) (*Result, *failure.Failure) {
	if s.failure != nil {
		return nil, s.failure
	}
	if s.id != r.id {
		r.id = s.id
		r.host.alias(s.id, r.track)
	}
	now := time.Now()
	r.accept(now)
	r.socketCheckAt = now.Add(statusTime)
	if r.ending != nil {
		return r.end(r.ending)
	}
	return nil, nil
}

func (r *run) accept(now time.Time) {
	r.accepted, r.acceptedAt = true, now
	r.track.onHost.Store(true)
	r.notifySubmitted()
	if !r.track.receivesFrom(r.host.current()) {
		r.quick, r.lookAt = quickLooks, now
	}
	for _, limit := range [...]time.Duration{r.prompt.Start, r.prompt.Total} {
		if limit > 0 {
			r.lookAt = earliest(r.lookAt, now.Add(limit/4)) // the limit begins when no prompt is before this one, which a look finds out
		}
	}
}

// wantsPlace says that a limit depends on what is before the prompt.
func (r *run) wantsPlace() bool {
	return r.runSince.IsZero() && (r.prompt.Start > 0 || r.prompt.Total > 0)
}

// end makes the result or the failure of the host's record.
func (r *run) end(e *ending) (*Result, *failure.Failure) {
	now := time.Now()
	r.track.onHost.Store(false)
	if s := r.host.current(); r.track.receivesFrom(s) && !r.track.seen() && now.Sub(r.acceptedAt) > time.Second {
		r.host.reopen(s) // it ran, and none of its events came over the socket
	}
	r.notify(now)
	r.notifyRunning()
	if f := e.failure(); f != nil {
		return nil, f
	}
	return r.result(e), nil
}

func (r *run) result(e *ending) *Result {
	t := r.track
	t.mu.Lock()
	defer t.mu.Unlock()
	r.ending = e
	result := &Result{
		Outputs: e.files, Texts: e.texts, CachedNodes: e.cached, NodeTimes: maps.Clone(t.nodeTimes),
		Queued: e.queued, Ran: e.ran, OutputsReused: e.reused(), Blocked: t.blocked,
	}
	if r.runSince.IsZero() {
		return result
	}
	if result.Queued == 0 {
		result.Queued = max(0, r.runSince.Sub(r.began))
	}
	if result.Ran == 0 {
		result.Ran = time.Since(r.runSince)
	}
	return result
}
