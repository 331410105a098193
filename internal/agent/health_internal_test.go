package agent

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// looked is a ComfyUI that counts the questions of the health loop.
type looked struct {
	ComfyUI
	surveys, probes int
	broken          error // of surveys
	down            error // of probes
	changed         chan struct{}
	state           comfy.State
}

func (l *looked) Survey(context.Context) (comfy.Probe, error) {
	l.surveys++
	return comfy.Probe{QueueRemaining: l.surveys, VRAMTotal: 100, VRAMFree: 40, Device: "cuda", Version: "v1"}, l.broken
}

func (l *looked) Probe(context.Context) (comfy.Probe, error) {
	l.probes++
	return comfy.Probe{QueueRemaining: 100 * l.probes}, l.down
}

func (l *looked) Changed() <-chan struct{} { return l.changed }
func (l *looked) State() comfy.State       { return l.state }

// The backlog decides whether a host takes jobs; its memory is for people, and takes ComfyUI longer to tell.
func TestMemoryIsAskedForEveryThirtySecondsAndMayBeMissing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := &looked{broken: errors.New("no such card")}
		h := &host{comfy: asked, admission: newAdmission(queue.HostState{}, nil)}
		c := &probeState{}
		for _, step := range []struct {
			name            string
			after           time.Duration
			seen            bool
			broken, down    bool
			surveys, probes int // all until now
			backlog         int
			fails           bool
		}{
			{"AtFirstBroken", 0, false, true, false, 1, 0, 1, true},
			{"AtFirst", time.Second, false, false, false, 2, 0, 2, false},
			{"Soon", surveyPause - 1, true, false, false, 2, 1, 100, false},
			{"Due", 1, true, false, false, 3, 1, 3, false},
			{"AfterAnOutage", time.Second, false, false, false, 4, 1, 4, false},
			{"DueAndBroken", surveyPause, true, true, false, 5, 2, 200, false},
			{"SoonAfterThat", surveyPause - 1, true, true, false, 5, 3, 300, false},
			{"DueAndDown", 1, true, true, true, 6, 4, 400, true},
		} {
			<-time.After(step.after)
			c.seen, asked.broken, asked.down = step.seen, nil, nil
			if step.broken {
				asked.broken = errors.New("no such card")
			}
			if step.down {
				asked.down = errors.New("connection refused")
			}
			p, err := h.probe(t.Context(), c)
			if asked.surveys != step.surveys || asked.probes != step.probes || p.QueueRemaining != step.backlog || (err != nil) != step.fails {
				t.Errorf("%s: %d surveys and %d probes; it says %d, %v", step.name, asked.surveys, asked.probes, p.QueueRemaining, err)
			}
			wants := queue.HostState{}
			if step.surveys > 1 {
				wants = queue.HostState{Memory: 100, Used: 60, Device: "cuda", Version: "v1"}
			}
			if s := h.admission.public; s.Memory != wants.Memory || s.Used != wants.Used || s.Device != wants.Device || s.Version != wants.Version {
				t.Errorf("%s: the host is %+v", step.name, s)
			}
		}
	})
}

// then is what comes of a wait.
type then struct {
	After time.Duration
	Goes  bool // on
	Seen  bool
}

// A prompt of ours is in ComfyUI's backlog too, and the event of its end may come later than that of the job.
func TestComfyUIIsLookedAtAgainWhenSomethingMayHaveChanged(t *testing.T) {
	t.Parallel()
	const usual = 5 * time.Second
	for name, c := range map[string]struct {
		state  comfy.State
		busy   int
		check  probeState
		due    time.Duration
		signal func(h *host, l *looked, stop func())
		want   then
	}{
		"Nothing":      {state: comfy.State{Connected: true}, signal: func(*host, *looked, func()) {}, want: then{usual, true, true}},
		"Asked":        {state: comfy.State{Connected: true}, signal: func(h *host, _ *looked, _ func()) { signal(h.probeNow) }, want: then{0, true, true}},
		"Stopped":      {state: comfy.State{Connected: true}, signal: func(_ *host, _ *looked, stop func()) { stop() }, want: then{0, false, true}},
		"Disconnected": {state: comfy.State{}, want: then{0, true, false}},
		"Connected":    {state: comfy.State{Connected: true}, check: probeState{connected: false, seen: true}, want: then{0, true, true}},
		"Empty":        {state: comfy.State{Connected: true}, want: then{usual, true, true}},
		"Foreign":      {state: comfy.State{Connected: true, QueueRemaining: 1}, want: then{foreignPause, true, true}},
		"Ours":         {state: comfy.State{Connected: true, QueueRemaining: 1}, busy: 1, want: then{usual, true, true}},
		"OneOfTwo":     {state: comfy.State{Connected: true, QueueRemaining: 2}, busy: 1, want: then{foreignPause, true, true}},
		"Freed": {state: comfy.State{Connected: true, QueueRemaining: 1}, signal: func(h *host, _ *looked, _ func()) { signal(h.freed) },
			want: then{foreignPause, true, true}},
		"DueBeforeThat": {state: comfy.State{Connected: true, QueueRemaining: 1}, due: foreignPause / 2, want: then{foreignPause / 2, true, true}},
		"Wanted":        {state: comfy.State{Connected: true}, check: probeState{connected: true, seen: true, wanted: true}, want: then{0, true, true}},
		"WantedBesideAJob": {state: comfy.State{Connected: true}, busy: 1, check: probeState{connected: true, seen: true, wanted: true},
			want: then{usual, true, true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := &looked{changed: make(chan struct{}, 1), state: c.state}
				h := &host{comfy: l, admission: newAdmission(queue.HostState{}, nil), probeNow: make(chan struct{}, 1), freed: make(chan struct{}, 1)}
				for range c.busy {
					h.admission.slotted = append(h.admission.slotted, &run{})
				}
				check := c.check
				if check == (probeState{}) {
					check = probeState{connected: true, seen: true}
				}
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				begun, due := time.Now(), usual
				if c.due > 0 {
					due = c.due
				}
				if c.signal == nil {
					signal(l.changed)
				} else {
					c.signal(h, l, stop)
				}
				timer := time.NewTimer(due)
				defer timer.Stop()
				goes := h.idle(ctx, &check, timer, begun.Add(due))
				if diff := cmp.Diff(c.want, then{time.Since(begun), goes, check.seen}); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}
