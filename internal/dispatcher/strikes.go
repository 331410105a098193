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

// recordFailure records a failure after which the host is still up: it writes the strike and the block that follows, or lifts
// blocks when the workflow is at fault.
func (d *Dispatcher) recordFailure(ctx context.Context, o *owned, failed *queue.Link, attempts []failure.Attempt, decision failure.Decision) error {
	if decision.Reason == failure.WorkflowFault {
		return d.liftBlocksOf(ctx, o, attempts)
	}
	return d.strikeOf(ctx, o, failed)
}

// strikeOf makes a strike of a failed attempt.
func (d *Dispatcher) strikeOf(ctx context.Context, o *owned, failed *queue.Link) error {
	if failed.Host == "" || failed.Kind.Verdict().Strike == failure.NoStrike || failed.Proven || failed.Waited {
		return nil
	}
	strike := route.Strike{
		Host: route.HostID(failed.Host), Hash: o.job.Graph.Hash(), Attempt: failed.Failure(), Tenant: route.Tenant(o.job.Tenant),
		Job: route.JobID(o.job.ID), Size: o.job.Graph.Size(), Mark: failed.ChainSequence, At: failed.Time,
	}
	if strike.Size == 0 {
		strike.Size = failed.Size // the agent knows the size of the picture that the job loads
	}
	none := false
	d.loop.ask(func(time.Time) {
		if failed.Kind == failure.OutOfMemory {
			strike.Ran = d.loop.successes.largest[pair{failed.Host, strike.Hash}]
		}
		none = !d.loop.fleet.Struck(strike.Host, strike.Hash)
	})
	if jitter := d.cfg.Policy.Cooldown / 10; jitter >= time.Second {
		strike.Jitter = rand.N(jitter)
	}
	return d.addStrike(ctx, strike, none)
}

// addStrike counts a failure by compare-and-set and opens or widens the block that follows from it; how long that lasts
// (the cooldown) is Policy.BlockFor in internal/route/policy.go. The strikes are written first, with the sequence of the failed event
// (the mark) and the block. After a crash the event is delivered again, is not counted twice, and the block in the strikes is
// opened. none says that the pair had no strikes a moment ago: then they are created without being read first.
func (d *Dispatcher) addStrike(ctx context.Context, s route.Strike, none bool) error {
	var block *route.Block
	_, err := d.changeOrCreateStrikes(ctx, pair{string(s.Host), s.Hash}, none, func(old *route.Strikes, _ bool) (strikes route.Strikes, changed bool) {
		strikes, block = old.Add(s, d.clock(), d.cfg.Policy)
		if block == nil && old.Open != nil && old.Open.Until.After(d.clock()) {
			block = old.Open
		}
		return strikes, true
	})
	if err != nil {
		return err
	}
	return d.openBlock(ctx, block)
}

// changeStrikes stores what change makes of a pair's strikes, unless it changes nothing. When another dispatcher writes them
// meanwhile, change is called again.
func (d *Dispatcher) changeStrikes(ctx context.Context, p pair, change func(old *route.Strikes, found bool) (route.Strikes, bool)) (changed bool, err error) {
	return d.changeOrCreateStrikes(ctx, p, false, change)
}

// changeOrCreateStrikes is changeStrikes, except that with none it assumes at first that the pair has no strikes: it creates them without
// reading.
func (d *Dispatcher) changeOrCreateStrikes(
	ctx context.Context, p pair, none bool, change func(old *route.Strikes, found bool) (route.Strikes, bool),
) (changed bool, err error) {
	try := func() (bool, error) {
		var old route.Strikes
		var revision uint64
		var err error
		if !none {
			old, revision, err = d.strikesOf(ctx, p.host, p.hash)
		}
		if none = false; err != nil {
			return false, err
		}
		var strikes route.Strikes
		if strikes, changed = change(&old, revision != 0); !changed {
			return true, nil
		}
		value, err := json.Marshal(&strikes)
		if err != nil {
			return false, fmt.Errorf("encode strikes: %w", err)
		}
		return d.q.PutStrikes(ctx, p.host, p.hash, value, d.cfg.Policy.StrikesFor(strikes.Level), revision)
	}
	err = d.pairs.Pass(ctx, p, func() error {
		return queue.RetryConflict(ctx, fmt.Sprintf("change the strikes of %s on host %s", p.hash.Short(), p.host), try)
	})
	return changed && err == nil, err
}

func (d *Dispatcher) strikesOf(ctx context.Context, host string, hash workflow.Hash) (route.Strikes, uint64, error) {
	c, err := d.q.Strikes(ctx, host, hash)
	if err != nil || c.Phase == queue.Gone {
		return route.Strikes{}, 0, err
	}
	return c.Value, c.Revision, nil // invalid ones count as none, and are replaced
}

// openBlock writes the block to COMFY_BLOCKS. One dispatcher creates the key; the others find it, and widen the block if theirs
// holds for more.
func (d *Dispatcher) openBlock(ctx context.Context, block *route.Block) error {
	if block == nil {
		return nil
	}
	value, err := json.Marshal(block)
	if err != nil {
		return fmt.Errorf("encode block: %w", err)
	}
	host := string(block.Host)
	return queue.RetryConflict(ctx, fmt.Sprintf("block %s on host %s", block.Hash.Short(), host), func() (bool, error) {
		ttl := block.Until.Sub(d.clock())
		if ttl <= 0 {
			return true, nil
		}
		opened, err := d.q.OpenBlock(ctx, host, block.Hash, value, ttl)
		if err != nil || opened {
			if opened {
				d.log.Warn("blocked", "host", host, "hash", block.Hash.Short(), "kind", block.Kind, "for", ttl.Round(time.Second), "why", block.Message)
			}
			return opened, err
		}
		stored, err := d.q.Block(ctx, host, block.Hash)
		if err != nil || stored.Phase == queue.Gone {
			return false, err
		}
		if stored.Phase == queue.Put && sameBlock(&stored.Value, block) {
			return true, nil
		}
		return d.q.ReplaceBlock(ctx, host, block.Hash, value, ttl, stored.Revision)
	})
}

