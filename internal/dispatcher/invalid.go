package dispatcher

import (
	"fmt"
	"log/slog"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// invalidValues reports values that cannot be used: each key once, as long as its value stays invalid. Such a value is left
// out of every decision. Any program with the permission can write anything to NATS, and the same value comes again with
// every watch. The zero value reports nothing.
type invalidValues struct {
	log      *slog.Logger
	where    string // the bucket, or what else they are in
	reported map[string]bool
}

// invalidMost bounds how many keys are remembered.
const invalidMost = 1024

func (v *invalidValues) report(key, why string) {
	if v.log == nil || v.reported[key] {
		return
	}
	if v.reported == nil || len(v.reported) >= invalidMost {
		v.reported = map[string]bool{}
	}
	v.reported[key] = true
	v.log.Error("a value that cannot be is left out; remove its key, or correct what writes it", "where", v.where, "key", key, "why", why)
}

// valid takes in that a key has a valid value, so that its next invalid one is reported.
func (v *invalidValues) valid(key string) {
	if len(v.reported) > 0 {
		delete(v.reported, key)
	}
}

const (
	slotsMost   = 1 << 16 // of a host
	foreignMost = 1 << 20 // prompts that others have sent to a host
	memoryMost  = 1 << 50 // bytes
)

// invalidState says why a host's state cannot be, and nothing when it can.
func invalidState(s *queue.HostState) string {
	switch {
	case !job.ValidHost(s.Host):
		return fmt.Sprintf("host %q is no name of a host", s.Host)
	case s.State != queue.Online && s.State != queue.Draining && s.State != queue.Unhealthy:
		return fmt.Sprintf("state %q is none of online, draining, unhealthy", s.State)
	case s.Slots < 0 || s.Slots > slotsMost || s.Prefetch < 0 || s.Prefetch > slotsMost || s.Foreign < 0 || s.Foreign > foreignMost:
		return fmt.Sprintf("%d slots, %d beyond them and %d strange prompts cannot be", s.Slots, s.Prefetch, s.Foreign)
	case s.Memory < 0 || s.Memory > memoryMost:
		return fmt.Sprintf("memory of %d bytes", s.Memory)
	case len(s.Running) > slotsMost:
		return fmt.Sprintf("%d running jobs", len(s.Running))
	}
	for i := range s.Running {
		if r := &s.Running[i]; !r.Tenant.Valid() || !r.Job.Valid() || !r.Priority.Valid() {
			return fmt.Sprintf("running job %q of tenant %q with priority %d is none", r.Job, r.Tenant, r.Priority)
		}
	}
	if e := s.Ended; e != nil && (!e.Tenant.Valid() || !e.Job.Valid() || !e.Priority.Valid() || e.RanFor < 0 || e.Size < 0) {
		return fmt.Sprintf("ended job %q of tenant %q with priority %d that ran for %d ns is none", e.Job, e.Tenant, e.Priority, e.RanFor)
	}
	return ""
}

// invalidTicket says why a ticket cannot be, and nothing when it can.
func invalidTicket(t *queue.Ticket) string {
	switch {
	case !t.Tenant.Valid() || !t.Hash.Valid() || t.Sequence == 0:
		return "its key is not <priority>.<tenant>.<hash>.<sequence>"
	case !t.Job.Valid():
		return fmt.Sprintf("job %q is no id", t.Job)
	case t.Attempt < 0 || t.Size < 0:
		return fmt.Sprintf("attempt %d, size %d", t.Attempt, t.Size)
	}
	return ""
}
