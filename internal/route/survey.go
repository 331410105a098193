package route

import (
	"cmp"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
)

// Turn is the key, in counts by reason, of jobs that some host may take and that only wait for their turn.
const Turn = "turn"

// Survey is what is counted of all hosts, blocks and tickets.
type Survey struct {
	Time            time.Time
	Hosts           map[Availability]int
	Busy, Free, Out int // slots; Out are those of hosts that are given no jobs
	Blocks          map[failure.Kind]int
	Active, Blocked int // Active: pairs of a host that is present and a workflow that it ran lately or that is blocked there; Blocked: those that are blocked
	Tenants         map[Tenant]*TenantSurvey
	Wanted          map[string]int // hosts that each pool wants
	Capacity        int            // tickets that were counted

	order []orderedLane
	later []laterTicket
}

// TenantSurvey is what is counted of a tenant.
type TenantSurvey struct {
	Weight     float64
	MaxRunning int // 0 = no cap
	Running    int
	Waiting    map[HoldReason]int
	OldestDue  time.Time // since when the oldest ticket is due that the tenant's cap does not hold back; zero = there is none
	Used       float64   // GPU-seconds lately, see ShareHalfLife
}

// SurveyOptions say what hosts a fleet should have. The zero value works: there is one pool, with the name "".
type SurveyOptions struct {
	PoolLabel string        // key of the label whose values are the names of pools
	Target    time.Duration // how long a due job should wait at most; default 1 min
}

const defaultTarget = time.Minute

// Survey counts. It calls pause wherever other work on the fleet and the room may be done in between, and gives up when
// pause returns false. What changes meanwhile is counted as it was or as it is.
func (r *Room) Survey(f *Fleet, o SurveyOptions, now time.Time, pause func() bool) *Survey {
	if o.Target <= 0 {
		o.Target = defaultTarget
	}
	over := false
	s := &surveyor{
		Survey: Survey{Time: now, Hosts: map[Availability]int{}, Blocks: map[failure.Kind]int{}, Tenants: map[Tenant]*TenantSurvey{}},
		room:   r, fleet: f, options: o, now: now, reasons: map[*class]HoldReason{}, away: map[*class]bool{}, pools: map[string]*poolDemand{},
	}
	s.pause = func() bool {
		over = over || !pause()
		return !over
	}
	r.sync(f, now)
	if s.countHosts() && s.countBlocks() && s.countTickets() && s.countDemand() && s.countLanes() {
		s.Wanted = s.wanted()
	}
	return &s.Survey
}

// surveyor is a Survey that is being made.
type surveyor struct {
	Survey
	room    *Room
	fleet   *Fleet
	options SurveyOptions
	now     time.Time
	pause   func() bool
	reasons map[*class]HoldReason // of due tickets
	away    map[*class]bool       // only hosts that are not online can run it
	pools   map[string]*poolDemand
}

// pauseAfter is pause after something that takes as long as several steps.
func (s *surveyor) pauseAfter(steps int) bool {
	for range steps {
		if !s.pause() {
			return false
		}
	}
	return true
}

func (s *surveyor) countHosts() bool {
	for n := int32(0); int(n) < len(s.fleet.hosts); n++ {
		h := s.fleet.hosts[n]
		if h == nil || !h.present {
			continue
		}
		s.Hosts[h.state]++
		busy := min(h.used(), h.slots)
		s.Busy += busy
		if h.state == Online {
			s.Free += h.slots - busy
		} else {
			s.Out += h.slots - busy
		}
		s.Active += len(h.warm) + int(h.blocks)
		s.Blocked += int(h.blocks)
		for _, x := range h.warm {
			if _, both := x.blockAt(n); both {
				s.Active--
			}
		}
		s.notePool(h)
		if !s.pause() {
			return false
		}
	}
	return true
}

func (s *surveyor) countBlocks() bool {
	for _, x := range s.fleet.hashes {
		for _, b := range x.blocks {
			s.Blocks[b.shared.Value().kind]++
		}
		if !s.pauseAfter(1 + len(x.blocks)/8) {
			return false
		}
	}
	return true
}

// countTickets does not pause between finding a record and being done with it, since the record may then be another ticket's, and the
// room may have fewer places.
func (s *surveyor) countTickets() bool {
	for at := 0; at < s.room.Places(); {
		steps := 1
		for end := min(at+8, s.room.Places()); at < end && steps == 1; at++ {
			if x := s.room.records.at(int32(at)); x.class != nil {
				steps += s.countTicket(x)
			}
		}
		if !s.pauseAfter(steps) {
			return false
		}
	}
	return true
}

