package demo

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"image/color"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

const (
	hostTime  = 8 * time.Second // what hosts may take to appear
	sceneTime = 3 * time.Second // what a scene may need of a block's time
)

// plannedJob is one of the jobs of the story.
type plannedJob struct {
	number   int
	tenant   job.Tenant
	workflow string
	prefer   string // host that the job prefers
	only     string // host, or label of hosts, that the job needs
	damaged  bool   // it fails where the stage is damaged
	requeued bool   // the job before it, run again from its dead letter
	dies     bool   // it ends dead, and so makes no picture
}

func (p *plannedJob) id() job.ID {
	if p.requeued {
		return job.ID(fmt.Sprintf("job-%02d-r1", p.number-1))
	}
	return job.ID(fmt.Sprintf("job-%02d", p.number))
}

// The numbers of the job that fails on the failing host, of the one that is itself at fault, and of the latter run again.
const (
	firstToFail = 7
	faulty      = 13
	mended      = 14
)

// demo is one run of the demo. One goroutine owns it.
type demo struct {
	o          Options
	stage      stage
	fleet      *fleet
	notes      <-chan jetstream.Note
	record     record
	out        printer
	jobs       []plannedJob
	hashes     map[string]workflow.Hash // by workflow
	colour     map[job.ID]color.RGBA    // of the picture that a job must make
	unobserved []string                 // what was claimed and not seen
	late       bool                     // the time was over before the end
	address    string                   // of the page; empty: there is none
	enter      <-chan time.Time         // has a value for each line that the reader has typed; nil: no scene waits
	renewals   int                      // how often a block had to be made again
}

// scene is one of the five scenarios.
type scene struct {
	title  string
	ready  func(context.Context) error // brings about what the scene begins with; nil: nothing
	look   func() string               // what to look for; called when the scene begins
	act    func(context.Context) error
	claims func() []claim
}

// run plays all scenes and prints them. Its error says what was not observed.
func (d *demo) run(ctx context.Context) error {
	if err := d.plan(); err != nil {
		return err
	}
	d.printHead()
	if err := d.begin(ctx); err != nil {
		return err
	}
	for i, s := range d.scenes() {
		if err := d.playScene(ctx, i+1, s); err != nil {
			return err
		}
		d.printClaims(s.claims())
	}
	if err := d.finish(ctx); err != nil {
		return err
	}
	return d.result()
}

// playScene plays a scene, as far as the time allows.
func (d *demo) playScene(ctx context.Context, number int, s scene) error {
	if d.late {
		return nil
	}
	err := d.pause(ctx)
	if d.enter != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, d.o.timeout, errTimeout)
		defer cancel()
	}
	if err == nil && s.ready != nil {
		err = s.ready(ctx)
	}
	if err == nil {
		err = d.idle(ctx)
	}
	if err == nil {
		d.out.headline(fmt.Sprint(number), s.title, s.look())
		err = s.act(ctx)
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if errors.Is(err, errTimeout) {
		if !d.late {
			d.out.say("")
			d.out.say("The time is over.")
		}
		d.late = true
		return nil
	}
	return err
}

// pause prints events until the time for the next scene has come, or the reader has pressed Enter.
func (d *demo) pause(ctx context.Context) error {
	if d.enter == nil {
		return d.rest(ctx, d.pace())
	}
	d.out.say("")
	d.out.say("   Press Enter for the next scene.")
	return d.restUntil(ctx, d.enter)
}

// lines has a value for each line of Step, and for ever when no more come; nil without Step.
func (o *Options) lines(ctx context.Context) <-chan time.Time {
	if o.Step == nil {
		return nil
	}
	lines := make(chan time.Time)
	go func() { // a terminal cannot be taken from its reader: this ends with the process when nothing more is typed
		defer close(lines)
		for in := bufio.NewScanner(o.Step); in.Scan(); {
			select {
			case lines <- time.Now():
			case <-ctx.Done():
				return
			}
		}
	}()
	return lines
}

