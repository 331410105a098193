package bench

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// host stands for a ComfyUI: one prompt after the other, each as long as HostTime, no files.
type host struct {
	takes    time.Duration
	failing  float64
	changed  chan struct{}
	gaps     *samples
	capacity workflow.Capability

	mu   sync.Mutex // guards the two below; held while a prompt runs
	idle time.Time  // since when nothing runs; zero before the first prompt
	runs int
}

func newHost(cfg *Config, gaps *samples, capability workflow.Capability) *host {
	return &host{takes: cfg.HostTime, failing: cfg.FailureRate, changed: make(chan struct{}), gaps: gaps, capacity: capability}
}

// Run takes HostTime once the prompts before it have ended.
func (h *host) Run(ctx context.Context, _ comfy.Prompt, w comfy.Watch) (*comfy.Result, error) {
	posted := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	began := time.Now()
	if !h.idle.IsZero() {
		h.gaps.add(began.Sub(h.idle))
	}
	if w.Running != nil {
		w.Running()
	}
	defer func() { h.idle = time.Now() }()
	if h.takes > 0 {
		timer := time.NewTimer(h.takes)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	h.runs++
	if h.failing > 0 && rand.Float64() < h.failing {
		return nil, failure.New(failure.Lost, "lost by the bench")
	}
	return &comfy.Result{Queued: began.Sub(posted), Ran: time.Since(began)}, nil
}

// Cancel finds nothing: a prompt is gone when Run has returned.
func (h *host) Cancel(context.Context, string) error { return nil }

// Find finds no prompt: those that Run has are not asked for.
func (h *host) Find(context.Context, string) (comfy.PromptState, error) { return comfy.Unknown, nil }

// Free does nothing.
func (h *host) Free(context.Context) error { return nil }

// Listen waits for the end.
func (h *host) Listen(ctx context.Context) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// Changed never has a value: this host is always up.
func (h *host) Changed() <-chan struct{} { return h.changed }

// State is connected.
func (h *host) State() comfy.State { return comfy.State{Connected: true} }

// Probe finds the host healthy.
func (h *host) Probe(context.Context) (comfy.Probe, error) { return comfy.Probe{}, nil }

// Survey gives a version and a device that are none of ComfyUI's.
func (h *host) Survey(context.Context) (comfy.Probe, error) {
	return comfy.Probe{Version: "bench", Device: "none"}, nil
}

// Sick finds the host healthy.
func (h *host) Sick(context.Context) (string, failure.Cause, error) { return "", "", nil }

// Process is always the same.
func (h *host) Process(context.Context) (string, error) { return "bench", nil }

// ProbeSubmit finds the host healthy.
func (h *host) ProbeSubmit(context.Context) error { return nil }

// ProbeRoom finds the host healthy.
func (h *host) ProbeRoom(context.Context) error { return nil }

// Clear has no files to remove.
func (h *host) Clear(context.Context, string) error { return nil }

// Discard has no pictures to remove.
func (h *host) PutCached(context.Context, string, io.Reader) error { return nil }

func (h *host) Discard(string) {}

// SeedLimit gives none.
func (h *host) SeedLimit(string, string) (uint64, bool) { return 0, false }

// Capability is what the bench's workflows need.
func (h *host) Capability(context.Context, io.Writer) (workflow.Capability, error) {
	return h.capacity, nil
}

// Record has no history.
func (h *host) Record(context.Context, string) ([]byte, error) { return nil, nil }

// Page has no routes.
func (h *host) Page(context.Context, string, url.Values) (*comfy.Page, error) {
	return nil, errors.New("the bench's host has no routes")
}

// Spelling leaves model names as they are.
func (h *host) Spelling(_, _, _ string) string { return "" }

// Has finds no class.
func (h *host) Has(string) bool { return false }

// Open has no files.
func (h *host) Open(context.Context, comfy.Output) (io.ReadCloser, string, int64, error) {
	return io.NopCloser(strings.NewReader("")), "", 0, errors.New("the bench's host has no files")
}

// Upload takes no files.
func (h *host) Upload(context.Context, string, string, io.Reader) (string, error) {
	return "", errors.New("the bench's host takes no files")
}
