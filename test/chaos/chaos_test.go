//go:build unix

package chaos_test

import (
	"container/heap"
	"context"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfysim"
)

// single is the fleet of the proof. Half of its clocks are wrong.
func single() shape {
	return shape{
		servers: 1, dispatchers: 2, agents: [][]string{{"h1", "h2"}, {"h3", "h4"}, {"h5"}, {"h6"}},
		clocks: map[string]string{"d2": "1h", "a2": "-1h", "a3": "0s,20s@5s"},
	}
}

// duration is how long the storm lasts: CHAOS_TIME, or what is given.
func duration(t *testing.T, usual, short time.Duration) time.Duration {
	t.Helper()
	if text := os.Getenv("CHAOS_TIME"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("CHAOS_TIME: %v", err)
		}
		return d
	}
	if testing.Short() {
		return short
	}
	return usual
}

// seed is CHAOS_SEED, or another one for each run.
func seed(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("CHAOS_SEED")
	if text == "" {
		return uint64(time.Now().UnixNano()) % 1_000_000
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("CHAOS_SEED: %v", err)
	}
	return n
}

func TestChaosLosesNothingAndEndsNothingTwice(t *testing.T) {
	t.Parallel()
	total, n := duration(t, 30*time.Second, 8*time.Second), seed(t)
	t.Logf("replay with CHAOS_SEED=%d CHAOS_TIME=%s", n, total)
	f := start(t, single())
	storm(f, n, makePlan(n, total, f.shape), total, 450*time.Millisecond)
}

// storm does what the plan says under load, checks after every step, heals everything and checks the rest.
func storm(f *fleet, seed uint64, plan []action, total, every time.Duration) {
	f.t.Helper()
	for _, host := range f.shape.hosts() {
		f.addFaults(host, deadlyFault())
	}
	s := &story{began: time.Now()}
	l := startLoad(f, seed, every)
	defer l.end()
	c := newChecker(f, l, s)
	d := &doing{f: f, story: s, check: func() { c.check(false) }}
	d.run(plan, total)
	d.finish(l, c)
}

// finish stops the load, heals everything, waits until all has ended and checks the rest.
func (d *doing) finish(l *load, c *checker) {
	f := d.f
	f.t.Helper()
	l.stop()
	d.heal()
	l.end()
	healed := time.Now()
	settled := f.within(testTimeout, func(context.Context) bool {
		f.supervise()
		return c.settled()
	})
	f.t.Logf("%s: %v after the healing everything had ended: %v; last were %.600q", d.story.now(), time.Since(healed).Round(time.Millisecond), settled, c.lacking)
	f.within(10*time.Second, func(context.Context) bool { return c.check(false) })
	c.innocents()
	f.within(testTimeout, func(context.Context) bool { return c.settled() })
	c.check(true)
	c.gone()
	c.summary()
}

func deadlyFault() comfysim.Fault {
	return comfysim.Fault{Kind: comfysim.FaultDie, Text: `/` + deadlyPrefix, Restart: 300 * time.Millisecond}
}

// doing carries out a plan.
type doing struct {
	f     *fleet
	story *story
	check func()
	todo  agenda
}

// step is something to do at a time since the beginning.
type step struct {
	at time.Duration
	do func()
}

type agenda []step

func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].at < a[j].at }
func (a agenda) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)        { *a = append(*a, x.(step)) }
func (a *agenda) Pop() any {
	last := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return last
}

// run does every action at its time and undoes it when it is over, and checks after each step.
func (d *doing) run(plan []action, total time.Duration) {
	for _, a := range plan {
		heap.Push(&d.todo, step{a.at, func() { d.begin(a) }})
	}
	ctx, cancel := context.WithDeadline(context.Background(), d.story.began.Add(total))
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for len(d.todo) > 0 {
		timer.Reset(time.Until(d.story.began.Add(d.todo[0].at)))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		heap.Pop(&d.todo).(step).do()
		d.f.supervise()
		d.check()
	}
}

func (d *doing) begin(a action) {
	d.f.t.Logf("%v, %v", d.story.now(), a)
	deed := d.story.begin(a)
	undo := d.f.do(a)
	heap.Push(&d.todo, step{a.at + a.lasts, func() {
		undo()
		d.story.undone(deed)
	}})
}

// do does an action and gives what undoes it.
func (f *fleet) do(a action) (undo func()) {
	p := f.by[a.whom]
	switch a.what {
	case kill:
		p.kill()
		return func() { f.start(p) }
	case restart:
		p.bounce()
	case revive:
		p.kill()
		f.start(p)
		return func() { f.addFaults(a.whom, deadlyFault()) }
	case freeze:
		p.freeze()
		return p.thaw
	case cut:
		f.proxys[a.whom].setCut(true)
		return func() { f.proxys[a.whom].setCut(false) }
	case stall:
		f.proxys[a.whom].setFrozen(true)
		return func() { f.proxys[a.whom].setFrozen(false) }
	case fault:
		f.addFaults(a.whom, a.fault)
	case skew:
		p.kill()
		p.setClock(a.clock)
		f.start(p)
	case fill:
		f.limitOutputs(fullOutputs)
		return func() { f.limitOutputs(roomyOutputs) }
	case drop:
		f.dropOutputs()
	}
	return func() {}
}

func (f *fleet) start(p *process) {
	if err := p.start(); err != nil {
		f.t.Error(err)
	}
}

// supervise starts what is to be up; whether it may have ended is judged by the invariants.
func (f *fleet) supervise() {
	for _, p := range f.all {
		if err := p.supervise(); err != nil {
			f.t.Error(err)
		}
	}
}

// heal undoes everything and gives every host a new process without faults.
func (d *doing) heal() {
	f := d.f
	f.t.Logf("%s: healing", d.story.now())
	for _, p := range f.proxys {
		p.setCut(false)
		p.setFrozen(false)
	}
	for _, p := range f.all {
		p.thaw()
		if p.name[0] == 'h' {
			p.kill()
		}
		f.start(p)
	}
	// NATS may have been frozen or dead until now.
	f.eventually("there is room for outputs", func(context.Context) bool { return f.limitOutputs(roomyOutputs) })
	for i := range d.story.deeds {
		if d.story.deeds[i].till.IsZero() {
			d.story.undone(i)
		}
	}
}
