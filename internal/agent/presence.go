package agent

import (
	"context"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// presenceLoop renews the host's presence each third of its TTL and at every change of its state, and appends an event when
// the availability is not the one of the last event. It begins when ComfyUI was probed once.
func (h *host) presenceLoop(ctx context.Context) error {
	var announced queue.Availability
	var other duplicateAgent
	ticker := time.NewTicker(h.q.PresenceTTL() / 3)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-h.beatNow:
		case <-ticker.C:
			other.look(ctx, h)
		}
		if !h.looked.Load() {
			continue
		}
		s := h.admission.state()
		if err := h.persist(ctx); err != nil { // before the presence: what the presence says is stored already
			h.log.Warn("cannot store the host's condition; trying again", "error", err)
		}
		if err := other.beat(ctx, h, &s); err != nil {
			h.log.Debug("cannot renew the presence", "error", err)
			continue
		}
		if s.State == announced {
			continue
		}
		if err := h.announceEvent(ctx, &s, announced); err != nil {
			h.log.Debug("cannot append the event of the host's state", "state", s.State, "error", err)
			continue
		}
		h.log.Info("host is "+string(s.State), "reason", s.Reason, "url", s.URL)
		announced = s.State
	}
}

func (h *host) beat(ctx context.Context, s *queue.HostState) error {
	ctx, cancel := context.WithTimeout(ctx, wireTimeout)
	defer cancel()
	h.meters.state(s)
	return h.q.Beat(ctx, s)
}

func (h *host) announceEvent(ctx context.Context, s *queue.HostState, before queue.Availability) error {
	ctx, cancel := context.WithTimeout(ctx, wireTimeout)
	defer cancel()
	kind := queue.HostOnline
	switch {
	case s.State == queue.Draining:
		kind = queue.HostDraining
	case s.State == queue.Unhealthy:
		kind = queue.HostUnhealthy
	case before == queue.Unhealthy:
		kind = queue.HostRecovered
	}
	return h.q.AnnounceHost(ctx, h.name, kind, s.Reason)
}
