package dispatcher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// settle decides what becomes of a job after a failed attempt, and does it. Many failures are settled side by side, but those of one
// job one after the other, in their order: Queue.SettleFailed calls it so. Jobs share nothing but the strikes and the block of a
// pair, which are written by compare-and-set, whoever comes first.
//
// Effects in their order; each may be repeated, so a crash after any of them is repaired by the next delivery of
// the failed event, or of the job when its lease has run out:
//  1. strikes and blocks: a strike carries the failed event's sequence and counts once. A lost host is stored before the
//     job is decided. So when two dispatchers settle two such losses, at least one of them sees both
//  2. that a workflow takes hosts down is stored: its further jobs end at once
//  3. retry: retrying is appended, the ticket is put, the delivery is parked
//     dead: the dead letter is stored, dead is appended, the delivery is acked
func (d *Dispatcher) settle(ctx context.Context, failed queue.Link) error {
	sequence, leased := failed.Lease.Sequence()
	if !leased {
		d.leaveUnleased(&failed)
		return nil
	}
	var reading errgroup.Group
	var o *owned // read beside its chain
	reading.Go(func() (err error) {
		o, err = d.whole(ctx, sequence, failed.Tenant, failed.Job)
		return err
	})
	first, err := d.isFirst(ctx, &failed)
	unread := reading.Wait()
	switch {
	case err != nil:
		return err
	case first && unread == nil:
		return d.settleJob(ctx, reopened(o, &failed, 1), &failed, []failure.Attempt{failed.Failure()})
	}
	chain, err := d.q.Chain(ctx, failed.Tenant, failed.Job)
	if err != nil {
		return err
	}
	switch at := indexOf(chain, failed.ChainSequence); {
	case at < 0 || at != len(chain)-1:
		return d.alreadySettled(ctx, chain, &failed)
	case cmp.Or(sequenceIn(chain), failed.Sequence) != sequence: // the event has it for a chain whose first events are not kept any more
		d.leaveUnleased(&failed)
		return nil
	case errors.Is(unread, queue.ErrGone):
		return d.endRemoved(ctx, &failed)
	case unread != nil:
		return unread
	}
	return d.settleJob(ctx, reopened(o, &failed, startedIn(chain)), &failed, attemptsOf(chain))
}

// isFirst reports whether no attempt of the job has failed before, and nothing is known to have followed. Then the failed event says all
// that the chain would, as for most failures; that something has followed nevertheless is found out when the chain is continued. What
// is delivered again was probably settled before.
func (d *Dispatcher) isFirst(ctx context.Context, failed *queue.Link) (bool, error) {
	if failed.Again || failed.Attempt != 1 {
		return false, nil
	}
	first, err := d.q.FirstOf(ctx, failed.Tenant, failed.Job, job.Failed)
	return first == failed.ChainSequence, err
}

// leaveUnleased is for a failed event without a lease of its job: neither an agent nor a dispatcher wrote it. A real job is delivered again
// when its lease has run out.
func (d *Dispatcher) leaveUnleased(failed *queue.Link) {
	d.log.Warn("a failed event without a lease or a job is ignored", "tenant", failed.Tenant, "job", failed.Job)
}

// settleJob decides what becomes of a job whose last attempt has failed, and does it.
func (d *Dispatcher) settleJob(ctx context.Context, o *owned, failed *queue.Link, attempts []failure.Attempt) error {
	decision, err := d.decide(ctx, o, failed, attempts)
	if err != nil {
		return err
	}
	d.metrics.settleLag.Observe(max(d.clock().Sub(failed.Time), 0).Seconds())
	if decision.Dead {
		return d.makeDead(ctx, o, ending{reason: decision.Reason, message: decision.Message, hosts: refusalsOf(attempts), attempts: attempts})
	}
	return d.retry(ctx, o, decision)
}

// decide says what becomes of a job, and has strikes and blocks written for its failure.
func (d *Dispatcher) decide(ctx context.Context, o *owned, failed *queue.Link, attempts []failure.Attempt) (failure.Decision, error) {
	last := &attempts[len(attempts)-1]
	if last.Kind != failure.Refused && !slices.ContainsFunc(attempts, func(a failure.Attempt) bool { return a.Lost() }) {
		decision := failure.Decide(attempts, o.job.Policy(), failure.Evidence{})
		return decision, d.recordFailure(ctx, o, failed, attempts, decision)
	}
	if err := d.loop.ready(ctx); err != nil {
		return failure.Decision{}, err
	}
	if last.Lost() {
		if err := d.strikeOf(ctx, o, failed); err != nil {
			return failure.Decision{}, err
		}
	}
	known, recentlyCompleted, err := d.loop.evidence(o, attempts)
	if err != nil {
		return failure.Decision{}, err
	}
	decision := failure.Decide(attempts, o.job.Policy(), known)
	switch {
	case !last.Lost():
		return decision, d.recordFailure(ctx, o, failed, attempts, decision)
	case decision.Guilt != nil && !recentlyCompleted:
		return decision, d.storeGuilt(ctx, o, failed.Host, decision.Message)
	}
	return decision, nil
}

// refusalsOf gives the messages with which hosts refused a job, by host.
func refusalsOf(attempts []failure.Attempt) map[string]string {
	var words map[string]string
	for _, a := range attempts {
		if a.Kind != failure.Refused {
			continue
		}
		if words == nil {
			words = map[string]string{}
		}
		words[a.Host] = a.Message
	}
	return words
}

