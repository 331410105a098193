package agent

import (
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// condition is one reason why a host takes no jobs, or one for which it is on trial. Each cause has its own probe
// (probes.go), and nothing else ends the condition.
type condition struct {
	cause   failure.Cause
	trial   bool            // the cause is not proven: the next job of another workflow decides
	reason  string          // for people: what is wrong, and what to do
	hashes  []workflow.Hash // of the workflows that have failed in this way
	process string          // ComfyUI's when it was found so; empty when that was not known
	blame   *queue.Blame
	since   time.Time // by this machine's clock; only for what this process has seen
}

// conditions has at most one condition of each cause, in the order of failure.Causes.
type conditions []condition

// of gives the condition of a cause, nil without one.
func (a conditions) of(cause failure.Cause) *condition {
	i := slices.IndexFunc(a, func(c condition) bool { return c.cause == cause })
	if i < 0 {
		return nil
	}
	return &a[i]
}

// put adds a condition or replaces the one of its cause. A job that is blamed already stays blamed.
func (a *conditions) put(c condition) {
	if known := a.of(c.cause); known != nil {
		if known.blame != nil {
			c.blame = known.blame
		}
		*known = c
		return
	}
	*a = append(*a, c)
	rank := func(c condition) int { return slices.Index(failure.Causes(), c.cause) }
	slices.SortStableFunc(*a, func(x, y condition) int { return rank(x) - rank(y) })
}

// remove reports whether there was a condition of the cause.
func (a *conditions) remove(cause failure.Cause) bool {
	before := len(*a)
	*a = slices.DeleteFunc(*a, func(c condition) bool { return c.cause == cause })
	return len(*a) < before
}

// worst is the condition for which the host takes no jobs, nil when it may take some.
func (a conditions) worst() *condition { return a.first(func(c condition) bool { return !c.trial }) }

// onTrial is what the host is on trial for, nil when it is not.
func (a conditions) onTrial() *condition { return a.first(func(c condition) bool { return c.trial }) }

// lasting is the condition to store for the next agent, which finds the others out by itself.
func (a conditions) lasting() *condition {
	return a.first(func(c condition) bool { return c.cause != failure.Down && c.cause != failure.Unstorable })
}

func (a conditions) first(is func(condition) bool) *condition {
	i := slices.IndexFunc(a, is)
	if i < 0 {
		return nil
	}
	return &a[i]
}

// endsWithProcess reports whether a condition ends with ComfyUI's process.
func endsWithProcess(cause failure.Cause) bool {
	return cause == failure.WorkerGone || cause == failure.Poisoned || cause == failure.Stuck
}

// otherProcess removes the conditions that ended with another process of ComfyUI. A condition that was found while the
// process could not be identified counts as one of this process.
func (a *conditions) otherProcess(now string) {
	*a = slices.DeleteFunc(*a, func(c condition) bool { return endsWithProcess(c.cause) && c.process != "" && c.process != now })
	for i := range *a {
		if endsWithProcess((*a)[i].cause) {
			(*a)[i].process = now
		}
	}
}

// failedAlike records a failure of a workflow for which the host may be the reason. The first one puts the host on trial; it
// is proven when another workflow fails in the same way.
func (a *conditions) failedAlike(c condition, hash workflow.Hash) (proven bool) {
	known := a.of(c.cause)
	if known == nil {
		c.trial, c.hashes = true, []workflow.Hash{hash}
		a.put(c)
		return false
	}
	if !slices.Contains(known.hashes, hash) && len(known.hashes) < keptHashes {
		known.hashes = append(slices.Clone(known.hashes), hash)
	}
	if known.trial && len(known.hashes) > 1 {
		known.trial, known.reason = false, c.reason
		if known.blame != nil && c.blame != nil && known.blame.Tenant != c.blame.Tenant {
			known.blame = nil // jobs of two tenants have failed so
		}
	}
	return !known.trial
}

// passed ends a trial when a job of another workflow, which began after it, has completed.
func (a *conditions) passed(hash workflow.Hash, ran time.Time) bool {
	c := a.onTrial()
	if c == nil || slices.Contains(c.hashes, hash) || ran.Before(c.since) {
		return false
	}
	return a.remove(c.cause)
}

func blameOf(r *run) *queue.Blame {
	if r == nil {
		return nil
	}
	return &queue.Blame{Tenant: r.tenant, Job: r.job, Hash: r.offer.Hash}
}
