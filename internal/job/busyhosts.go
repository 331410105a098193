package job

import (
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

const (
	// BusyStep is how finely a Fold sums how long hosts have run jobs.
	BusyStep = 2 * time.Minute
	// BusySpan is how far back these sums go.
	BusySpan = time.Hour

	busySteps = int(BusySpan/BusyStep) + 1
	busyMost  = 10_000 // hosts; events of any program may name others
)

// busy is how long hosts have run jobs.
type busy map[string]*busyHost

type busyHost struct {
	newest   int64 // number of the newest step
	steps    [busySteps]timeStep[time.Duration]
	attempts []HostAttempt // the last ones, in a ring that begins at oldest
	oldest   int
}

// ran adds that a host has run a job.
func (b busy) ran(host string, from, to time.Time) {
	if host == "" || !to.After(from) {
		return
	}
	if earliest := to.Add(-BusySpan); from.Before(earliest) {
		from = earliest
	}
	if h := b.of(host, to); h != nil {
		h.add(from, to)
	}
}

// of is what is known of a host; nil when there are too many.
func (b busy) of(host string, now time.Time) *busyHost {
	h := b[host]
	if h == nil && len(b) >= busyMost {
		b.forget(busyNumber(now))
	}
	if h == nil && len(b) < busyMost {
		h = &busyHost{}
		b[strings.Clone(host)] = h
	}
	return h
}

func (h *busyHost) add(from, to time.Time) {
	for from.Before(to) {
		number := busyNumber(from)
		end := time.Unix(0, (number+1)*int64(BusyStep))
		if end.After(to) {
			end = to
		}
		if number < 0 {
			return // the event has no time
		}
		if ran := stepOf(h.steps[:], number); ran != nil {
			*ran += end.Sub(from)
		}
		h.newest = max(h.newest, number)
		from = end
	}
}

// forget removes the hosts that ran nothing in the last hour.
func (b busy) forget(now int64) {
	for host, h := range b {
		if h.newest <= now-int64(busySteps) {
			delete(b, host)
		}
	}
}

func busyNumber(at time.Time) int64 { return at.UnixNano() / int64(BusyStep) }

// runs adds the attempt of a job to its host, when an event says that it is over.
func (f *Fold) runs(before *row, e *StoredEvent) {
	if before == nil || rowStates[before.state] != Started || e.Kind == Started {
		return
	}
	host, begun := f.names.text(before.host), time.Unix(0, before.lastAt)
	f.busy.ran(host, begun, e.Time)
	if host == "" {
		return
	}
	if h := f.busy.of(host, e.Time); h != nil {
		a := HostAttempt{
			Tenant: Tenant(f.names.text(before.tenant)), Job: before.id, Hash: workflow.Hash(f.names.text(before.hash)), Attempt: int(before.attempt),
			End: e.Kind, Begun: begun, Ended: e.Time,
		}
		if e.Kind == Failed || e.Kind == Dead {
			a.Kind = failure.Kind(strings.Clone(word(string(e.Brief.Kind))))
		}
		h.keep(&a)
	}
}

// Busy is how long a host has run jobs in each full step of the last hour, oldest first: those that have ended, and those that began at
// the given times and run. Jobs that run side by side count each.
func (f *Fold) Busy(host string, running []time.Time, now time.Time) []time.Duration {
	var h busyHost
	if known := f.busy[host]; known != nil {
		h = *known
	}
	for _, since := range running {
		if earliest := now.Add(-BusySpan - BusyStep); since.Before(earliest) {
			since = earliest
		}
		h.add(since, now)
	}
	last := busyNumber(now) - 1
	first, steps := last-int64(busySteps)+2, make([]time.Duration, busySteps-1)
	stepsBetween(h.steps[:], first, last, func(number int64, ran *time.Duration) { steps[number-first] = *ran })
	return steps
}
