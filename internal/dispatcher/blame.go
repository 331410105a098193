package dispatcher

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// blame records what a failed attempt that did not end with its host says about host and workflow: a strike, a block, or,
// when the fault turned out to be the workflow's, the end of the blocks that it caused.
func (d *Dispatcher) blame(ctx context.Context, o *owned, failed *queue.Link, attempts []failure.Attempt, decision failure.Decision) error {
	if decision.Reason == failure.WorkflowFault {
		return d.absolve(ctx, o, attempts)
	}
	return d.strikeFor(ctx, o, failed)
}

// strikeFor makes a strike of a failed attempt.
func (d *Dispatcher) strikeFor(ctx context.Context, o *owned, failed *queue.Link) error {
	if failed.Host == "" || failed.Kind.Verdict().Strike == failure.NoStrike || failed.Proven {
		return nil
	}
	strike := route.Strike{
		Host: route.HostID(failed.Host), Hash: o.job.Graph.Hash(), Attempt: failed.Failure(), Tenant: route.Tenant(o.job.Tenant),
		Job: route.JobID(o.job.ID), Size: o.job.Graph.Size(), Mark: failed.ChainSequence, At: failed.Time,
	}
	if strike.Size == 0 {
		strike.Size = failed.Size // the agent has looked at the picture
	}
	if failed.Kind == failure.OutOfMemory {
		d.brain.ask(func(time.Time) { strike.Ran = d.brain.memory.ran[pair{failed.Host, strike.Hash}] })
	}
	if jitter := d.cfg.Policy.Cooldown / 10; jitter >= time.Second {
		strike.Jitter = rand.N(jitter)
	}
	return d.strike(ctx, strike)
}

// strike counts a failure by compare-and-set and opens or widens the block that follows from it. The strikes
// come first: they carry the failed event's mark and the block, so that a crash before the block is opened is
// repaired by the next delivery of the failed event, which finds the mark and opens what the strikes say.
func (d *Dispatcher) strike(ctx context.Context, s route.Strike) error {
	for {
		old, revision, err := d.strikesOf(ctx, string(s.Host), s.Hash)
		if err != nil {
			return err
		}
		strikes, block := old.Add(s, d.clock(), d.cfg.Policy)
		if block == nil && old.Open != nil && old.Open.Until.After(d.clock()) {
			block = old.Open
		}
		stored, err := d.putStrikes(ctx, string(s.Host), s.Hash, &strikes, revision)
		if err != nil {
			return err
		}
		if stored {
			return d.open(ctx, block)
		}
	}
}

func (d *Dispatcher) strikesOf(ctx context.Context, host string, hash workflow.Hash) (route.Strikes, uint64, error) {
	c, err := d.q.Strikes(ctx, host, hash)
	if err != nil || c.Phase == queue.Gone {
		return route.Strikes{}, 0, err
	}
	var strikes route.Strikes
	if err := json.Unmarshal(c.Value, &strikes); err != nil {
		d.log.Warn("strikes written by somebody else are replaced", "host", host, "hash", hash.Short(), "error", err)
		return route.Strikes{}, c.Revision, nil
	}
	return strikes, c.Revision, nil
}

// open makes the block table say what block says. Creating the key is the lock: of several dispatchers one opens
// the block, the others find it and widen it if theirs holds for more.
func (d *Dispatcher) open(ctx context.Context, block *route.Block) error {
	if block == nil {
		return nil
	}
	value, err := json.Marshal(block)
	if err != nil {
		return fmt.Errorf("encode block: %w", err)
	}
	host := string(block.Host)
	for {
		ttl := block.Until.Sub(d.clock())
		if ttl <= 0 {
			return nil
		}
		opened, err := d.q.OpenBlock(ctx, host, block.Hash, value, ttl)
		if err != nil || opened {
			if opened {
				d.log.Warn("blocked", "host", host, "hash", block.Hash.Short(), "kind", block.Kind, "for", ttl.Round(time.Second), "why", block.Message)
			}
			return err
		}
		standing, err := d.q.Block(ctx, host, block.Hash)
		if err != nil {
			return err
		}
		if standing.Phase == queue.Gone {
			continue
		}
		if same(standing.Value, value) {
			return nil
		}
		replaced, err := d.q.ReplaceBlock(ctx, host, block.Hash, value, ttl, standing.Revision)
		if err != nil || replaced {
			return err
		}
	}
}