// sameBlock reports whether two blocks hold for the same, so that a repeated step writes nothing twice.
func sameBlock(a, b *route.Block) bool {
	return a.Until.Equal(b.Until) && a.Size == b.Size && slices.Equal(a.Tenants, b.Tenants) && maps.Equal(a.Own, b.Own)
}

// liftBlocksOf lifts the blocks that a faulty workflow has caused on hosts without a fault.
func (d *Dispatcher) liftBlocksOf(ctx context.Context, o *owned, attempts []failure.Attempt) error {
	hash := o.job.Graph.Hash()
	for _, a := range attempts {
		if a.Kind != failure.ExecutionError {
			continue
		}
		if err := d.liftBlockOf(ctx, a.Host, hash, o); err != nil {
			return err
		}
	}
	return nil
}

func (d *Dispatcher) liftBlockOf(ctx context.Context, host string, hash workflow.Hash, o *owned) error {
	c, err := d.q.Block(ctx, host, hash)
	if err != nil {
		return err
	}
	if c.Phase == queue.Invalid || c.Phase == queue.Put && c.Value.Job != route.JobID(o.job.ID) {
		return nil // another job has led to this block
	}
	if err := d.clearStrikes(ctx, host, hash); err != nil || c.Phase == queue.Gone {
		return err
	}
	_, err = d.q.LiftBlock(ctx, host, hash, c.Revision, queue.WorkflowFault)
	return err
}

// clearStrikes clears all that counts against a pair.
func (d *Dispatcher) clearStrikes(ctx context.Context, host string, hash workflow.Hash) error {
	return queue.RetryConflict(ctx, fmt.Sprintf("clear the strikes of %s on host %s", hash.Short(), host), func() (bool, error) {
		c, err := d.q.Strikes(ctx, host, hash)
		if err != nil || c.Phase == queue.Gone {
			return err == nil, err
		}
		return d.q.ClearStrikes(ctx, host, hash, c.Revision)
	})
}

// countSuccess counts a success, reported at a time, of a pair that has strikes, and lifts its block when that has lost its
// reason.
func (d *Dispatcher) countSuccess(ctx context.Context, host string, e *queue.EndedJob, at time.Time) {
	lift := false
	changed, err := d.changeStrikes(ctx, pair{host, e.Hash}, func(old *route.Strikes, found bool) (strikes route.Strikes, changed bool) {
		if !found {
			return *old, false
		}
		strikes, lift, changed = old.Success(route.Tenant(e.Tenant), e.Size, at, d.clock())
		return strikes, changed
	})
	if err == nil && changed && lift {
		err = d.liftRecovered(ctx, host, e.Hash)
	}
	if err != nil {
		d.log.Warn("a success could not be counted", "host", host, "hash", e.Hash.Short(), "error", err)
	}
}

func (d *Dispatcher) liftRecovered(ctx context.Context, host string, hash workflow.Hash) error {
	c, err := d.q.Block(ctx, host, hash)
	if err != nil || c.Phase == queue.Gone {
		return err
	}
	_, err = d.q.LiftBlock(ctx, host, hash, c.Revision, queue.Recovered)
	return err
}

// forgetBlock takes a block that was lifted out of the strikes, which would open it again otherwise.
func (d *Dispatcher) forgetBlock(ctx context.Context, host string, hash workflow.Hash) error {
	_, err := d.changeStrikes(ctx, pair{host, hash}, func(old *route.Strikes, found bool) (route.Strikes, bool) {
		if !found || old.Open == nil {
			return *old, false
		}
		return old.Lifted(), true
	})
	return err
}

// storeGuilt stores that a tenant's jobs of a workflow take hosts down, with the strikes of the host that went down last.
func (d *Dispatcher) storeGuilt(ctx context.Context, o *owned, host string, text string) error {
	hash, tenant := o.job.Graph.Hash(), route.Tenant(o.job.Tenant)
	changed, err := d.changeStrikes(ctx, pair{host, hash}, func(old *route.Strikes, _ bool) (route.Strikes, bool) {
		if old.Guilty[tenant] != "" {
			return *old, false
		}
		return old.SetGuilty(tenant, fmt.Sprintf("job %s: %s", o.job.ID, text)), true
	})
	if changed {
		d.log.Warn("a workflow takes hosts down; further jobs of it end at once", "tenant", tenant, "hash", hash.Short(), "why", text)
	}
	return err
}

// liftIncapable lifts incapable blocks of a host whose capability has changed since (capabilityChanged). Those that it cannot
// lift are tried again by liftAllOutdated. The block is removed from the strikes first:
// otherwise a dispatcher that dies after the lift would leave strikes that count the block as in force.
func (d *Dispatcher) liftIncapable(ctx context.Context, host string, blocked []workflow.Hash) {
	for _, hash := range blocked {
		c, err := d.q.Block(ctx, host, hash)
		if err != nil || c.Phase == queue.Gone {
			continue // it has ended, or is looked at again
		}
		if err = d.forgetBlock(ctx, host, hash); err == nil {
			_, err = d.q.LiftBlock(ctx, host, hash, c.Revision, queue.CapabilityChanged)
		}
		if err != nil {
			d.log.Warn("a block could not be lifted although the host's capability has changed; trying again",
				"host", host, "hash", hash.Short(), "error", err)
		}
	}
}
