package operator

import (
	"context"
	"fmt"
	"time"

	"github.com/comfyherd/comfyherd/jetstream"
)

// Alert is something that a person should look at.
type Alert struct {
	About   string // block, dead or slow
	Subject string // host, job or lane
	Text    string
}

// Watcher raises alerts. Tell is called by one goroutine at a time.
type Watcher struct {
	Slow time.Duration // how long the oldest job of a lane may wait
	Tell func(Alert)

	slow map[jetstream.Lane]bool // lanes of which an alert was raised, until they are no longer slow
}

// See raises an alert for a block and for a dead letter.
func (w *Watcher) See(e *Event) {
	switch {
	case e.Area == "blocks" && e.What == "blocked":
		w.Tell(Alert{"block", e.Host, fmt.Sprintf("workflow %.8s is blocked on %s: %s", string(e.Hash), e.Host, e.Kind)})
	case e.Area == "jobs" && e.What == "dead":
		w.Tell(Alert{"dead", string(e.Tenant) + "/" + string(e.Job), fmt.Sprintf("%s/%s is dead: %s", e.Tenant, e.Job, e.Reason)})
	}
}

// Look raises an alert for each lane that has become slow. Call it from time to time.
func (w *Watcher) Look(ctx context.Context, fleet *Fleet, now time.Time) error {
	lanes, err := fleet.Lanes(ctx)
	if err != nil {
		return err
	}
	slow := map[jetstream.Lane]bool{}
	for i := range lanes {
		l := &lanes[i]
		lane := jetstream.Lane{Tenant: jetstream.Tenant(l.Tenant), Priority: jetstream.Priority(l.Priority)}
		if l.Oldest.IsZero() || now.Sub(l.Oldest) < w.Slow {
			continue
		}
		slow[lane] = true
		if !w.slow[lane] {
			w.Tell(Alert{"slow", fmt.Sprintf("%s.%d", lane.Tenant, lane.Priority), fmt.Sprintf("%d jobs of %s wait, the oldest for more than %s", l.Depth, lane.Tenant, w.Slow)})
		}
	}
	w.slow = slow
	return nil
}
