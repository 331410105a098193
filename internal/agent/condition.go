package agent

import (
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

// condition is one thing that keeps a host from running jobs, or that it is suspected of. Each cause has a way back of
// its own (probes.go), and nothing else ends it.
type condition struct {
	cause   failure.Cause
	trial   bool            // only suspected: the next job of another workflow decides
	reason  string          // for people: what is wrong, and what to do
	hashes  []workflow.Hash // of the workflows that have failed in this way
	process string          // ComfyUI's when it was found so; empty when that was not known
	blame   *jetstream.Blame
	since   time.Time // by this machine's clock; only for what this process has seen
}

// conditions are a host's conditions: at most one of each cause, in the order of failure.Causes.
type conditions []condition

// of gives the condition of a cause, nil without one.
func (a conditions) of(cause failure.Cause) *condition {
	i := slices.IndexFunc(a, func(c condition) bool { return c.cause == cause })
	if i < 0 {
		return nil
	}
	return &a[i]
}

// put takes in a condition instead of an earlier one of its cause. Whoever is blamed already stays so.
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

// end reports whether there was a condition of the cause.
func (a *conditions) remove(cause failure.Cause) bool {
	before := len(*a)
	*a = slices.DeleteFunc(*a, func(c condition) bool { return c.cause == cause })
	return len(*a) < before
}

// worst is what the host is out for, nil when it may take jobs.
func (a conditions) worst() *condition { return a.first(func(c condition) bool { return !c.trial }) }

// suspicion is what the host is on trial for, nil when it is not.
func (a conditions) suspicion() *condition { return a.first(func(c condition) bool { return c.trial }) }

// lasting is what must outlive the agent: another one would find the rest by itself.
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

// tied reports whether a condition ends with ComfyUI's process.
func tied(cause failure.Cause) bool {
	return cause == failure.WorkerGone || cause == failure.Poisoned || cause == failure.Stuck
}

// otherProcess ends what another process of ComfyUI is free of. A condition that was found while nobody knew the process
// is taken for one of this process.
func (a *conditions) otherProcess(now string) {
	*a = slices.DeleteFunc(*a, func(c condition) bool { return tied(c.cause) && c.process != "" && c.process != now })
	for i := range *a {
		if tied((*a)[i].cause) {
			(*a)[i].process = now
		}
	}
}

// failedAlike takes in a failure of a workflow that smells of the host. It is proven when another workflow has failed in
// the same way before; a first one puts the host on trial.
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
			known.blame = nil // two tenants have met it
		}
	}
	return !known.trial
}

// passed ends a trial after a workflow that has not failed so ended well, and that ran since the trial began.
func (a *conditions) passed(hash workflow.Hash, ran time.Time) bool {
	c := a.suspicion()
	if c == nil || slices.Contains(c.hashes, hash) || ran.Before(c.since) {
		return false
	}
	return a.remove(c.cause)
}

func blameOf(r *run) *jetstream.Blame {
	if r == nil {
		return nil
	}
	return &jetstream.Blame{Tenant: r.tenant, Job: r.job, Hash: r.offer.Hash}
}