// countTicket gives how many steps it took beside the usual ones: a class is judged when its first ticket is counted.
func (s *surveyor) countTicket(x *record) (steps int) {
	t := s.tenant(x.class.lane.tenant)
	s.Capacity++
	if x.times != nil && x.times.notBefore > s.now.UnixNano() {
		t.Waiting[NotDue]++
		s.later = append(s.later, laterTicket{x.times.notBefore, Placed{x.sequence, x.class.lane.tenant}})
		return 0
	}
	reason, known := s.reasons[x.class]
	if !known {
		reason, steps = s.judge(x), 4
	}
	t.Waiting[reason]++
	since := moment(x.dueSince())
	if reason != OverCap && (t.OldestDue.IsZero() || since.Before(t.OldestDue)) {
		t.OldestDue = since
	}
	return steps
}

// judge finds out why the due tickets of a record's class wait.
func (s *surveyor) judge(x *record) HoldReason {
	want := x.ticket()
	w := want.Want()
	w.NotBefore = time.Time{}
	hold := s.fleet.Hold(w, s.now)
	reason := hold.Reason
	if reason == "" {
		reason = Turn
	}
	s.away[x.class] = reason == NoneCapable && (hold.Away > 0 || !hold.Online)
	s.reasons[x.class] = reason
	return reason
}

func (s *surveyor) tenant(name Tenant) *TenantSurvey {
	t := s.Tenants[name]
	if t == nil {
		t = &TenantSurvey{Weight: s.fleet.weight(name), MaxRunning: s.fleet.Cap(name), Running: s.fleet.Running(name), Waiting: map[HoldReason]int{}}
		s.Tenants[name] = t
	}
	return t
}

// countLanes adds what tenants have used, also those of which nothing waits, and copies the order of what is due.
func (s *surveyor) countLanes() bool {
	step, scale := int64(s.room.ageStep()), s.room.scale(s.room.now)
	lanes := make([]*lane, 0, len(s.room.lanes))
	for _, l := range s.room.lanes {
		lanes = append(lanes, l)
	}
	for _, l := range lanes {
		if l.facts == nil && l.members > 0 {
			l.resolveTenant(s.fleet)
		}
		used := l.used / scale
		if l.members == 0 && used < 1 && (l.facts == nil || l.facts.total == 0) {
			continue
		}
		s.tenant(l.tenant).Used += used
		if l.depth > 0 && l.facts != nil {
			o := orderedLane{
				tenant: l.tenant, aged: l.agedPriority(s.room.now, step), rank: l.rank(scale), weight: max(s.fleet.weight(l.tenant), 1e-9),
				closed: l.facts.full() || l.facts.liable(), due: make([]uint64, 0, l.depth),
			}
			for _, p := range l.published {
				for _, part := range p.due.parts {
					o.due = append(o.due, part...)
				}
			}
			if len(l.published) > 1 {
				slices.Sort(o.due)
			}
			s.order = append(s.order, o)
		}
		if !s.pauseAfter(1 + l.depth/1024) {
			return false
		}
	}
	for t, facts := range s.fleet.tenants {
		if facts.total > 0 {
			s.tenant(t)
		}
	}
	return true
}

// orderedLane is a lane as far as the order of its tickets is concerned.
type orderedLane struct {
	tenant       Tenant
	aged         int
	rank, weight float64
	closed       bool // its tenant may start nothing now
	due          []uint64
}

// laterTicket is a ticket that is not due.
type laterTicket struct {
	due int64
	Placed
}

// Placed is a ticket in an order.
type Placed struct {
	Sequence uint64
	Tenant   Tenant
}

// Order lists all tickets in the order in which they are expected to start, as Position counts them: first the
// lanes of a higher aged priority, of equal ones the lanes by turns and weights, then the lanes of tenants that may start nothing
// now, and at last what is not due. It needs neither the room nor the fleet, and may be called on any goroutine.
func (s *Survey) Order() []Placed {
	type place struct {
		closed bool
		aged   int
		turn   float64
		rank   float64
		lane   int
	}
	places := make([]place, 0, s.Capacity)
	var list []Placed
	for i := range s.order {
		l := &s.order[i]
		for k, sequence := range l.due {
			places = append(places, place{l.closed, l.aged, float64(k) / l.weight, l.rank, len(list)})
			list = append(list, Placed{sequence, l.tenant})
		}
	}
	slices.SortStableFunc(places, func(a, b place) int {
		if a.closed != b.closed {
			if a.closed {
				return 1
			}
			return -1
		}
		return cmp.Or(cmp.Compare(b.aged, a.aged), cmp.Compare(a.turn, b.turn), cmp.Compare(a.rank, b.rank), cmp.Compare(a.lane, b.lane))
	})
	order := make([]Placed, 0, len(list)+len(s.later))
	for _, p := range places {
		order = append(order, list[p.lane])
	}
	later := slices.Clone(s.later)
	slices.SortFunc(later, func(a, b laterTicket) int {
		return cmp.Or(cmp.Compare(a.due, b.due), cmp.Compare(a.Sequence, b.Sequence))
	})
	for _, t := range later {
		order = append(order, t.Placed)
	}
	return order
}
