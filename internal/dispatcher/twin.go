package dispatcher

import (
	"encoding/json"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// twin finds another dispatcher of the same name, which would count as this one among those that share the hosts.
// The brain owns it.
type twin struct {
	heard bool      // our own presence; what stood there before may be of a dispatcher that is gone
	told  time.Time // the start of the one that was complained of
}

// hear reads a heartbeat under our own name.
func (t *twin) hear(d *Dispatcher, heartbeat []byte) {
	var s queue.DispatcherState
	if json.Unmarshal(heartbeat, &s) != nil {
		return
	}
	switch {
	case s.Started.Equal(d.started):
		t.heard = true
	case t.heard && !s.Started.Equal(t.told):
		t.told = s.Started
		d.log.Error("another dispatcher has this name; give each one of its own with --name, or none at all", "its_start", s.Started)
	}
}
