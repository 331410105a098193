package comfy_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/failure"
)

func TestTimeoutsNameWhichAndHowLong(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		limit func(*comfy.Prompt)
		want  failure.Failure
	}{
		"Node": {func(p *comfy.Prompt) { p.Node = time.Second }, failure.Failure{
			Kind: failure.Timeout, Message: "node 2 (SimSleep) made no progress for 1s (node timeout)", Node: "2", Class: "SimSleep",
		}},
		"Total": {func(p *comfy.Prompt) { p.Total = 200 * time.Millisecond }, failure.Failure{
			Kind: failure.Timeout, Message: "the prompt did not end within 200ms (total timeout)",
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := simulate(t, comfysim.Config{})
			p := sleep(30, 0)
			c.limit(&p)
			_, err := r.run(p, comfy.Watch{})
			if diff := cmp.Diff(c.want, *failure.As(err)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestProgressRestartsTheNodeLimit(t *testing.T) {
	t.Parallel()
	r := simulate(t, comfysim.Config{})
	for range 5 {
		p := sleep(1.2, 12)
		p.Node = 600 * time.Millisecond
		last := time.Now()
		_, err := r.run(p, comfy.Watch{Progress: func(comfy.Progress) { last = time.Now() }})
		if err == nil {
			return
		}
		if silent := time.Since(last); silent < p.Node {
			t.Fatalf("%v after it was told %v ago", err, silent)
		}
		t.Log("the machine stood still for longer than the limit, which shows nothing")
	}
	t.Error("no run was told of in time")
}

func TestTheStartLimitRunsOnlyAtTheHeadOfTheBacklog(t *testing.T) {
	t.Parallel()
	r := simulate(t, comfysim.Config{})
	first, second := sleep(4, 40), picture(1)
	second.Start, second.Total = 3*time.Second, 3500*time.Millisecond
	a := r.begin(first)
	r.until(r.runs(first.ID))
	if _, err := r.run(second, comfy.Watch{}); err != nil {
		t.Error(err)
	}
	if o := <-a; o.err != nil {
		t.Error(o.err)
	}
}

func TestAPromptDoesNotStandBehindStrangersForEver(t *testing.T) {
	t.Parallel()
	r := simulate(t, comfysim.Config{})
	r.sim.AddFault(comfysim.Fault{Kind: comfysim.FaultBacklog, Count: 2, For: time.Minute})
	p := picture(1)
	p.Start = 300 * time.Millisecond
	if _, err := r.run(p, comfy.Watch{}); failure.KindOf(err) != failure.RejectedBusy {
		t.Errorf("ends as %v, want rejected_busy", err)
	}
	if err := r.host.Cancel(within(t), p.ID); err != nil {
		t.Error(err)
	}
}