// pace is how long to wait before a headline: while a block is in force, no longer than leaves sceneTime of it for the scene.
func (d *demo) pace() time.Duration {
	if blocked, unblocked := d.blocked(); blocked != nil && unblocked == nil {
		return max(0, min(d.o.Pace, time.Until(blocked.block.Until)-sceneTime))
	}
	return d.o.Pace
}

// idle waits until both dispatchers know that nothing runs, since a preferred host is chosen only when it is free. A call is
// answered by either of them, so several in a row must say so.
func (d *demo) idle(ctx context.Context) error {
	const inARow = 20 // of two that answer by chance, one is left out once in 500 000 times
	for idle := 0; idle < inARow; {
		hosts, err := d.fleet.q.AllHosts(ctx)
		busy := slices.ContainsFunc(hosts, func(h queue.HostInfo) bool { return len(h.Running) > 0 })
		if idle++; err == nil && !busy && len(hosts) == len(d.stage.hosts()) {
			continue
		}
		idle = 0
		if err := d.rest(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// plan sets up the jobs: six of three tenants, then those that prefer the failing host.
func (d *demo) plan() error {
	for i, tenant := range []job.Tenant{"acme", "bolt", "coral", "acme", "bolt", "coral"} {
		p := plannedJob{number: i + 1, tenant: tenant, workflow: []string{portrait, poster}[i%2]}
		if hosts := d.stage.hosts(); len(d.o.Hosts) > 0 {
			p.prefer = hosts[i%len(hosts)].Name // jobs that take no time would all find the first host idle
		}
		d.jobs = append(d.jobs, p)
	}
	failing := d.stage.failingHost()
	d.jobs = append(d.jobs,
		plannedJob{number: firstToFail, tenant: "acme", workflow: portrait, prefer: failing, damaged: true, dies: d.alone()},
		plannedJob{number: 8, tenant: "acme", workflow: portrait, prefer: failing},
		plannedJob{number: 9, tenant: "bolt", workflow: poster, prefer: failing},
		plannedJob{number: 10, tenant: "acme", workflow: portrait, prefer: failing},
		plannedJob{number: 11, tenant: "acme", workflow: portrait, only: failing},
		plannedJob{number: 12, tenant: "acme", workflow: portrait, prefer: failing},
	)
	if !d.alone() { // a second opinion needs a second host
		d.jobs = append(d.jobs,
			plannedJob{number: faulty, tenant: "coral", workflow: retouch, dies: true},
			plannedJob{number: mended, tenant: "coral", workflow: retouch, requeued: true},
		)
	}
	d.hashes, d.colour = map[string]workflow.Hash{}, map[job.ID]color.RGBA{}
	for i := range d.jobs {
		if err := d.expect(&d.jobs[i]); err != nil {
			return err
		}
	}
	return nil
}

// expect notes the hash of a job's workflow, and what picture the job must make.
func (d *demo) expect(p *plannedJob) error {
	spec, colour := d.spec(p)
	hash, err := workflow.HashOf(spec.Workflow)
	if err != nil {
		return fmt.Errorf("the demo's %s: %w", p.workflow, err)
	}
	d.hashes[p.workflow], d.colour[p.id()] = hash, colour
	return nil
}

// spec is a job as it is submitted, and the colour of its picture.
func (d *demo) spec(p *plannedJob) (job.Spec, color.RGBA) {
	spec := job.Spec{ID: p.id()}
	if p.workflow == retouch {
		spec.Inputs = []job.Input{{Node: "1", Input: "image", Object: photo}}
		spec.Workflow = retouching()
		return spec, color.RGBA{R: 255 - paper.R, G: 255 - paper.G, B: 255 - paper.B, A: 0xff}
	}
	var colour color.RGBA
	spec.Workflow, colour = d.stage.workflow(p.workflow, p.number, p.damaged)
	if p.prefer != "" {
		spec.PreferHosts = []string{p.prefer}
	}
	if p.only != "" {
		spec.OnlyHosts = []string{p.only}
	}
	if p.damaged && d.alone() {
		spec.MaxAttempts = 1 // it would only fail again
	}
	return spec, colour
}

// begin brings the hosts up, then the dispatchers, so that these know all hosts before they take the first job.
func (d *demo) begin(ctx context.Context) error {
	d.notes = d.fleet.notes(ctx)
	for _, host := range d.stage.hosts() {
		if err := d.fleet.agent(ctx, host); err != nil {
			return err
		}
	}
	waiting, cancel := context.WithTimeoutCause(ctx, hostTime, errHostTime)
	defer cancel()
	if err := d.until(waiting, func() bool { return len(d.absent()) == 0 }); err != nil {
		if errors.Is(err, errHostTime) || errors.Is(err, errTimeout) {
			err = d.unreachable()
		}
		return err
	}
	if err := d.stage.prepare(ctx); err != nil {
		return err
	}
	return errors.Join(d.fleet.dispatcher(ctx, "dispatcher-1"), d.fleet.dispatcher(ctx, "dispatcher-2"))
}

var errHostTime = errors.New("not every host came online")

// absent are the hosts that are not online, and why.
func (d *demo) absent() map[string]string {
	absent := map[string]string{}
	for _, h := range d.stage.hosts() {
		absent[h.Name] = "it has not reported"
	}
	for _, s := range d.record.seen {
		if s.host == nil {
			continue
		}
		if absent[s.host.Host] = s.host.Reason; s.what == string(queue.HostOnline) || s.what == string(queue.HostRecovered) {
			delete(absent, s.host.Host)
		}
	}
	return absent
}

func (d *demo) unreachable() error {
	absent := d.absent()
	for _, h := range d.stage.hosts() {
		if why, is := absent[h.Name]; is {
			return fmt.Errorf("host %s (%s) is not online: %s; start its ComfyUI, or leave it out of COMFY_HOSTS", h.Name, h.URL, why)
		}
	}
	return errHostTime
}

// submit publishes the jobs of the given numbers.
func (d *demo) submit(ctx context.Context, numbers ...int) error {
	for _, n := range numbers {
		if err := d.publish(ctx, &d.jobs[n-1]); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) publish(ctx context.Context, p *plannedJob) error {
	spec, _ := d.spec(p)
	if _, err := d.fleet.q.Submit(ctx, job.Lane{Tenant: p.tenant, Priority: job.Usual}, spec); err != nil {
		return fmt.Errorf("submit %s: %w", p.id(), err)
	}
	return nil
}

// alone says whether there is only one host, and so none to fail over to.
func (d *demo) alone() bool { return len(d.stage.hosts()) == 1 }

// until prints events until done.
func (d *demo) until(ctx context.Context, done func() bool) error {
	for !done() {
		if _, err := d.next(ctx, nil); err != nil {
			return err
		}
	}
	return nil
}

// rest prints events for a while.
func (d *demo) rest(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	return d.restUntil(ctx, timer.C)
}

func (d *demo) restUntil(ctx context.Context, over <-chan time.Time) error {
	for {
		if rang, err := d.next(ctx, over); rang || err != nil {
			return err
		}
	}
}

// next prints the next event, or says that the timer rang before it.
func (d *demo) next(ctx context.Context, timer <-chan time.Time) (rang bool, err error) {
	select {
	case note, open := <-d.notes:
		if !open {
			settle, cancel := context.WithTimeout(ctx, 200*time.Millisecond) // the stream may see the same deadline first
			<-settle.Done()
			cancel()
			return false, cmp.Or(context.Cause(ctx), errors.New("the event stream ended"))
		}
		if s, ours := observe(&note); ours {
			d.record.seen = append(d.record.seen, s)
			d.out.event(d, s)
		}
		return false, nil
	case err := <-d.fleet.broken:
		return false, err
	case <-timer:
		return true, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// ended says whether the jobs of these numbers have ended.
func (d *demo) ended(numbers ...int) bool {
	return !slices.ContainsFunc(numbers, func(n int) bool { return d.record.end(d.jobs[n-1].id()) == nil })
}
