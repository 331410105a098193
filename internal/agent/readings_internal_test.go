package agent

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// slowToTell is a ComfyUI that takes a while to say what it can run, and fails.
type slowToTell struct {
	ComfyUI
	takes time.Duration
	asked int
}

func (s *slowToTell) Capability(context.Context, io.Writer) (c workflow.Capability, err error) {
	s.asked++
	<-time.After(s.takes)
	return c, errors.New("out of order")
}

// A reading that takes long keeps ComfyUI from answering anything else.
func TestReadingsThatTakeLongAreMadeSeldom(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		takes  time.Duration
		wished bool          // a refusal asks for a reading
		none   time.Duration // so long after a reading none is made
		due    time.Duration // so long after it one is
	}{
		"Cheap":           {time.Second, false, time.Minute - 1, time.Minute},
		"CheapAndWished":  {time.Second, true, -1, 0},
		"Costly":          {time.Second + 1, false, time.Minute - 1, time.Minute},
		"CostlyAndWished": {time.Second + 1, true, 20*time.Second + 19, 20*time.Second + 20},
		"Long":            {10 * time.Second, false, 200*time.Second - 1, 200 * time.Second},
		"LongAndWished":   {10 * time.Second, true, 200*time.Second - 1, 200 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				asked := &slowToTell{takes: c.takes}
				h := &host{comfy: asked, cfg: Config{LearnEvery: time.Minute}, log: slog.New(slog.DiscardHandler), admission: newAdmission(queue.HostState{}, nil)}
				k := &probeState{wanted: true}
				look := func(backlog, want int, when string) {
					t.Helper()
					if h.readCapabilityWhenIdle(t.Context(), k, backlog); asked.asked != want {
						t.Errorf("%s: it was asked %d times, want %d", when, asked.asked, want)
					}
				}
				look(0, 1, "at first")
				read := time.Now()
				h.relearn.Store(c.wished)
				if c.none >= 0 {
					<-time.After(c.none)
					look(0, 1, "too early")
				}
				<-time.After(time.Until(read.Add(c.due)))
				look(0, 2, "when it is due")
			})
		})
	}
}

func TestWhatIsNotWishedIsNotReadBesideAPrompt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := &slowToTell{}
		h := &host{comfy: asked, cfg: Config{LearnEvery: time.Minute}, log: slog.New(slog.DiscardHandler), admission: newAdmission(queue.HostState{}, nil)}
		k := &probeState{learned: time.Now()}
		<-time.After(time.Hour)
		h.readCapabilityWhenIdle(t.Context(), k, 1)
		h.admission.change(func(d *admission) { d.slotted = []*run{{}} })
		h.readCapabilityWhenIdle(t.Context(), k, 0)
		if asked.asked != 0 || h.admission.reading {
			t.Errorf("it was asked %d times beside a prompt, and no job is taken until then: %t", asked.asked, h.admission.reading)
		}
		h.admission.change(func(d *admission) { d.slotted = nil })
		if h.readCapabilityWhenIdle(t.Context(), k, 0); asked.asked != 1 {
			t.Errorf("it was asked %d times when it was idle", asked.asked)
		}
	})
}
