package route_test

import (
	"container/heap"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/route"
)

// several is several dispatchers that share the news of hosts as docs/architecture.md describes: the state of a host
// reaches its home at once and the others with the next relay, or when there are none after the head start. A ticket reaches the dispatcher that received
// the job at once and the others later, and of several that claim it the first one gets it. A job that is meant for
// a free slot is refused by a host that has none.
type several struct {
	ds       []*member
	home     []int         // by host
	interval time.Duration // between two relays; 0: there are none

	coming  deliveries
	order   uint64
	next1   int // whose turn it is first
	acts    int // the member that gives a job just now; -1 = none
	begun   map[uint64]bool
	refused int
	lost    int // claims
	given   int
	serial  int
}

type member struct {
	*ours
	busy time.Time             // until when it waits for an answer that is a refusal
	free map[route.HostID]bool // as far as it has received
	last map[route.HostID]int  // serial of the newest state

	fresh []*simJob // received and not looked at yet
}

// put takes in a state, unless a newer one is there.
func (m *member) put(state route.HostState, serial int) {
	if serial < m.last[state.ID] {
		return
	}
	m.last[state.ID] = serial
	m.free[state.ID] = len(state.Running) == 0
	m.fleet.PutHost(state)
}

const (
	newsTime   = time.Millisecond     // from an agent to a dispatcher
	ticketTime = 2 * time.Millisecond // from a dispatcher through NATS to all
	headStart  = 4 * time.Millisecond
	handTime   = 100 * time.Millisecond // until a job that waits gets a ticket
)

// delivery is something that a member takes in at a time.
type delivery struct {
	at    time.Time
	order uint64
	do    func()
}

type deliveries []delivery

func (d deliveries) Len() int { return len(d) }
func (d deliveries) Less(i, k int) bool {
	return d[i].at.Before(d[k].at) || d[i].at.Equal(d[k].at) && d[i].order < d[k].order
}
func (d deliveries) Swap(i, k int) { d[i], d[k] = d[k], d[i] }
func (d *deliveries) Push(x any)   { *d = append(*d, x.(delivery)) }
func (d *deliveries) Pop() any {
	last := (*d)[len(*d)-1]
	*d = (*d)[:len(*d)-1]
	return last
}

func newSeveral(dispatchers, hosts int, interval time.Duration) *several {
	p := &several{interval: interval, acts: -1, begun: map[uint64]bool{}, home: make([]int, hosts)}
	names := make([]string, dispatchers)
	for i := range names {
		names[i] = "d-" + strconv.Itoa(i)
		d := &member{ours: newOursOf(hosts), free: map[route.HostID]bool{}, last: map[route.HostID]int{}}
		d.fleet.LeaveToHomes(dispatchers > 1)
		p.ds = append(p.ds, d)
	}
	for host := range p.home {
		p.home[host] = slices.Index(names, route.Home(names, route.HostID(hostName(host))))
	}
	return p
}

func (p *several) deliver(at time.Time, do func()) {
	p.order++
	heap.Push(&p.coming, delivery{at, p.order, do})
}

func (p *several) arrived(s *simulation, j *simJob) {
	first := int(j.sequence % uint64(len(p.ds)))
	p.ds[first].fresh = append(p.ds[first].fresh, j)
}

// wait puts a job into the waiting room of the member that has received it, and later into those of the others.
func (p *several) wait(s *simulation, first int, j *simJob) {
	p.ds[first].arrived(s, j)
	for i, d := range p.ds {
		if i != first {
			p.deliver(p.told(s.now.Add(handTime), first), func() {
				if !p.begun[j.sequence] {
					d.arrived(s, j)
				}
			})
		}
	}
}

// reaches gives when something that a host reports now reaches a member.
func (p *several) reaches(s *simulation, host, member int) time.Time {
	heard := s.now.Add(newsTime)
	home := p.home[host]
	if home != member && p.interval == 0 {
		return heard.Add(headStart)
	}
	if home != member {
		return p.relayed(heard, home).Add(newsTime + headStart)
	}
	return heard
}

