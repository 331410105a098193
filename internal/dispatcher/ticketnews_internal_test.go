package dispatcher

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// newsOfTickets is a ticketNews with what it has taken in, beside a log of changes of a few keys.
type newsOfTickets struct {
	*ticketNews
	stands map[string]uint64
	asked  []uint64 // what was known each time the state was asked for
	reads  []uint64
	log    []queue.Change[queue.Ticket] // the one at i has the revision i+1
}

func newNewsOfTickets() *newsOfTickets {
	n := &newsOfTickets{stands: map[string]uint64{}}
	n.ticketNews = newTicketNews(ticketNewsParts{
		relay: func(queue.Change[queue.Ticket]) {}, ttl: 15 * time.Second,
		state: func(known uint64) { n.asked = append(n.asked, known) },
		read:  func(after uint64) { n.reads = append(n.reads, after) },
		takeIn: func(c queue.Change[queue.Ticket], _ time.Time) {
			if delete(n.stands, c.Key); c.Phase == queue.Put {
				n.stands[c.Key] = c.Revision
			}
		},
	})
	n.watched(&queue.Change[queue.Ticket]{Phase: queue.Reset})
	n.watched(&queue.Change[queue.Ticket]{Phase: queue.Synced})
	n.closed = true
	return n
}

// changes adds some to the log.
func (n *newsOfTickets) changes(random *rand.Rand, many int) {
	for range many {
		c := queue.Change[queue.Ticket]{Phase: queue.Put, Key: fmt.Sprint("key-", random.IntN(5)), Revision: uint64(len(n.log) + 1)}
		if random.IntN(2) == 0 {
			c.Phase = queue.Gone
		}
		n.log = append(n.log, c)
	}
}

// stored is what stands at the end of the log.
func (n *newsOfTickets) stored() map[string]uint64 {
	stands := map[string]uint64{}
	for _, c := range n.log {
		if delete(stands, c.Key); c.Phase == queue.Put {
			stands[c.Key] = c.Revision
		}
	}
	return stands
}

// answer reads the log behind a revision, without what later changes have replaced.
func (n *newsOfTickets) answer(after uint64, now time.Time) {
	last := map[string]uint64{}
	for _, c := range n.log {
		last[c.Key] = c.Revision
	}
	for _, c := range n.log {
		if c.Revision > after && last[c.Key] == c.Revision {
			n.found(c, now)
		}
	}
	n.readAll(nil, now)
}

// TestNewsOfTicketsThatComeInAnyOrderOrNotAtAll gives changes twice, in any order, or not at all.
func TestNewsOfTicketsThatComeInAnyOrderOrNotAtAll(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		n, now := newNewsOfTickets(), noonUTC
		for range 5 {
			from := len(n.log)
			n.changes(random, 1+random.IntN(20))
			fresh := append(n.log[from:len(n.log):len(n.log)], n.log[from:]...)
			random.Shuffle(len(fresh), func(i, k int) { fresh[i], fresh[k] = fresh[k], fresh[i] })
			for _, c := range fresh[:random.IntN(len(fresh)+1)] {
				n.received(c, now)
			}
			for range 9 {
				now = now.Add(time.Second)
				n.look(now)
				for _, known := range n.asked {
					n.logged(queue.TicketLog{Made: noonUTC, Last: uint64(len(n.log))}, known)
				}
				n.asked = nil
				for _, after := range n.reads {
					n.answer(after, now)
				}
				n.reads = nil
			}
			if want := n.stored(); !maps.Equal(n.stands, want) {
				t.Fatalf("seed %d: %v stand, want %v", seed, n.stands, want)
			}
			if n.known != uint64(len(n.log)) || len(n.ahead)+len(n.newest) != 0 {
				t.Fatalf("seed %d: of %d changes known up to %d, %v ahead, %v newest", seed, len(n.log), n.known, n.ahead, n.newest)
			}
		}
	}
}

func TestNewsOfTicketsThatCannotBeReadAreGivenUpLate(t *testing.T) {
	t.Parallel()
	n, now := newNewsOfTickets(), noonUTC
	n.received(queue.Change[queue.Ticket]{Phase: queue.Put, Key: "a", Revision: 2}, now) // 1 was a marker that has expired
	reads := 0
	for second := range 20 {
		n.look(now.Add(time.Duration(second) * time.Second))
		if len(n.reads) > 0 {
			reads, n.reads = reads+1, nil
			n.readAll(errors.New("no answer"), now.Add(time.Duration(second)*time.Second))
		}
	}
	if n.known != 0 || reads < 10 {
		t.Fatalf("without an answer it knows all up to %d, after %d reads", n.known, reads)
	}
	n.log = []queue.Change[queue.Ticket]{{Phase: queue.Gone, Key: "b", Revision: 1}, {Phase: queue.Put, Key: "a", Revision: 2}, {Phase: queue.Gone, Key: "b", Revision: 3}}
	n.answer(0, now)
	if n.known != 3 || n.stands["a"] != 2 {
		t.Errorf("knows all up to %d: %v", n.known, n.stands)
	}
}

// The watch and relays report the same changes for a while.
func TestTheWatchOfTicketsTellsNothingOlder(t *testing.T) {
	t.Parallel()
	n := newNewsOfTickets()
	n.received(queue.Change[queue.Ticket]{Phase: queue.Gone, Key: "a", Revision: 2}, noonUTC)
	if n.watched(&queue.Change[queue.Ticket]{Phase: queue.Put, Key: "a", Revision: 1}) {
		t.Error("an older ticket is taken in")
	}
	if n.known != 2 || !n.watched(&queue.Change[queue.Ticket]{Phase: queue.Put, Key: "a", Revision: 3}) {
		t.Errorf("a newer one is not; all are known up to %d", n.known)
	}
	n.logged(queue.TicketLog{Made: noonUTC, Last: 3}, 3)
	n.logged(queue.TicketLog{Made: noonUTC, Last: 2}, 2) // it was asked for before the last change
	if n.lost {
		t.Error("a state that was read before a change is taken for a loss")
	}
	n.logged(queue.TicketLog{Made: noonUTC, Last: 2}, 3)
	if !n.lost {
		t.Error("a bucket that has lost changes is trusted")
	}
}
