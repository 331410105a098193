package dispatcher

import (
	"strconv"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// tickets is what stands in COMFY_WAITING, which all dispatchers share: the jobs that any of them may claim. Those
// whose workflow's requirements are known lie in the waiting room's order, beside the jobs in hand.
type tickets struct {
	room     *route.Room
	fleet    *route.Fleet
	hand     *hand
	peers    *peers
	changes  *changes
	unknown  *requirements          // has the tickets whose requirements are not known yet
	left     func(sequence uint64)  // called for each ticket that does not wait any more
	replaced func(old route.Ticket) // called for one at whose sequence another job is stored

	claiming map[uint64]route.Ticket // taken out of the room to be claimed
	due      map[uint64]time.Time    // of those that become due later
}

func newTickets(t tickets) *tickets {
	t.claiming, t.due = map[uint64]route.Ticket{}, map[uint64]time.Time{}
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
	t.room.Put(x)
	t.changes.all()
}

// dueGrace is how long a job that becomes due is left to its home dispatcher: all know the moment.
const dueGrace = time.Second

// inTurn has a ticket that becomes due later do so a moment later still when its home is elsewhere.
func (t *tickets) inTurn(x route.Ticket, now time.Time) route.Ticket {
	if !x.NotBefore.After(now) {
		return x
	}
	t.due[x.Sequence] = x.NotBefore
	if !t.peers.isTicketHome(&x) {
		x.NotBefore = x.NotBefore.Add(dueGrace)
	}
	return x
}

// rehome finds out anew when tickets become due here, since dispatchers have come or gone.
func (t *tickets) rehome(now time.Time, pause func() bool) {
	for sequence, due := range t.due {
		if !pause() {
			return
		}
		x, waits := t.room.Get(sequence)
		if !waits || !due.After(now) {
			delete(t.due, sequence)
			continue
		}
		x.NotBefore = due
		t.room.Put(t.inTurn(x, now))
	}
}

// remove takes in that a ticket does not stand any more. When its job is in hand, that waits on.
func (t *tickets) remove(x *queue.Ticket) {
	if !t.hand.has(x.Sequence) {
		t.drop(x.Sequence)
		t.unknown.forget(x.Hash, x.Sequence)
	}
}

// lapse takes in that a ticket does not stand any more although the watch has not told it, unless the watch has told of
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

// beingClaimed gives a ticket that is being claimed, unless the watch has told of its end meanwhile.
func (t *tickets) beingClaimed(sequence uint64) (x route.Ticket, stands bool) {
	x, stands = t.claiming[sequence]
	return x, stands
}

// keys visits those of all tickets that stand, as far as is known, until visit says no. Others may come and go meanwhile.
func (t *tickets) keys(visit func(string) bool) {
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
	}
	for _, x := range t.claiming {
		if !visit(keyOf(&x)) {
			return
		}
	}
	t.unknown.each(func(x *route.Ticket) bool { return visit(keyOf(x)) })
}

const keyPlaces = 64 // whose keys are found at once

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
