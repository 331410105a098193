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

const (
	reviewPause  = 200 * time.Millisecond
	reviewAgain  = time.Second            // to look whether capable_wait is over
	reviewSlice  = 300 * time.Microsecond // how long decisions wait for a review at a time
	reviewPlaces = 8                      // between two looks at the clock
)

// reasons writes into the chains of jobs why they wait, each time that the reason changes. It ends the jobs that no host can
// ever run.
//
// When something has changed it reviews all tickets whose home is this dispatcher, so that nothing is written twice. A
// long room is reviewed slice by slice: a job for an idle host must not wait until all the others were looked at.
// Slices take at most a twentieth of the loop's time.
type reasons struct {
	room        *route.Room
	fleet       *route.Fleet
	changes     *changes
	alarms      *alarms
	capableWait time.Duration
	skip        func(t *route.Ticket) bool            // leaves out those in hand, and those of other dispatchers
	proof       func(which tenantHash) string         // that a workflow takes hosts down
	write       func(t route.Ticket, hold route.Hold) // appends a reason to the chain, and calls written
	end         func(t route.Ticket, why ending)      // ends a job

	given    map[uint64]reason
	review   review
	next     time.Time // no slice begins before
	toWrite  []heldTicket
	writing  int
	hopeless []endedTicket // found by the slice under way
}

// reason is why a ticket waits, as its chain says or will say in a moment.
type reason struct {
	reason route.HoldReason
	since  time.Time // as the waiting event says; zero until that is known
	lacked time.Time // since when hosts are online, and neither they nor any that is away can run it; zero: that is not so
}

// review is one that is under way.
type review struct {
	running bool
	at      int  // where it goes on
	again   bool // soon, since jobs end unless a host for them comes, or reasons were left out
}

// heldTicket is a ticket whose reason is to be written.
type heldTicket struct {
	ticket route.Ticket
	hold   route.Hold
}

// endedTicket is a ticket whose job is to be ended.
type endedTicket struct {
	ticket route.Ticket
	why    ending
}

func newReasons(r reasons) *reasons {
	r.given = map[uint64]reason{}
	return &r
}

// forget drops what is known of a ticket that does not wait any more.
func (r *reasons) forget(sequence uint64) { delete(r.given, sequence) }

// look begins a review when something has changed, or does the next slice of one.
func (r *reasons) look(now time.Time) {
	if !r.changes.reasons && !r.review.running || now.Before(r.next) {
		return
	}
	if !r.review.running {
		r.review = review{running: true}
		r.changes.reasons = false
	}
	started := time.Now()
	holds := map[holdKey]route.Hold{} // kept for one slice, during which nothing changes
	for r.review.at >= 0 && time.Since(started) < reviewSlice {
		r.review.at = r.room.Some(r.review.at, reviewPlaces, func(t *route.Ticket, like route.Alike) {
			if !r.skip(t) && !r.guilty(t) {
				r.reviewTicket(t, r.holdOf(t, like, holds, now), now)
			}
		})
	}
	r.next = now.Add(20 * time.Since(started))
	if r.review.at < 0 {
		r.endReview(now)
	}
	for _, x := range r.hopeless {
		r.end(x.ticket, x.why)
	}
	r.hopeless = nil
	r.writeMore()
}

func (r *reasons) endReview(now time.Time) {
	if r.review.again {
		r.alarms.at(now.Add(reviewAgain), func(time.Time) { r.changes.reasons = true })
	}
	r.review = review{}
	r.next = later(r.next, now.Add(reviewPause))
}

// holdKey tells apart tickets that may wait for different reasons.
type holdKey struct {
	like   route.Alike
	before time.Time
}

func (r *reasons) holdOf(t *route.Ticket, like route.Alike, holds map[holdKey]route.Hold, now time.Time) *route.Hold {
	key := holdKey{like: like, before: t.NotBefore}
	hold, known := holds[key]
	if !known {
		hold = r.fleet.Hold(t.Want(), now)
		holds[key] = hold
	}
	return &hold
}

func (r *reasons) reviewTicket(t *route.Ticket, hold *route.Hold, now time.Time) {
	old, known := r.given[t.Sequence]
	switch {
	case hold.Reason == "":
		delete(r.given, t.Sequence)
	case known && old.reason == hold.Reason:
		r.reviewSame(t, old, hold, now)
	case len(r.toWrite) >= toWriteMost:
		r.review.again = true
	default:
		r.given[t.Sequence] = reason{reason: hold.Reason}
		r.toWrite = append(r.toWrite, heldTicket{*t, *hold})
	}
}