// same reports whether two encoded blocks hold for the same, so that a repeated step writes nothing twice.
func same(a, b []byte) bool {
	var x, y route.Block
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	return x.Until.Equal(y.Until) && x.Size == y.Size && slices.Equal(x.Tenants, y.Tenants) && maps.Equal(x.Own, y.Own)
}

// absolve lifts the blocks that a faulty workflow caused on the hosts that only told the truth about it.
func (d *Dispatcher) absolve(ctx context.Context, o *owned, attempts []failure.Attempt) error {
	hash := o.job.Graph.Hash()
	for _, a := range attempts {
		if a.Kind != failure.ExecutionError {
			continue
		}
		if err := d.liftOwn(ctx, a.Host, hash, o); err != nil {
			return err
		}
	}
	return nil
}

func (d *Dispatcher) liftOwn(ctx context.Context, host string, hash workflow.Hash, o *owned) error {
	c, err := d.q.Block(ctx, host, hash)
	if err != nil {
		return err
	}
	if c.Phase == queue.Put && !causedBy(c.Value, o) {
		return nil
	}
	if err := d.forgive(ctx, host, hash); err != nil || c.Phase == queue.Gone {
		return err
	}
	_, err = d.q.LiftBlock(ctx, host, hash, c.Revision, queue.WorkflowFault)
	return err
}

// causedBy reports whether a stored block is one that this job led to.
func causedBy(value []byte, o *owned) bool {
	var b route.Block
	return json.Unmarshal(value, &b) == nil && b.Job == route.JobID(o.job.ID)
}

// forgive clears all that is held against a pair.
func (d *Dispatcher) forgive(ctx context.Context, host string, hash workflow.Hash) error {
	for {
		c, err := d.q.Strikes(ctx, host, hash)
		if err != nil || c.Phase == queue.Gone {
			return err
		}
		cleared, err := d.q.ClearStrikes(ctx, host, hash, c.Revision)
		if err != nil || cleared {
			return err
		}
	}
}

// succeeded counts a success, told at a time, of a pair that has strikes, and lifts its block when that has lost its
// reason.
func (d *Dispatcher) succeeded(ctx context.Context, host string, e *queue.EndedJob, at time.Time) error {
	for {
		old, revision, err := d.strikesOf(ctx, host, e.Hash)
		if err != nil || revision == 0 {
			return err
		}
		strikes, lift, changed := old.Success(route.Tenant(e.Tenant), e.Size, at, d.clock())
		if !changed {
			return nil
		}
		stored, err := d.putStrikes(ctx, host, e.Hash, &strikes, revision)
		if err != nil {
			return err
		}
		if stored {
			return d.liftIf(ctx, lift, host, e.Hash)
		}
	}
}

func (d *Dispatcher) liftIf(ctx context.Context, lift bool, host string, hash workflow.Hash) error {
	if !lift {
		return nil
	}
	c, err := d.q.Block(ctx, host, hash)
	if err != nil || c.Phase == queue.Gone {
		return err
	}
	_, err = d.q.LiftBlock(ctx, host, hash, c.Revision, queue.Recovered)
	return err
}

// forgetBlock takes a block that was lifted out of the strikes, which would open it again otherwise.
func (d *Dispatcher) forgetBlock(ctx context.Context, host string, hash workflow.Hash) error {
	for {
		old, revision, err := d.strikesOf(ctx, host, hash)
		if err != nil || revision == 0 || old.Open == nil {
			return err
		}
		strikes := old.Lifted()
		stored, err := d.putStrikes(ctx, host, hash, &strikes, revision)
		if err != nil || stored {
			return err
		}
	}
}

// freeCapable lifts the incapable blocks of a host whose capability has changed.
func (d *Dispatcher) freeCapable(ctx context.Context, host string, blocked []workflow.Hash) {
	for _, hash := range blocked {
		c, err := d.q.Block(ctx, host, hash)
		if err != nil || c.Phase == queue.Gone {
			continue // it expires by itself
		}
		_, err = d.q.LiftBlock(ctx, host, hash, c.Revision, queue.CapabilityChanged)
		if err == nil {
			err = d.forgetBlock(ctx, host, hash)
		}
		if err != nil {
			d.log.Warn("unblock", "host", host, "hash", hash.Short(), "error", err)
		}
	}
}
