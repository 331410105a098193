package agent

import (
	"context"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// duplicateAgent finds another agent that serves a host of the same name. Offers would reach either of them, and each would
// overwrite the other's state.
type duplicateAgent struct {
	beaten bool   // our presence was stored at least once; what is stored before that may be of an agent that has ended
	told   string // the instance that was logged
}

// look reads whose presence is stored. One that was written over ours is another agent's.
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

func (t *duplicateAgent) beat(ctx context.Context, h *host, s *queue.HostState) error {
	err := h.beat(ctx, s)
	t.beaten = t.beaten || err == nil
	return err
}