// reviewSame looks at a ticket that waits for the same reason as before: whether it has lasted too long.
func (r *reasons) reviewSame(t *route.Ticket, old reason, hold *route.Hold, now time.Time) {
	hopeless := hold.Reason == route.NoneCapable && hold.Away == 0 && hold.Online
	switch {
	case !hopeless:
		old.lacked = time.Time{}
	case old.lacked.IsZero():
		old.lacked = now
	}
	r.given[t.Sequence] = old
	if !hopeless {
		return
	}
	r.review.again = true
	if !old.since.IsZero() && now.Sub(later(old.since, old.lacked)) >= r.capableWait {
		r.hopeless = append(r.hopeless, endedTicket{*t, ending{
			reason: failure.NoCapableHost, message: hold.Text, hosts: hostTexts(r.fleet.ExplainSome(t.Want(), "", hostTextsMost, now)),
		}})
	}
}

// guilty ends a job of a workflow that takes hosts down, and reports whether it is one.
func (r *reasons) guilty(t *route.Ticket) bool {
	text := r.proof(tenantHash{job.Tenant(t.Tenant), t.Hash})
	if text != "" {
		r.hopeless = append(r.hopeless, endedTicket{*t, ending{reason: failure.TakesHostsDown, message: text}})
	}
	return text != ""
}

const (
	writingMost = 32   // reasons that are written at once: they must not keep jobs from being pulled
	toWriteMost = 1024 // that are kept to be written; the next review finds the others
)

func (r *reasons) writeMore() {
	for r.writing < writingMost && len(r.toWrite) > 0 {
		x := r.toWrite[0]
		r.toWrite = r.toWrite[1:]
		if r.given[x.ticket.Sequence].reason != x.hold.Reason {
			continue // it does not wait any more, or for another reason
		}
		r.writing++
		r.write(x.ticket, x.hold)
	}
}

// written takes in since when the chain gives a reason, zero when it has moved on. What could not be written is looked
// at again.
func (r *reasons) written(sequence uint64, why route.HoldReason, since time.Time, err error) {
	r.writing--
	r.writeMore()
	x, known := r.given[sequence]
	if !known || x.reason != why {
		return
	}
	x.since = since
	r.given[sequence] = x
	if err != nil {
		delete(r.given, sequence)
	}
	r.changes.reasons = r.changes.reasons || err != nil || why == route.NoneCapable
}

// writeReason appends why a job waits, unless its chain says so already.
func (d *Dispatcher) writeReason(ctx context.Context, t *route.Ticket, hold *route.Hold) {
	since, err := d.waitingSince(ctx, t, hold)
	if err != nil {
		d.log.Debug("cannot write why a job waits", "job", t.Job, "error", err)
	}
	d.loop.tell(func(time.Time) { d.loop.reasons.written(t.Sequence, hold.Reason, since, err) })
}

// waitingSince appends why a job waits, and gives since when its chain says so.
func (d *Dispatcher) waitingSince(ctx context.Context, t *route.Ticket, hold *route.Hold) (time.Time, error) {
	tenant, id := job.Tenant(t.Tenant), job.ID(t.Job)
	last, found, err := d.q.Last(ctx, tenant, id)
	if err != nil {
		return time.Time{}, err
	}
	switch {
	case last.EventKind.Terminal():
		d.discardTicket(ctx, keyOf(t)) // it was parked at the moment of its cancel
		return time.Time{}, nil
	case !found, last.EventKind == job.Started, last.EventKind == job.Failed:
		return time.Time{}, nil // claimed meanwhile: it does not wait
	case last.EventKind == job.Waiting && last.Reason == string(hold.Reason):
		return last.Time, nil
	}
	e := job.Event{
		EventKind: job.Waiting, Job: id, Tenant: tenant, Priority: job.Priority(t.Priority), Hash: t.Hash, Time: d.clock(),
		Name: last.Name, Metadata: last.Metadata, RequeueOf: last.RequeueOf, Webhook: last.Webhook, Traceparent: last.Traceparent, Sequence: t.Sequence,
		Reason: string(hold.Reason), Message: hold.Text, Hosts: d.loop.hostTexts(t.Want(), hold.Reason),
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

// hostTexts says for each host why it does not run a job that waits. It is called only when the reason is written: with many
// hosts, the loop would take long if it did this each time that it finds out why a job waits.
func (l *loop) hostTexts(w route.Want, why route.HoldReason) (texts map[string]string) {
	if why == route.OverCap || why == route.NotDue && !w.NotBefore.IsZero() {
		return nil
	}
	l.ask(func(now time.Time) { texts = hostTexts(l.fleet.ExplainSome(w, "", hostTextsMost, now)) })
	return texts
}

func hostTexts(verdicts []route.HostVerdict) map[string]string {
	texts := make(map[string]string, len(verdicts))
	for _, v := range verdicts {
		texts[string(v.Host)] = v.Text
	}
	return texts
}