// relayed is when a member relays what it knows at a time.
func (p *several) relayed(known time.Time, member int) time.Time {
	shift := p.interval * time.Duration(member) / time.Duration(len(p.ds)) // relays of dispatchers are not in step
	passed := known.Sub(noon) - shift
	return noon.Add(shift + p.interval*time.Duration(math.Ceil(float64(passed)/float64(p.interval))))
}

// told gives when the others know of a ticket that a member has written or claimed: with its next relay, or, when there are no
// relays, by their watches.
func (p *several) told(written time.Time, member int) time.Time {
	if p.interval == 0 {
		return written.Add(ticketTime)
	}
	return p.relayed(written, member).Add(newsTime)
}

func (p *several) changed(s *simulation, host int) {
	state := s.state(host)
	p.serial++
	serial := p.serial
	for i, d := range p.ds {
		mine := state
		mine.Home = p.home[host] == i
		if i == p.acts || s.now.Equal(noon) && s.hosts[host].running == nil {
			d.put(mine, serial)
			continue
		}
		p.deliver(p.reaches(s, host, i), func() { d.put(mine, serial) })
	}
}

func (p *several) ended(s *simulation, host int, j *simJob, took time.Duration) {
	at := s.now
	for i, d := range p.ds {
		p.deliver(p.reaches(s, host, i), func() {
			d.room.Charge(tenant(j.tenant), j.priority, took.Seconds(), at)
			d.fleet.ObserveRun(hashOf(j.hash), route.HostID(hostName(host)), took)
		})
	}
}

func (p *several) next(s *simulation) (*simJob, int, time.Time) {
	p.acts = -1
	for len(p.coming) > 0 && !p.coming[0].at.After(s.now) {
		heap.Pop(&p.coming).(delivery).do()
	}
	var again time.Time
	at := func(t time.Time) {
		if !t.IsZero() && (again.IsZero() || t.Before(again)) {
			again = t
		}
	}
	for range p.ds {
		i := p.next1
		if j, host := p.match(s, i, at); j != nil {
			p.acts = i
			return j, host, time.Time{}
		}
		p.next1 = (p.next1 + 1) % len(p.ds)
	}
	if len(p.coming) > 0 {
		at(p.coming[0].at)
	}
	return nil, 0, again
}

// match is one job that a member gives to a host, if that takes it: first those that it has received, to any host.
func (p *several) match(s *simulation, i int, at func(time.Time)) (*simJob, int) {
	d := p.ds[i]
	for !s.now.Before(d.busy) && len(d.fresh) > 0 {
		j := d.fresh[0]
		id, ok := d.fleet.Choose(route.Want{Hash: hashOf(j.hash), Tenant: tenant(j.tenant), Priority: j.priority}, s.now)
		if !ok {
			d.fresh = d.fresh[1:]
			p.wait(s, i, j)
			continue
		}
		if host, taken := p.offer(s, i, id); taken {
			d.fresh = d.fresh[1:]
			return j, host
		}
	}
	for !s.now.Before(d.busy) {
		t, id, ok := d.room.Pick(d.fleet, s.now)
		if !ok {
			at(d.room.NextDue())
			return nil, 0
		}
		d.room.Remove(t.Sequence)
		if p.begun[t.Sequence] {
			p.lost++
			continue
		}
		host, taken := p.offer(s, i, id)
		if !taken {
			d.room.Put(t)
			continue
		}
		p.begun[t.Sequence] = true
		for k, other := range p.ds {
			if k != i {
				p.deliver(p.told(s.now, i), func() { other.room.Remove(t.Sequence) })
			}
		}
		return d.jobs[t.Sequence], host
	}
	at(d.busy)
	return nil, 0
}

// offer offers a job to a host, which refuses it when it has no room.
func (p *several) offer(s *simulation, i int, id route.HostID) (host int, taken bool) {
	d := p.ds[i]
	host, _ = strconv.Atoi(string(id[len("host-"):]))
	p.given++
	if h := &s.hosts[host]; h.held == nil && (h.running == nil || !d.free[id]) {
		return host, true
	}
	state := s.state(host)
	state.Home = p.home[host] == i
	d.put(state, p.serial)
	d.busy = s.now.Add(offerLatency)
	p.refused++
	return host, false
}

