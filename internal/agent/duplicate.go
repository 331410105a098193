package agent

import (
	"context"

	"github.com/comfyherd/comfyherd/jetstream"
)

// duplicateAgent finds another agent that serves a host of the same name: offers would reach either of them, and what one knows
// of its ComfyUI would stand for both.
type duplicateAgent struct {
	beaten bool   // our presence was stored at least once; what stood there before may be of an agent that is gone
	told   string // the instance that was complained of
}

// look reads whose presence stands. Only one that was written over ours is a duplicateAgent's.
func (t *duplicateAgent) look(ctx context.Context, h *host) {
	if !t.beaten {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, wireTimeout)
	defer cancel()
	s, found, err := h.q.Host(ctx, h.name)
	if err != nil || !found || s.Instance == h.admission.state().Instance || s.Instance == t.told {
		return
	}
	t.told = s.Instance
	h.log.Error("another agent serves a host of this name; give each host a name of its own, as in COMFY_HOSTS=name=http://…", "its_url", s.URL)
}

func (t *duplicateAgent) beat(ctx context.Context, h *host, s *jetstream.HostState) error {
	err := h.beat(ctx, s)
	t.beaten = t.beaten || err == nil
	return err
}
