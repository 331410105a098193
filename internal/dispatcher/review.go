package dispatcher

import (
	"context"
	"errors"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// holdView is what was last told of a waiting job that no host may take.
type holdView struct {
	reason route.HoldReason
	since  time.Time // of the reason, as its waiting event says; zero until that is known
	lacked time.Time // since when hosts are online, and neither they nor any that is away can run it; zero: that is not so
}

const (
	reviewPause  = 200 * time.Millisecond
	reviewAgain  = time.Second      // to look whether capable_wait is over
	reviewSlice  = time.Millisecond // how long decisions wait for a review at a time
	reviewPlaces = 8                // between two looks at the clock
)

// sweep is a review under way.
type sweep struct {
	running  bool
	at       int // where it goes on
	hopeless bool
	more     bool // tickets were left out, since too many are to be explained
}

// reviewHolds tells why jobs wait when that has changed, and ends those that no host can ever run. Each ticket is
// reviewed by its home dispatcher only, so that nothing is told twice.
//
// A long room is reviewed slice by slice: a job for an idle host must not wait until all the others were looked at.
// Slices take at most a twentieth of the brain's time.
func (b *brain) reviewHolds(now time.Time) {
	if !b.review && !b.sweep.running || now.Before(b.nextReview) || !b.isSynced.Load() {
		return
	}
	if !b.sweep.running {
		b.sweep = sweep{running: true}
		b.review = false
	}
	started := time.Now()
	holds := map[holdKey]route.Hold{} // of one slice: they hold as long as nothing happens
	for b.sweep.at >= 0 && time.Since(started) < reviewSlice {
		b.sweep.at = b.waiting.Some(b.sweep.at, reviewPlaces, func(t *route.Ticket, like route.Alike) {
			switch {
			case b.hand[t.Sequence] != nil || !b.ticketHome(t):
			case b.condemned(t):
			case b.reviewTicket(t, b.holdOf(t, like, holds, now), now):
				b.sweep.hopeless = true
			}
		})
	}
	b.nextReview = now.Add(20 * time.Since(started))
	if b.sweep.at < 0 {
		b.endSweep(now)
	}
	for _, e := range b.hopeless {
		b.giveUp(e.ticket, e.why)
	}
	b.hopeless = nil
	b.explainMore()
}

func (b *brain) endSweep(now time.Time) {
	if b.sweep.hopeless || b.sweep.more {
		b.at(now.Add(reviewAgain), func(time.Time) { b.review = true })
	}
	b.sweep = sweep{}
	b.nextReview = later(b.nextReview, now.Add(reviewPause))
}

// holdKey tells apart tickets that may wait for different reasons.
type holdKey struct {
	like   route.Alike
	before time.Time
}

func (b *brain) holdOf(t *route.Ticket, like route.Alike, holds map[holdKey]route.Hold, now time.Time) route.Hold {
	key := holdKey{like: like, before: t.NotBefore}
	hold, known := holds[key]
	if !known {
		hold = b.fleet.Hold(t.Want(), now)
		holds[key] = hold
	}
	return hold
}

// ticketHome reports whether this dispatcher looks after a ticket's reasons and times.
func (b *brain) ticketHome(t *route.Ticket) bool { return b.isHome(string(t.Job)) }

// reviewTicket reports whether the job ends unless a host for it turns up.
func (b *brain) reviewTicket(t *route.Ticket, hold route.Hold, now time.Time) (hopeless bool) {
	old, known := b.holds[t.Sequence]
	if hold.Reason == "" {
		delete(b.holds, t.Sequence)
		return false
	}
	if (!known || old.reason != hold.Reason) && len(b.toExplain) >= explainKept {
		b.sweep.more = true
		return false
	}
	if !known || old.reason != hold.Reason {
		b.holds[t.Sequence] = holdView{reason: hold.Reason}
		b.toExplain = append(b.toExplain, explanation{ticket: *t, hold: hold})
		return false
	}
	hopeless = hold.Reason == route.NoneCapable && hold.Away == 0 && hold.Online()
	switch {
	case !hopeless:
		old.lacked = time.Time{}
	case old.lacked.IsZero():
		old.lacked = now
	}
	b.holds[t.Sequence] = old
	if hopeless && !old.since.IsZero() && now.Sub(later(old.since, old.lacked)) >= b.d.cfg.CapableWait {
		b.hopeless = append(b.hopeless, explanation{ticket: *t, why: ending{
			reason: failure.NoCapableHost, message: hold.Text, hosts: hostTexts(hold.Hosts),
		}})
	}
	return hopeless
}

// condemned ends a job of a workflow that takes hosts down, and reports whether it is one.
func (b *brain) condemned(t *route.Ticket) bool {
	if len(b.memory.guilty) == 0 {
		return false
	}
	text := b.memory.proven(accused{job.Tenant(t.Tenant), t.Hash})
	if text == "" {
		return false
	}
	b.hopeless = append(b.hopeless, explanation{ticket: *t, why: ending{reason: failure.TakesHostsDown, message: text}})
	return true
}

// explanation is a ticket and why it waits, or why it ends.
type explanation struct {
	ticket route.Ticket
	hold   route.Hold
	why    ending
}

// explainMost bounds the explanations under way: they must not keep jobs from being pulled.
const explainMost = 32

// explainKept bounds those that wait to be told; of more the next review thinks anew.
const explainKept = 1024

func (b *brain) explainMore() {
	for b.explaining < explainMost && len(b.toExplain) > 0 {
		e := b.toExplain[0]
		b.toExplain = b.toExplain[1:]
		if b.holds[e.ticket.Sequence].reason != e.hold.Reason {
			continue // it does not wait any more, or for something else
		}
		b.explaining++
		b.walk(func(ctx context.Context) { b.explain(ctx, e.ticket, e.hold) })
	}
}

// explain appends why the job waits, unless the chain says so already, and learns since when.
func (b *brain) explain(ctx context.Context, t route.Ticket, hold route.Hold) {
	since, err := b.d.explainWaiting(ctx, &t, hold)
	if err != nil {
		b.d.log.Debug("tell why a job waits", "job", t.Job, "error", err)
	}
	b.tell(func(time.Time) {
		b.explaining--
		b.explainMore()
		view, known := b.holds[t.Sequence]
		if !known || view.reason != hold.Reason {
			return
		}
		view.since = since
		b.holds[t.Sequence] = view
		if err != nil {
			delete(b.holds, t.Sequence) // looked at again with the next change
		}
		b.review = b.review || err != nil || hold.Reason == route.NoneCapable
	})
}

func (d *Dispatcher) explainWaiting(ctx context.Context, t *route.Ticket, hold route.Hold) (time.Time, error) {
	tenant, id := job.Tenant(t.Tenant), job.ID(t.Job)
	last, found, err := d.q.Last(ctx, tenant, id)
	if err != nil {
		return time.Time{}, err
	}
	switch {
	case last.EventKind.Terminal():
		d.tearUp(ctx, keyOf(t)) // it was parked at the moment of its cancel
		return time.Time{}, nil
	case !found, last.EventKind == job.Started, last.EventKind == job.Failed:
		return time.Time{}, nil // claimed meanwhile: it does not wait
	case last.EventKind == job.Waiting && last.Reason == string(hold.Reason):
		return last.Time, nil
	}
	e := job.Event{
		EventKind: job.Waiting, Job: id, Tenant: tenant, Priority: job.Priority(t.Priority), Hash: t.Hash, Time: d.clock(),
		Metadata: last.Metadata, RequeueOf: last.RequeueOf, Sequence: t.Sequence,
		Reason: string(hold.Reason), Message: hold.Text, Hosts: hostTexts(hold.Hosts),
	}
	if !hold.Until.IsZero() {
		e.Until = &hold.Until
	}
	_, err = d.q.Append(ctx, &e, last.ChainSequence, d.source, "")
	if errors.Is(err, queue.ErrOvertaken) {
		return time.Time{}, nil
	}
	return e.Time, err
}

const hostTextsMost = 200 // an event names no more hosts than that

func hostTexts(verdicts []route.HostVerdict) map[string]string {
	texts := make(map[string]string, len(verdicts))
	for _, v := range verdicts {
		if len(texts) == hostTextsMost {
			break
		}
		texts[string(v.Host)] = v.Text
	}
	return texts
}

// expireTickets ends jobs whose expires_in is over. Another dispatcher's are left to it for a while.
func (b *brain) expireTickets(now time.Time) {
	const grace = 2 * time.Second
	for _, t := range b.waiting.Expired(now) {
		if o := b.hand[t.Sequence]; o != nil {
			b.letGo(t.Sequence)
			b.walk(func(ctx context.Context) { b.d.expire(ctx, o, ending{reason: failure.Expired, message: expiredText}) })
			continue
		}
		if b.ticketHome(&t) || now.Sub(t.Expires) > grace {
			b.giveUp(t, ending{reason: failure.Expired, message: expiredText})
		}
	}
}

const expiredText = "no host had accepted the job when its expires_in was over"

// giveUp claims a ticket in order to end its job.
func (b *brain) giveUp(t route.Ticket, why ending) {
	b.waiting.Remove(t.Sequence)
	delete(b.holds, t.Sequence)
	b.claiming[t.Sequence] = t
	b.walk(func(ctx context.Context) { b.d.claim(ctx, claimed{ticket: t, why: why}) })
}

// expire ends a job that this dispatcher owns and that will not run.
func (d *Dispatcher) expire(ctx context.Context, o *owned, why ending) {
	chain, err := d.q.Chain(ctx, o.job.Tenant, o.job.ID)
	if err == nil {
		why.attempts = attemptsOf(chain)
		err = d.end(ctx, o, why)
	}
	if err != nil {
		d.leave(ctx, o, err)
	}
}

// tearUp drops the ticket of a cancelled job and acks its delivery.
func (d *Dispatcher) tearUp(ctx context.Context, key string) {
	ticket, found, _, err := d.q.Ticket(ctx, key)
	if err != nil || !found {
		return
	}
	won, err := d.q.Claim(ctx, key, ticket.Revision)
	if err != nil {
		d.log.Debug("drop the ticket of a cancelled job", "job", ticket.Job, "error", err)
	}
	if !won {
		return
	}
	switch stored, err := d.stored(ctx, ticket.Sequence, ticket.Tenant, ticket.Job); {
	case err == nil:
		d.finish(ctx, &stored.message, ticket.Lease)
	case !errors.Is(err, queue.ErrGone):
		d.again(ticket.Lease, err)
	}
}
