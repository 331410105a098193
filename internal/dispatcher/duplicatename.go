package dispatcher

import (
	"log/slog"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// duplicateName finds another dispatcher of the same name: it would count as this one among those that share the hosts.
type duplicateName struct {
	log     *slog.Logger
	started time.Time // of this dispatcher

	seen     bool      // this dispatcher's own heartbeat was; one that was read before it may be of a dispatcher that is gone
	reported time.Time // the start of the other one
}

// heartbeat takes in a heartbeat under this dispatcher's name.
func (n *duplicateName) heartbeat(s *queue.DispatcherState) {
	switch {
	case s.Started.Equal(n.started):
		n.seen = true
	case n.seen && !s.Started.Equal(n.reported):
		n.reported = s.Started
		n.log.Error("another dispatcher has this name; give each one of its own with --name, or none at all", "its_start", s.Started)
	}
}
