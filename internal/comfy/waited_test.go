package comfy_test

import (
	"testing"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/failure"
)

func TestAPromptThatWaitedWhileAnotherRanIsReportedSoWhenTheHostIsLost(t *testing.T) {
	t.Parallel()
	r := simulate(t, comfysim.Config{})
	ctx := within(t)
	run := func(p comfy.Prompt, w comfy.Watch) chan error {
		ended := make(chan error, 1)
		go func() { _, err := r.host.Run(ctx, p, w); ended <- err }()
		return ended
	}
	ran, posted := make(chan struct{}), make(chan struct{})
	running := run(sleep(60, 0), comfy.Watch{Progress: func(p comfy.Progress) {
		if p.Node == "2" { // it is told once: this node has no steps
			close(ran)
		}
	}})
	<-ran
	waiting := run(sleep(60, 1), comfy.Watch{Submitted: func() { close(posted) }})
	<-posted
	r.sim.Kill()
	for ended, waited := range map[chan error]bool{running: false, waiting: true} {
		if f := failure.As(<-ended); f == nil || f.Kind != failure.HostLost || f.Waited != waited || f.NodeRan == 0 != waited {
			t.Errorf("want waited %t, got %+v", waited, f)
		}
	}
}

func TestAPromptThatFollowedAnotherDidNotWaitWhenTheHostIsLost(t *testing.T) {
	t.Parallel()
	r := simulate(t, comfysim.Config{})
	ctx := within(t)
	if _, err := r.host.Run(ctx, sleep(0, 0), comfy.Watch{}); err != nil {
		t.Fatal(err)
	}
	posted, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := r.host.Run(ctx, sleep(60, 0), comfy.Watch{Submitted: func() { close(posted) }})
		ended <- err
	}()
	<-posted
	r.sim.Kill()
	if f := failure.As(<-ended); f == nil || f.Kind != failure.HostLost || f.Waited {
		t.Errorf("got %+v", f)
	}
}

func TestTheWorkerRunsAPromptFromItsFirstEventToItsLast(t *testing.T) {
	t.Parallel()
	begin := []string{`{"type":"execution_start","data":{"prompt_id":"a"}}`, `{"type":"executing","data":{"prompt_id":"a","node":"1"}}`}
	for name, c := range map[string]struct {
		then string
		want string
	}{
		"NothingMore":       {"", "a"},
		"Progress":          {`{"type":"progress","data":{"prompt_id":"a","node":"1","value":1,"max":2}}`, "a"},
		"NoNode":            {`{"type":"executing","data":{"prompt_id":"a","node":null}}`, ""},
		"Success":           {`{"type":"execution_success","data":{"prompt_id":"a"}}`, ""},
		"Interrupted":       {`{"type":"execution_interrupted","data":{"prompt_id":"a"}}`, ""},
		"Error":             {`{"type":"execution_error","data":{"prompt_id":"a","node_id":"1","exception_type":"ValueError"}}`, ""},
		"ABranchIsBlocked":  {`{"type":"execution_error","data":{"prompt_id":"a","node_id":"1","exception_type":"ExecutionBlocked"}}`, "a"},
		"TheEndOfAnother":   {`{"type":"execution_success","data":{"prompt_id":"b"}}`, "a"},
		"TheStartOfAnother": {`{"type":"execution_start","data":{"prompt_id":"b"}}`, "b"},
		"AnEventOfNone":     {`{"type":"execution_success","data":{}}`, "a"},
	} {
		if got := comfy.WorkerAfter(append(begin, c.then)...); got != c.want {
			t.Errorf("%s: it runs %q, want %q", name, got, c.want)
		}
	}
}
