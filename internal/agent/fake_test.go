package agent_test

import (
	"context"
	"errors"
	"io"
	"net/url"
	"strings"
	"sync"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// fake is a ComfyUI whose prompts end when the test says so.
type fake struct {
	changed   chan struct{}
	posted    chan comfy.Prompt // every Run
	cancelled chan string       // every Cancel
	uploaded  chan string       // "folder/name: content"
	freed     chan struct{}
	cleared   chan string   // every Clear
	discarded chan string   // every Discard
	probed    chan struct{} // every look, as long as there is room

	spared bool // nothing is sent over the channels of calls, which no test reads

	mu          sync.Mutex // guards all below
	perform     func(ctx context.Context, p comfy.Prompt, w comfy.Watch) (*comfy.Result, error)
	promptState comfy.PromptState
	down        error
	slow        bool   // Find has no answer
	sick        string // of the log
	process     string
	unnamed     error // why the process cannot be told
	barred      error
	full        error
	seeds       uint64 // the largest, 0 when it is not known
	stuck       error  // of Cancel
	learn       func() // called by Capability
	open        func(o comfy.Output) (io.ReadCloser, string, int64, error)
	state       comfy.State
	record      []byte            // of the history
	pages       map[string]string // by route
}

func newFake() *fake {
	f := &fake{
		changed: make(chan struct{}, 1), posted: make(chan comfy.Prompt, 100), cancelled: make(chan string, 100),
		uploaded: make(chan string, 100), cleared: make(chan string, 100), discarded: make(chan string, 100), probed: make(chan struct{}, 100), process: "first", freed: make(chan struct{}, 100), promptState: comfy.Ended,
		state: comfy.State{Connected: true},
	}
	f.perform = f.waits
	return f
}

// waits is a prompt that runs until it is stopped.
func (f *fake) waits(ctx context.Context, _ comfy.Prompt, w comfy.Watch) (*comfy.Result, error) {
	w.Running()
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

// returns makes every prompt end so, as soon as release is closed.
func (f *fake) returns(release <-chan struct{}, result *comfy.Result, err error) {
	f.set(func() {
		f.perform = func(ctx context.Context, _ comfy.Prompt, w comfy.Watch) (*comfy.Result, error) {
			w.Running()
			select {
			case <-release:
				return result, err
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
	})
}

func (f *fake) set(edit func()) {
	f.mu.Lock()
	edit()
	f.mu.Unlock()
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

func now() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func (f *fake) Run(ctx context.Context, p comfy.Prompt, w comfy.Watch) (*comfy.Result, error) {
	f.mu.Lock()
	perform := f.perform
	f.mu.Unlock()
	if !f.spared {
		f.posted <- p
	}
	return perform(ctx, p, w)
}

func (f *fake) Cancel(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stuck == nil && !f.spared {
		f.cancelled <- id
	}
	return f.stuck
}

func (f *fake) Find(ctx context.Context, _ string) (comfy.PromptState, error) {
	f.mu.Lock()
	state, down, slow := f.promptState, f.down, f.slow
	f.mu.Unlock()
	if slow {
		<-ctx.Done()
		return comfy.Unknown, ctx.Err()
	}
	return state, down
}

var errRefused = errors.New("connection refused")

func (f *fake) Free(context.Context) error {
	if !f.spared {
		f.freed <- struct{}{}
	}
	return nil
}

func (f *fake) Listen(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

func (f *fake) Changed() <-chan struct{} { return f.changed }

func (f *fake) State() comfy.State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

func (f *fake) Probe(context.Context) (comfy.Probe, error) {
	select {
	case f.probed <- struct{}{}:
	default:
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return comfy.Probe{QueueRemaining: f.state.QueueRemaining, Foreign: f.state.QueueRemaining, VRAMTotal: 24 << 30, Version: "0.33.0", Device: "cuda:0 test"}, f.down
}

func (f *fake) Survey(ctx context.Context) (comfy.Probe, error) { return f.Probe(ctx) }

func (f *fake) Sick(context.Context) (string, failure.Cause, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sick == "" {
		return "", "", nil
	}
	return f.sick, failure.WorkerGone, nil
}

func (f *fake) Process(context.Context) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.process, f.unnamed
}

func (f *fake) ProbeSubmit(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.barred
}

func (f *fake) ProbeRoom(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.full
}

func (f *fake) Clear(_ context.Context, id string) error {
	if !f.spared {
		f.cleared <- id
	}
	return nil
}

func (f *fake) Discard(id string) {
	if !f.spared {
		f.discarded <- id
	}
}

func (f *fake) SeedLimit(string, string) (uint64, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seeds, f.seeds > 0
}

func (f *fake) Record(context.Context, string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.record, nil
}

func (f *fake) Page(_ context.Context, route string, _ url.Values) (*comfy.Page, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	body, there := f.pages[route]
	if !there {
		return &comfy.Page{Status: 404, Body: io.NopCloser(strings.NewReader(""))}, nil
	}
	return &comfy.Page{Status: 200, ContentType: "application/json", Size: int64(len(body)), Body: io.NopCloser(strings.NewReader(body))}, nil
}

func (f *fake) Capability(_ context.Context, raw io.Writer) (workflow.Capability, error) {
	f.mu.Lock()
	learn := f.learn
	f.mu.Unlock()
	if learn != nil {
		learn()
	}
	f.mu.Lock()
	_, _ = io.WriteString(raw, f.pages["object_info"]) // into memory
	f.mu.Unlock()
	var b workflow.CapabilityBuilder
	b.AddClass("SaveImage")
	return workflow.NewCapability(&b), nil
}

func (f *fake) Spelling(_, _, file string) string { return file }

func (f *fake) Open(_ context.Context, o comfy.Output) (io.ReadCloser, string, int64, error) {
	f.mu.Lock()
	open := f.open
	f.mu.Unlock()
	if open != nil {
		return open(o)
	}
	content := "picture " + o.Filename
	return io.NopCloser(strings.NewReader(content)), "image/png", int64(len(content)), nil
}

func (f *fake) Upload(_ context.Context, name, subfolder string, r io.Reader) (string, error) {
	content, err := io.ReadAll(r)
	if err != nil {
		return "", err
	}
	if !f.spared {
		f.uploaded <- subfolder + "/" + name + ": " + string(content)
	}
	return subfolder + "/" + name, nil
}

func (f *fake) PutCached(_ context.Context, id string, r io.Reader) error {
	content, err := io.ReadAll(r)
	if err == nil {
		f.uploaded <- id + ": " + string(content)
	}
	return err
}

func (f *fake) Has(class string) bool { return class == "StringConcatenate" }