// alreadySettled is for a failed event that something else has followed: usually it was settled before. An ended job whose
// delivery is still open is acked.
func (d *Dispatcher) alreadySettled(ctx context.Context, chain []queue.Link, failed *queue.Link) error {
	if n := len(chain); n > 0 && chain[n-1].EventKind.Terminal() && failed.Lease.Of(sequenceIn(chain)) {
		d.finishStored(ctx, idKey{failed.Tenant, failed.Job}, sequenceIn(chain), failed.Lease)
	}
	return nil
}

// reopened is the job of a failed event, of which so many attempts have begun, as this dispatcher owns it now.
func reopened(o *owned, failed *queue.Link, begun int) *owned {
	o.lease, o.last, o.attempt, o.notBefore = failed.Lease, failed.ChainSequence, begun+1, time.Time{}
	return o
}

// endRemoved ends a job whose message was removed from COMFY_JOBS by hand: it cannot be tried again.
func (d *Dispatcher) endRemoved(ctx context.Context, failed *queue.Link) error {
	e := failed.Event
	e.EventKind, e.Time, e.Reason = job.Dead, d.clock(), string(failure.NotRetryable)
	e.Attempts = []failure.Attempt{failed.Failure()}
	_, err := d.q.Append(ctx, &e, failed.ChainSequence, d.source, "")
	if err != nil && !errors.Is(err, queue.ErrOvertaken) {
		return err
	}
	return fmt.Errorf("job %s cannot be tried again: %w from COMFY_JOBS", failed.Job, queue.ErrGone)
}

// retry sends the job to the waiting room for another attempt. The event comes before the ticket, since the
// dispatcher that claims the ticket continues the chain at once.
func (d *Dispatcher) retry(ctx context.Context, o *owned, decision failure.Decision) error {
	now := d.clock()
	again := now.Add(jittered(decision.Delay))
	o.avoid, o.notBefore, o.avoidUntil = decision.Avoid, now, again
	d.loop.ask(func(time.Time) { d.loop.setLacks(o) })
	if decision.Later {
		o.notBefore = again
	}
	e := o.job.NewEvent(job.Retrying, now)
	e.Sequence, e.Attempt = o.job.Sequence, o.attempt
	e.NotBefore, e.AvoidedHosts = &o.notBefore, o.avoid
	if len(o.avoid) > 0 {
		e.AvoidUntil = &o.avoidUntil
	}
	last, err := d.q.Append(ctx, &e, o.last, d.source, "")
	if errors.Is(err, queue.ErrOvertaken) {
		return d.leaveOvertaken(ctx, o, 0)
	}
	if err != nil {
		return err
	}
	o.last = last
	d.shelve(ctx, o)
	return nil
}

func jittered(d time.Duration) time.Duration {
	return d + time.Duration(rand.Int64N(int64(d)/4+1))
}

// ending is why a job is dead.
type ending struct {
	reason   failure.Reason
	message  string // empty: the last failure's
	hosts    map[string]string
	attempts []failure.Attempt
}

// makeDead ends a job: the dead letter, then the event, then the ack.
func (d *Dispatcher) makeDead(ctx context.Context, o *owned, why ending) error {
	e := o.job.NewEvent(job.Dead, d.clock())
	e.Sequence, e.Reason, e.Message, e.Hosts, e.Attempts = o.job.Sequence, string(why.reason), why.message, why.hosts, why.attempts
	if n := len(why.attempts); n > 0 {
		last := why.attempts[n-1]
		e.Kind, e.Host, e.Attempt = last.Kind, last.Host, last.Number
		e.Node, e.Class, e.Exception = last.Node, last.Class, last.Exception
		if e.Message == "" {
			e.Message = last.Message
		}
	}
	letter, err := d.q.Bury(ctx, &o.message, &e, o.last)
	if err != nil {
		return err
	}
	_, err = d.q.Append(ctx, &e, o.last, d.source, "")
	if errors.Is(err, queue.ErrOvertaken) {
		return d.leaveOvertaken(ctx, o, letter)
	}
	if err != nil {
		return err
	}
	d.finish(ctx, &o.message, o.lease)
	level := slog.LevelWarn
	if why.reason == failure.OverQuota { // there may be very many
		level = slog.LevelInfo
	}
	d.log.Log(ctx, level, "a job is dead", "tenant", o.job.Tenant, "job", o.job.ID, "reason", why.reason, "why", e.Message, "hash", e.Hash.Short())
	return nil
}

// leaveOvertaken leaves a job to the one that has moved its chain on. One that has ended is acked. Its dead letter, if it was stored a
// moment too early, is taken back, unless the chain went on with the dead event of another dispatcher that shares it.
func (d *Dispatcher) leaveOvertaken(ctx context.Context, o *owned, letter uint64) error {
	chain, err := d.q.Chain(ctx, o.job.Tenant, o.job.ID)
	if err != nil {
		return err
	}
	next := indexOf(chain, o.last) + 1
	if next == len(chain) {
		return nil // the answer came from a copy of the stream that lags behind: the lease decides
	}
	if chain[next].EventKind != job.Dead {
		d.takeLetterBack(ctx, letter, o.job.ID)
	}
	if chain[len(chain)-1].EventKind.Terminal() {
		d.finish(ctx, &o.message, o.lease)
	}
	return nil
}

// takeLetterBack removes a dead letter of a job that is not dead.
func (d *Dispatcher) takeLetterBack(ctx context.Context, letter uint64, id job.ID) {
	if letter == 0 {
		return
	}
	if err := d.q.Purge(ctx, &queue.DeadLetter{Sequence: letter, Job: id}); err != nil {
		d.log.Debug("cannot take a dead letter back", "job", id, "error", err) // it may have been taken back before a crash
	}
}
