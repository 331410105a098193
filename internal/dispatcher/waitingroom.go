package dispatcher

import (
	"iter"
	"strconv"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// tickets is what COMFY_WAITING has, which all dispatchers share: the jobs that any of them may claim. Those
// whose workflow's requirements are known lie in the waiting room's order, beside the jobs in hand.
type tickets struct {
	room     *route.Room
	fleet    *route.Fleet
	hand     *hand
	peers    *peers
	changes  *changes
	alarms   *alarms
	unknown  *requirements // has the tickets whose requirements are not known yet
	capped   func(route.Tenant) bool
	left     func(sequence uint64)  // called for each ticket that does not wait any more
	replaced func(old route.Ticket) // called for one at whose sequence another job is stored

	claiming map[uint64]route.Ticket // taken out of the room to be claimed
	due      map[uint64]dueTimes     // of those that become due later
}

func newTickets(t tickets) *tickets {
	t.claiming, t.due = map[uint64]route.Ticket{}, map[uint64]dueTimes{}
	return &t
}

// put lets a ticket wait.
func (t *tickets) put(x route.Ticket) {
	delete(t.claiming, x.Sequence)
	t.evict(x.Sequence, x.Tenant, x.Job)
	if !t.fleet.Known(x.Hash) {
		t.unknown.keep(x)
		return
	}
	t.unknown.forget(x.Hash, x.Sequence) // an older one, which has not moved yet
	t.room.Put(x)
	t.changes.all()
}

// dueTimes are when a ticket becomes due, and when it may go to hosts that have failed it, wherever its home is.
type dueTimes struct{ notBefore, avoidUntil time.Time }

// last is the later of the two times.
func (d *dueTimes) last() time.Time { return later(d.notBefore, d.avoidUntil) }

// inTurn has a ticket that was stored at a time wait for its turn: all dispatchers read it and its times alike, so each but the
// first acts on them a while later.
func (t *tickets) inTurn(x route.Ticket, stored, now time.Time) route.Ticket {
	x.Rank = t.peers.rank(x.Job)
	due := dueTimes{notBefore: x.NotBefore}
	if len(x.Avoid) > 0 {
		due.avoidUntil = x.AvoidUntil
	}
	if due.last().After(now) {
		t.due[x.Sequence] = due
	}
	delay := t.peers.delay(x.Rank)
	if t.capped(x.Tenant) {
		delay = 0 // its home gives its jobs to hosts, and no other dispatcher
	}
	if due.avoidUntil.After(now) {
		x.AvoidUntil = due.avoidUntil.Add(delay)
	}
	if from := later(x.NotBefore, stored).Add(delay); from.After(now) && delay > 0 {
		x.NotBefore = from
	}
	return x
}

// rehome finds out again when tickets become due here, when it is this dispatcher's turn, and which tickets it claims first, since
// dispatchers have come or gone.
func (t *tickets) rehome(now time.Time, pause func() bool) {
	for sequence, due := range t.due {
		if !pause() {
			return
		}
		x, waits := t.room.Get(sequence)
		if !waits || !due.last().After(now) {
			delete(t.due, sequence)
			continue
		}
		if x.NotBefore = due.notBefore; !due.avoidUntil.IsZero() {
			x.AvoidUntil = due.avoidUntil
		}
		t.room.Put(t.inTurn(x, time.Time{}, now))
	}
	for at := 0; at >= 0 && pause(); {
		at = t.room.Rerank(at, 1, t.peers.rank)
	}
}

// remove takes in that a ticket is gone. When its job is in hand, that waits on.
func (t *tickets) remove(x *queue.Ticket) {
	if !t.hand.has(x.Sequence) {
		t.drop(x.Sequence)
		t.unknown.forget(x.Hash, x.Sequence)
	}
}

// lapse takes in that a ticket is gone although the watch has not reported that, unless the watch has reported
// a newer one.
func (t *tickets) lapse(x *route.Ticket) {
	if now, waits := t.room.Get(x.Sequence); t.hand.has(x.Sequence) || waits && now.Revision > x.Revision {
		return
	}
	t.drop(x.Sequence)
}

func (t *tickets) drop(sequence uint64) {
	t.room.Remove(sequence)
	delete(t.claiming, sequence)
	delete(t.due, sequence)
	t.left(sequence)
}

// evict takes out a ticket at whose sequence another job is stored.
func (t *tickets) evict(sequence uint64, tenant route.Tenant, id route.JobID) {
	old, found := t.room.Get(sequence)
	if !found || old.Job == id && old.Tenant == tenant {
		return
	}
	t.room.Remove(sequence)
	t.left(sequence)
	t.replaced(old)
}

// claim takes out a ticket that is to be claimed.
func (t *tickets) claim(x route.Ticket) {
	t.room.Remove(x.Sequence)
	t.claiming[x.Sequence] = x
}

// claimed takes in that a claim was won.
func (t *tickets) claimed(sequence uint64) { delete(t.claiming, sequence) }

// beingClaimed gives a ticket that is being claimed, unless the watch has reported its end meanwhile.
func (t *tickets) beingClaimed(sequence uint64) (x route.Ticket, found bool) {
	x, found = t.claiming[sequence]
	return x, found
}

// keys gives those of all tickets that are there, as far as is known, or a part of them when pause returns false. Others may come and go
// meanwhile.
func (t *tickets) keys(pause func() bool) iter.Seq[string] {
	return func(visit func(string) bool) {
		for at := 0; at >= 0; {
			var keys []string
			at = t.room.Some(at, keyPlaces, func(x *route.Ticket, _ route.Alike) {
				if !t.hand.has(x.Sequence) {
					keys = append(keys, keyOf(x))
				}
			})
			for _, key := range keys {
				if !visit(key) {
					return
				}
			}
			if !pause() {
				return
			}
		}
		for _, x := range t.claiming {
			if !visit(keyOf(&x)) {
				return
			}
		}
		t.unknown.each(func(x *route.Ticket) bool { return visit(keyOf(x)) })
	}
}

const keyPlaces = 16 // whose keys are found at once

// len is how many wait and are not being claimed.
func (t *tickets) len() int { return t.room.Len() - t.hand.len() }

// keyOf is a ticket's key in COMFY_WAITING.
func keyOf(t *route.Ticket) string {
	return strconv.Itoa(t.Priority) + "." + string(t.Tenant) + "." + string(t.Hash) + "." + strconv.FormatUint(t.Sequence, 10)
}

func routeTicket(t *queue.Ticket) route.Ticket {
	return route.Ticket{
		Sequence: t.Sequence, Revision: t.Revision, Priority: int(t.Priority), Tenant: route.Tenant(t.Tenant),
		Job: route.JobID(t.Job), Hash: t.Hash, Size: t.Size,
		Wishes:     route.Wishes{Prefer: t.PreferHosts, Only: t.OnlyHosts, Exclude: t.ExcludeHosts, Avoid: t.AvoidHosts},
		AvoidUntil: orZero(t.AvoidUntil), Attempt: t.Attempt, NotBefore: orZero(t.NotBefore), Expires: orZero(t.Expires), Received: t.Received,
	}
}
