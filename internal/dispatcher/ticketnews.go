package dispatcher

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// ticketNews keeps up with COMFY_WAITING. In a small fleet its watch reports every change to each dispatcher. In a large one the
// watch is closed, and each dispatcher relays the tickets that it has written and claimed, several times a second. The revisions of
// changes have no gaps. So a dispatcher that has missed a change notices it, and reads the change from the bucket.
// docs/architecture.md has the failure cases.
//
// No guarantee depends on a relay: a claim is a compare-and-set, and a ticket that no dispatcher knows comes back when its job is
// delivered again.
type ticketNews struct {
	ticketNewsParts
	relaying atomic.Bool // this dispatcher's changes are to be relayed; read by walks

	closed bool // the watch is closed, so that this dispatcher's changes are taken in without it
	synced bool // the watch has reported all that was there when it began
	lost   bool // revisions count from the beginning again: only the watch can report what is stored

	made   time.Time         // when the bucket was made
	known  uint64            // every change up to this revision has been taken in
	top    uint64            // the highest revision that is known to be stored
	ahead  map[uint64]string // keys of those behind known that have been taken in
	newest map[string]uint64 // the last of each of these keys

	goal    uint64    // revision that known is to reach
	since   time.Time // when goal was set
	looked  time.Time // when the state was last asked for
	reading bool
}

const (
	relayTimeout  = 2 * time.Second  // until a change is read that no relay has reported
	ticketGivenUp = 10 * time.Second // until one that cannot be read either is given up: a later one has replaced it, or nothing is left of it
)

// ticketNewsParts is what a ticketNews is made with.
type ticketNewsParts struct {
	relay  func(c queue.Change[queue.Ticket])                // sends a change to the other dispatchers
	takeIn func(c queue.Change[queue.Ticket], now time.Time) // takes a change into the waiting room
	state  func(known uint64)                                // reads the bucket's state, and has the loop call logged
	read   func(after uint64)                                // reads the changes after a revision, and has the loop call found for each, and then readAll
	ttl    time.Duration                                     // of a presence
}

func newTicketNews(n ticketNewsParts) *ticketNews {
	return &ticketNews{ticketNewsParts: n, ahead: map[uint64]string{}, newest: map[string]uint64{}}
}

// watched notes what the watch reports, in the order of revisions. It returns whether the change is to be taken in: not when a newer
// one of the same ticket was.
func (n *ticketNews) watched(c *queue.Change[queue.Ticket]) bool {
	switch c.Phase {
	case queue.Reset:
		n.synced, n.lost, n.known, n.top, n.goal, n.made = false, false, 0, 0, 0, time.Time{}
		clear(n.ahead)
		clear(n.newest)
	case queue.Synced:
		n.synced = true
		n.advance(n.top)
	case queue.Put, queue.Invalid, queue.Gone:
		fresh := n.newest[c.Key] <= c.Revision
		if n.top = max(n.top, c.Revision); n.synced {
			n.advance(c.Revision)
		}
		return fresh
	}
	return true
}

// changed takes in a change that this dispatcher has made.
func (n *ticketNews) changed(c queue.Change[queue.Ticket], now time.Time) {
	n.relay(c)
	if n.closed {
		n.received(c, now)
	}
}

// received takes in a change. The same one may come twice, and newer ones before older ones.
func (n *ticketNews) received(c queue.Change[queue.Ticket], now time.Time) {
	if _, twice := n.ahead[c.Revision]; twice || c.Revision <= n.known {
		return
	}
	n.top = max(n.top, c.Revision)
	fresh := n.newest[c.Key] < c.Revision
	n.ahead[c.Revision] = c.Key
	if fresh {
		n.newest[c.Key] = c.Revision
	}
	n.advance(n.known)
	if fresh {
		n.takeIn(c, now)
	}
}

// advance takes in that every change up to a revision is known, and goes on over those after it that were taken in already.
func (n *ticketNews) advance(to uint64) {
	if to > n.known+uint64(len(n.ahead)) {
		for revision := range n.ahead {
			if revision <= to {
				n.drop(revision)
			}
		}
		n.known = to
	}
	for {
		_, told := n.ahead[n.known+1]
		if !told && n.known >= to {
			return
		}
		n.known++
		n.drop(n.known)
	}
}

