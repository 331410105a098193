package dispatcher

import (
	"maps"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/route"
)

// peers are the live dispatchers, this one included. Every host, waiting job and tenant with a cap has a home among
// them. The home acts first, and the others only after a head start: so two seldom offer to one slot or claim one ticket.
// When they do, the agent or the revision of the ticket decides, and the loser tries another.
type peers struct {
	name string               // of this dispatcher
	live map[string]time.Time // until when each presence lasts, by the local clock

	names     []string      // of those, sorted
	roundTrip time.Duration // of an offer, lately
	relays    bool          // hosts are known by relays: see stateSources
}

const (
	handOver         = 4 * time.Millisecond // shortest head start
	headStartLongest = time.Second
)

func newPeers(name string) *peers { return &peers{name: name, live: map[string]time.Time{}} }

// put renews a presence, and reports whether that dispatcher is a new one.
func (p *peers) put(name string, until time.Time) (isNew bool) {
	_, known := p.live[name]
	p.live[name] = until
	if !known {
		p.names = slices.Sorted(maps.Keys(p.live))
	}
	return !known
}

func (p *peers) remove(name string) {
	delete(p.live, name)
	p.names = slices.Sorted(maps.Keys(p.live))
}

// expired are those whose presence should have ended a second ago. It goes by the local clock, which does not jump when
// NATS' time is measured anew after the machine has slept.
func (p *peers) expired(local time.Time) []string {
	var names []string
	for name, until := range p.live {
		if local.After(until.Add(time.Second)) {
			names = append(names, name)
		}
	}
	return names
}

// count is how many there are.
func (p *peers) count() int { return len(p.names) }

// isHome reports whether this dispatcher is the home of a host, or of whatever else has a name. One that has not read
// of any other is the home of everything.
func (p *peers) isHome(name string) bool {
	home := route.Home(p.names, route.HostID(name))
	return home == "" || home == p.name
}

// isTicketHome reports whether this dispatcher is the one that reviews why a job waits, and whether the job is still stored.
func (p *peers) isTicketHome(t *route.Ticket) bool { return p.isHome(string(t.Job)) }

// rank is how many other dispatchers are to claim the ticket of a job before this one.
func (p *peers) rank(id route.JobID) int { return route.Rank(p.names, p.name, route.HostID(id)) }

// delay is how long a dispatcher of a rank leaves a ticket that all have just read, or that becomes due, to those before
// it: ten head starts to each of them. When the first one is late, only the second one tries as well, and not all the others.
// In a large fleet, where only the home of a host gives it waiting jobs, the third one and the others have one more head start each: the
// home of the best host may be the last.
func (p *peers) delay(rank int) time.Duration {
	if rank == 0 {
		return 0
	}
	if !p.relays {
		return time.Duration(rank) * min(10*p.headStart(), delayLongest)
	}
	return time.Duration(9+rank) * min(p.headStart(), handTime)
}

// delayLongest is the longest time that one dispatcher leaves to another that is before it. A dead one is not waited for any more once its
// presence has ended.
const delayLongest = time.Second

// hostRank is how many other dispatchers are to give waiting jobs to a host before this one.
func (p *peers) hostRank(host string) int { return route.Rank(p.names, p.name, route.HostID(host)) }

// isTenantHome reports whether this dispatcher gives the jobs of a tenant with a cap to hosts.
func (p *peers) isTenantHome(tenant route.Tenant) bool { return p.isHome("tenant " + string(tenant)) }

// headStart is how long a slot must have been free before a dispatcher that is not its host's home may use it: a
// few round trips of an offer, so that on a busy machine, where news is late, the home's own offer comes first.
func (p *peers) headStart() time.Duration {
	return min(max(handOver, 4*p.roundTrip), headStartLongest)
}

// offerTook takes in how long an offer took: the round trip is that of the last dozen or so.
func (p *peers) offerTook(d time.Duration) {
	if p.roundTrip == 0 {
		p.roundTrip = d
	}
	p.roundTrip += (d - p.roundTrip) / 8
}