// TestSimulationOfDispatchersWithRelays compares dispatchers that share the news of hosts with one that has it all.
// COMFYHERD_RELAYS="240 12 2h 3" sets the numbers of hosts and dispatchers, how much of a day is simulated, and of how many different days.
func TestSimulationOfDispatchersWithRelays(t *testing.T) {
	t.Parallel()
	hosts, dispatchers, long, days := 24, 4, "30m", 1
	if with := os.Getenv("COMFYHERD_RELAYS"); with != "" {
		if n, err := fmt.Sscan(with, &hosts, &dispatchers, &long, &days); n < 3 {
			t.Fatalf("COMFYHERD_RELAYS=%q: %v", with, err)
		}
	}
	span, err := time.ParseDuration(long)
	if err != nil {
		t.Fatal(err)
	}
	interval := min(max(50*time.Millisecond, time.Duration(dispatchers)*5*time.Millisecond), time.Second)
	one, several := 0, 0
	for day := range days {
		a, b := compareSeveral(t, uint64(day+1), hosts, dispatchers, span, interval)
		one, several = one+a, several+b
	}
	t.Logf("%d model loads with one dispatcher, %d with several", one, several)
	// In parts of one day some more or less are chance.
	if most := map[bool]int{false: one / 10, true: one / 100}[span >= 24*time.Hour || days > 3]; several-one > most {
		t.Errorf("%d model loads, and %d with one dispatcher", several, one)
	}
}

// TestSimulationOfManyDispatchersWithoutRelays is for more than four dispatchers of a small fleet, which leave waiting jobs to homes as well.
func TestSimulationOfManyDispatchersWithoutRelays(t *testing.T) {
	t.Parallel()
	if one, several := compareSeveral(t, 1, 24, 8, 30*time.Minute, 0); several-one > one/10 {
		t.Errorf("%d model loads, and %d with one dispatcher", several, one)
	}
}

// compareSeveral has several dispatchers, and one that has all news at once, do the same part of a day, and gives how many models each loads.
func compareSeveral(t *testing.T, seed uint64, hosts, dispatchers int, span, interval time.Duration) (loadsOfOne, loadsOfSeveral int) {
	t.Helper()
	jobs := dayOf(seed, float64(hosts)/simHosts, span)
	one := simulateOn(hosts, newOursOf(hosts), jobs, time.Time{})
	one.report(t, "one")
	p := newSeveral(dispatchers, hosts, interval)
	several := simulateOn(hosts, p, jobs, time.Time{})
	several.report(t, "several")
	p.report(t)
	if len(several.finished) != len(jobs) {
		t.Errorf("%d of %d jobs ended", len(several.finished), len(jobs))
	}
	if more := several.wastedShare() - one.wastedShare(); more > 0.01 {
		t.Errorf("GPUs idled %.2f %% more of the time while eligible work waited", 100*more)
	}
	if more := several.busyShare() - one.busyShare(); more > 0.01 {
		t.Errorf("GPUs were busy %.2f %% more of the time for the same jobs", 100*more)
	}
	if 10*p.lost > len(jobs) || 10*p.refused > len(jobs) {
		t.Errorf("%d claims were lost and %d offers refused", p.lost, p.refused)
	}
	backlogged := simulateOn(hosts, newSeveral(dispatchers, hosts, interval), backlog(hosts*int(span/time.Minute)*5), noon.Add(span))
	t.Logf("a backlog of all tenants: Jain's index %.5f, idle %.3f %%", backlogged.jain(), 100*backlogged.wastedShare())
	if jain := backlogged.jain(); jain < 0.999 {
		t.Errorf("Jain's index is %.5f", jain)
	}
	return one.loads, several.loads
}

func (p *several) report(t *testing.T) {
	t.Helper()
	t.Logf("%d offers, of which %d were refused; %d claims lost", p.given, p.refused, p.lost)
}