func (n *ticketNews) drop(revision uint64) {
	key, told := n.ahead[revision]
	if !told {
		return
	}
	delete(n.ahead, revision)
	if n.newest[key] == revision {
		delete(n.newest, key)
	}
}

// look has changes read that are stored and that no dispatcher has relayed. After the newest ones comes no other that would show a
// gap: these are found by the bucket's state.
func (n *ticketNews) look(now time.Time) {
	if !n.closed || n.lost || n.reading {
		return
	}
	if now.Sub(n.looked) >= n.ttl/3 {
		n.looked = now
		n.state(n.known)
	}
	switch {
	case n.known >= n.top:
	case n.goal <= n.known:
		n.goal, n.since = n.top, now
	case now.Sub(n.since) >= relayTimeout:
		n.reading = true
		n.read(n.known)
	}
}

// logged takes in the state of the bucket. It was asked for when all changes up to asked were known: this dispatcher's own ones may have
// come meanwhile.
func (n *ticketNews) logged(log queue.TicketLog, asked uint64) {
	if !n.closed {
		return
	}
	remade := !n.made.IsZero() && !n.made.Equal(log.Made) || log.Last < asked
	if n.made = log.Made; remade {
		n.lost = true
		return
	}
	n.top = max(n.top, log.Last)
}

// found takes in a change that was read: those before it, which were not found, have been replaced by later ones.
func (n *ticketNews) found(c queue.Change[queue.Ticket], now time.Time) {
	if n.closed {
		n.received(c, now)
		n.advance(c.Revision)
	}
}

// readAll takes in that all changes were read.
func (n *ticketNews) readAll(err error, now time.Time) {
	n.reading = false
	if err == nil && n.closed && n.known < n.goal && now.Sub(n.since) >= ticketGivenUp {
		n.advance(n.goal)
	}
}

// ticketChanged tells the loop of a ticket that this dispatcher has written, or claimed.
func (d *Dispatcher) ticketChanged(c queue.Change[queue.Ticket]) {
	if d.loop.news.relaying.Load() {
		d.loop.tell(func(now time.Time) {
			c.Time = now
			d.loop.news.changed(c, now)
		})
	}
}

// putTicket writes a ticket.
func (d *Dispatcher) putTicket(ctx context.Context, t *queue.Ticket) error {
	revision, err := d.q.PutTicket(ctx, t)
	if err == nil {
		stored := *t
		stored.Revision = revision
		d.ticketChanged(queue.Change[queue.Ticket]{Phase: queue.Put, Key: t.Key(), Value: stored, Revision: revision})
	}
	return err
}

// claimTicket claims a ticket that is at a revision.
func (d *Dispatcher) claimTicket(ctx context.Context, key string, revision uint64) (bool, error) {
	end, err := d.q.Claim(ctx, key, revision)
	if err != nil || end == 0 {
		return false, err
	}
	d.ticketChanged(queue.Change[queue.Ticket]{Phase: queue.Gone, Key: key, Revision: end})
	return true, nil
}

// readTicketLog reads the state of the bucket, of which all changes up to known are known.
func (d *Dispatcher) readTicketLog(ctx context.Context, known uint64) {
	log, err := d.q.TicketLog(ctx)
	if err != nil {
		d.log.Debug("cannot read the state of the bucket of tickets", "error", err)
		return
	}
	d.loop.tell(func(time.Time) { d.loop.news.logged(log, known) })
}

// readTickets reads the changes of tickets after a revision.
func (d *Dispatcher) readTickets(ctx context.Context, after uint64) {
	err := d.q.TicketsAfter(ctx, after, func(c queue.Change[queue.Ticket]) {
		d.loop.tell(func(now time.Time) { d.loop.news.found(c, now) })
	})
	if err != nil {
		d.log.Debug("cannot read tickets that no dispatcher has relayed; they are read again in a second", "error", err)
	}
	d.loop.tell(func(now time.Time) { d.loop.news.readAll(err, now) })
}
