package job

import (
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// AttemptsKept is how many of the attempts of a host a Fold keeps.
const AttemptsKept = 50

const attemptsGrow = 10 // by how many places the list of a host grows at a time

// HostAttempt is a run of a job on a host that is over.
type HostAttempt struct {
	Tenant  Tenant
	Job     ID
	Hash    workflow.Hash
	Attempt int
	End     EventKind    // failed, completed, dead or cancelled
	Kind    failure.Kind // of a failed one
	Begun   time.Time
	Ended   time.Time
}

// keep adds an attempt in place of the oldest.
func (h *busyHost) keep(a *HostAttempt) {
	if len(h.attempts) < AttemptsKept {
		if len(h.attempts) == cap(h.attempts) {
			h.attempts = slices.Grow(h.attempts, min(attemptsGrow, AttemptsKept-len(h.attempts)))
		}
		h.attempts = append(h.attempts, *a)
		return
	}
	h.attempts[h.oldest] = *a
	h.oldest = (h.oldest + 1) % AttemptsKept
}

// Attempts are the last attempts of a host, the one that ended last first. Hosts that ran nothing for an hour may have none when there
// are very many.
func (f *Fold) Attempts(host string) []HostAttempt {
	h := f.busy[host]
	if h == nil {
		return nil
	}
	list := slices.Concat(h.attempts[h.oldest:], h.attempts[:h.oldest])
	slices.Reverse(list)
	return list
}
