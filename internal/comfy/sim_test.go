package comfy_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/comfysim"
)

// rig is one simulated ComfyUI and a Host that listens to it.
type rig struct {
	t    *testing.T
	sim  *comfysim.Server
	host *comfy.Host
}

// simulate starts a rig and returns when its websocket is open.
func simulate(t *testing.T, c comfysim.Config) rig {
	t.Helper()
	return simulateWith(t, c, quick())
}

func simulateWith(t *testing.T, c comfysim.Config, o comfy.Options) rig {
	t.Helper()
	r := simulateDeaf(t, c, o)
	return rig{t: t, sim: r.sim, host: listen(t, r.host).host}
}

// listen opens the host's websocket and keeps it until the test ends.
func listen(t *testing.T, host *comfy.Host) rig {
	t.Helper()
	r := rig{t: t, host: host}
	ctx, stop := context.WithCancel(context.Background())
	var listening sync.WaitGroup
	listening.Go(func() {
		if err := r.host.Listen(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Listen ends with %v", err)
		}
	})
	t.Cleanup(func() { stop(); listening.Wait(); r.host.Close() })
	r.await(func(s comfy.State) bool { return s.Connected })
	return r
}

// simulateDeaf starts a rig whose host does not listen: it only polls.
func simulateDeaf(t *testing.T, c comfysim.Config, o comfy.Options) rig {
	t.Helper()
	sim, err := comfysim.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	host, err := comfy.New(sim.URL(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(host.Close)
	return rig{t: t, sim: sim, host: host}
}

// await waits until the host's state satisfies done.
func (r rig) await(done func(comfy.State) bool) {
	r.t.Helper()
	ctx := within(r.t)
	for !done(r.host.State()) {
		select {
		case <-r.host.Changed():
		case <-ctx.Done():
			r.t.Fatalf("the host stays %+v", r.host.State())
		}
	}
}

// until waits until the simulation satisfies done.
func (r rig) until(done func() bool) {
	r.t.Helper()
	if err := r.sim.Wait(within(r.t), done); err != nil {
		r.t.Fatal(err)
	}
}

func (r rig) runs(id string) func() bool {
	return func() bool { running, _ := r.sim.Pending(); return running == id }
}

// runsNode is whether a prompt has come to one of its nodes.
func (r rig) runsNode(id, node string) func() bool {
	return func() bool {
		return slices.ContainsFunc(r.sim.Runs(), func(run comfysim.Run) bool {
			return run.PromptID == id && slices.Contains(run.Nodes, node)
		})
	}
}

type outcome struct {
	result *comfy.Result
	err    error
}

// begin runs a prompt in the background and returns when it was submitted.
func (r rig) begin(p comfy.Prompt) <-chan outcome {
	r.t.Helper()
	ended := make(chan outcome, 1)
	on := make(chan struct{})
	ctx := within(r.t)
	go func() {
		result, err := r.host.Run(ctx, p, comfy.Watch{Submitted: func() { close(on) }})
		ended <- outcome{result, err}
	}()
	select {
	case <-on:
	case o := <-ended:
		r.t.Fatalf("ended before it was submitted: %v", o.err)
	}
	return ended
}

func (r rig) run(p comfy.Prompt, w comfy.Watch) (*comfy.Result, error) {
	r.t.Helper()
	return r.host.Run(within(r.t), p, w)
}

// picture is a prompt that saves one picture at once; seed makes it unlike others.
func picture(seed int) comfy.Prompt {
	return comfy.Prompt{ID: uuid.NewString(), Workflow: fmt.Appendf(nil,
		`{"1":{"class_type":"EmptyImage","inputs":{"width":64,"height":64,"batch_size":1,"color":%d}},`+
			`"2":{"class_type":"SaveImage","inputs":{"images":["1",0],"filename_prefix":"p%d"}}}`, seed, seed)}
}

// sleep is a prompt that takes a time in so many progress ticks and saves a picture.
func sleep(seconds float64, steps int) comfy.Prompt {
	return comfy.Prompt{ID: uuid.NewString(), Workflow: fmt.Appendf(nil,
		`{"1":{"class_type":"EmptyImage","inputs":{"width":64,"height":64,"batch_size":1,"color":7}},`+
			`"2":{"class_type":"SimSleep","inputs":{"image":["1",0],"seconds":%g,"steps":%d,"preview":"PNG","seed":%d}},`+
			`"3":{"class_type":"SaveImage","inputs":{"images":["2",0],"filename_prefix":"s"}}}`, seconds, steps, steps)}
}
