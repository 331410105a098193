package route_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// story is a random run of events, told to a fleet, a room and a world alike.
type story struct {
	*rand.Rand
	t     *testing.T
	fleet *route.Fleet
	room  *route.Room
	world *world
	next  uint64
	kinds []workflow.Capability

	hosts, hashes int // how many there are
}

// kinds are what hosts that lack one of the models 1 to 4 can run; kinds[0] is not used.
func kinds() []workflow.Capability {
	list := make([]workflow.Capability, 5)
	for k := range list {
		list[k] = kindOf(k)
	}
	return list
}

func newStory(t *testing.T, seed uint64, kinds []workflow.Capability) *story {
	t.Helper()
	return &story{
		Rand: rand.New(rand.NewPCG(seed, 7)), t: t,
		fleet: route.NewFleet(), room: route.NewRoom(), world: newWorld(), next: 1, kinds: kinds, hosts: 7, hashes: 6,
	}
}

func (s *story) host() route.HostID   { return route.HostID(fmt.Sprint("h", s.IntN(s.hosts))) }
func (s *story) hash() workflow.Hash  { return hashOf(s.IntN(s.hashes)) }
func (s *story) tenant() route.Tenant { return pick[route.Tenant](s.Rand, "a", "b", "c") }
func (s *story) size() int64          { return int64(s.IntN(4)) }
func (s *story) terms(n int) []string {
	var list []string
	for range s.IntN(n + 1) {
		list = append(list, pick(s.Rand, string(s.host()), fmt.Sprint("gpu=", s.IntN(3))))
	}
	return list
}

func (s *story) run() route.Run {
	s.next++
	return route.Run{Tenant: s.tenant(), Job: route.JobID(fmt.Sprint("r", s.next)), Priority: s.IntN(3), Hash: s.hash(), Since: noon}
}

func (s *story) want() route.Want {
	w := route.Want{Hash: s.hash(), Tenant: s.tenant(), Size: s.size()}
	if s.IntN(3) == 0 {
		w.Wishes = route.Wishes{Prefer: s.terms(1), Only: s.terms(2), Exclude: s.terms(1), Avoid: s.terms(3)}
		w.AvoidUntil = pick(s.Rand, time.Time{}, noon.Add(time.Second))
	}
	return w
}

// step lets one thing happen.
func (s *story) step() {
	switch s.IntN(12) {
	case 0, 1, 2, 3:
		s.putHost()
	case 4:
		id := s.host()
		s.fleet.RemoveHost(id)
		delete(s.world.hosts, id)
		delete(s.world.offered, id)
	case 5:
		s.putCapability()
	case 6, 7:
		s.block()
	case 8:
		s.probation()
	case 9:
		s.rules()
	default:
		s.occupy()
	}
}

func (s *story) putHost() {
	h := route.HostState{
		ID: s.host(), State: pick(s.Rand, route.Online, route.Online, route.Online, route.Draining, route.Unhealthy),
		Slots: 1 + s.IntN(3), Prefetch: s.IntN(2), Foreign: s.IntN(4) / 3, Memory: int64(s.IntN(3)), Home: s.IntN(2) == 0,
	}
	if s.IntN(3) == 0 {
		h.Blame = route.Blame{Tenant: s.tenant(), Job: "x"}
	}
	for range s.IntN(3) {
		h.Labels = append(h.Labels, fmt.Sprint("gpu=", s.IntN(3)))
	}
	for range s.IntN(6) {
		h.Recent = append(h.Recent, s.hash())
	}
	for _, r := range s.world.runs(h.ID) {
		if s.IntN(2) == 0 {
			h.Running = append(h.Running, r)
		}
	}
	if s.IntN(3) == 0 {
		h.Running = append(h.Running, s.run())
	}
	s.fleet.PutHost(h)
	s.world.hosts[h.ID] = h
	s.world.offered[h.ID] = slices.DeleteFunc(s.world.offered[h.ID], func(r route.Run) bool {
		return slices.ContainsFunc(h.Running, func(k route.Run) bool { return k.Job == r.Job })
	})
}

func (s *story) putCapability() {
	id := s.host()
	if s.IntN(5) == 0 {
		s.fleet.RemoveCapability(id)
		delete(s.world.lacks, id)
		return
	}
	s.world.lacks[id] = 1 + s.IntN(4)
	s.fleet.PutCapability(id, s.kinds[s.world.lacks[id]])
}

func (s *story) block() {
	key := [2]string{string(s.host()), string(s.hash())}
	if s.IntN(2) == 0 {
		s.fleet.RemoveBlock(route.HostID(key[0]), workflow.Hash(key[1]))
		delete(s.world.blocks, key)
		return
	}
	b := route.Block{
		Host: route.HostID(key[0]), Hash: workflow.Hash(key[1]), Until: noon.Add(time.Minute), Size: s.size(),
		Kind:    pick(s.Rand, failure.OutOfMemory, failure.ExecutionError, failure.HostLost, failure.Incapable),
		Tenants: []route.Tenant{pick(s.Rand, "*", s.tenant())},
		Own:     pick(s.Rand, nil, map[route.Tenant]int64{s.tenant(): s.size()}),
	}
	s.fleet.PutBlock(b)
	s.world.blocks[key] = b
}

func (s *story) probation() {
	id, hash := s.host(), s.hash()
	k := route.Strikes{Level: s.IntN(2), Tenants: map[route.Tenant]int{"x": s.IntN(2)}}
	s.fleet.PutStrikes(id, hash, k)
	s.world.strikes[[2]string{string(id), string(hash)}] = k
}

func (s *story) rules() {
	switch hash := s.hash(); s.IntN(5) {
	case 0:
		s.world.prefer[hash], s.world.exclude[hash] = s.terms(1), s.terms(1)
		s.fleet.PutAffinity(hash, s.world.prefer[hash], s.world.exclude[hash])
	case 1:
		if _, known := s.world.needs[hash]; known {
			return
		}
		for m := range 5 {
			if s.IntN(3) == 0 {
				s.world.needs[hash] = append(s.world.needs[hash], m)
			}
		}
		s.world.needs[hash] = append(s.world.needs[hash], 10)
		s.fleet.PutRequirements(hash, needs(s.world.needs[hash]...))
	case 2:
		t := s.tenant()
		s.world.caps[t], s.world.weights[t] = s.IntN(6), float64(s.IntN(3))
		s.fleet.PutTenant(t, s.world.weights[t], s.world.caps[t])
	case 3:
		key, on := [2]string{string(s.tenant()), string(hash)}, s.IntN(2) == 0
		s.fleet.Withhold(hash, route.Tenant(key[0]), on)
		s.world.withheld[key] = on
	case 4:
		s.grant()
	}
}

func (s *story) grant() {
	id := s.host()
	if s.IntN(2) == 0 {
		s.fleet.RemoveGrant(id)
		delete(s.world.given, id)
		return
	}
	tenants := []route.Tenant{s.tenant(), s.tenant()}[:s.IntN(3)]
	s.fleet.PutGrant(id, tenants)
	s.world.given[id] = tenants
}

func (s *story) occupy() {
	id := s.host()
	offered := s.world.offered[id]
	if len(offered) > 0 && s.IntN(2) == 0 {
		s.fleet.Release(id, offered[0].Tenant, offered[0].Job)
		s.world.offered[id] = offered[1:]
		return
	}
	if _, present := s.world.hosts[id]; present {
		r := s.run()
		s.fleet.Occupy(id, r)
		s.world.offered[id] = append(offered, r)
	}
}

func TestChooseAgreesWithThePlainReadingOfTheRules(t *testing.T) {
	t.Parallel()
	kinds := kinds()
	for seed := range uint64(15) {
		s := newStory(t, seed, kinds)
		for step := range 250 {
			s.step()
			s.compareChoice(seed, step)
		}
	}
}

// With so many hosts of so few workflows most sets of hosts are kept as bits, of more than one word.
func TestInALargeFleetChooseAgreesWithThePlainReadingOfTheRules(t *testing.T) {
	t.Parallel()
	kinds := kinds()
	for seed := range uint64(4) {
		s := newStory(t, seed, kinds)
		s.hosts, s.hashes = 150, 2
		for step := range 1500 {
			s.step()
			if step%15 == 0 {
				s.compareChoice(seed, step)
			}
		}
	}
}

func (s *story) compareChoice(seed uint64, step int) {
	w := s.want()
	got, ok := s.fleet.Choose(w, noon)
	best := s.world.best(w, noon)
	if ok != (len(best) > 0) || ok && !slices.Contains(best, got) {
		s.t.Fatalf("seed %d step %d: Choose(%+v) is %q, and the best hosts are %q", seed, step, w, got, best)
	}
	able := s.world.candidates(w, noon)
	for id := range s.world.hosts {
		if may := s.fleet.May(w, id, noon); may != slices.Contains(able, id) {
			s.t.Fatalf("seed %d step %d: May(%+v, %s) is %t, and %q may", seed, step, w, id, may, able)
		}
	}
}

func TestNextAndPickAgreeWithThePlainReadingOfTheRules(t *testing.T) {
	t.Parallel()
	kinds := kinds()
	for seed := range uint64(8) {
		s := newStory(t, seed, kinds)
		s.room.Slice = int(seed % 4) // 0 = no slices
		for step := range 200 {
			s.step()
			s.ticket()
			if step%3 == 0 { // comparing is slow, and a world differs little from the one before
				s.compareTurn(seed, step)
			}
		}
	}
}

// ticket puts, replaces or removes tickets, and charges lanes.
func (s *story) ticket() {
	s.next++
	w := s.want()
	t := route.Ticket{
		Sequence: uint64(s.IntN(60)), Revision: s.next, Priority: s.IntN(3), Tenant: w.Tenant, Hash: w.Hash, Size: w.Size,
		Job: route.JobID(fmt.Sprint("t", s.next)), Wishes: w.Wishes, AvoidUntil: w.AvoidUntil,
	}
	t.Received = noon.Add(-time.Duration(60-t.Sequence) * 30 * time.Second) // a later sequence is younger
	if len(t.Avoid) == 0 {
		t.AvoidUntil = time.Time{}
	}
	s.room.Put(t)
	s.world.put(t)
	if s.IntN(2) == 0 {
		tenant, priority, seconds := s.tenant(), s.IntN(3), float64(s.IntN(100))+s.Float64()
		s.room.Charge(tenant, priority, seconds, noon)
		s.world.charge(tenant, priority, seconds)
	}
	if s.IntN(2) == 0 {
		gone := uint64(s.IntN(60))
		if _, there := s.world.tickets[gone]; s.room.Remove(gone) != there {
			s.t.Fatalf("ticket %d was there: %t", gone, there)
		}
		delete(s.world.tickets, gone)
	}
	if s.room.Len() != len(s.world.tickets) {
		s.t.Fatalf("%d tickets wait, not %d", s.room.Len(), len(s.world.tickets))
	}
}

func (s *story) compareTurn(seed uint64, step int) {
	for s.room.CatchUp(s.fleet, noon) {
	}
	for id := range s.world.hosts {
		got, ok := s.room.Next(s.fleet, id, noon)
		for s.room.Unfinished() {
			got, ok = s.room.Next(s.fleet, id, noon)
		}
		want, there := s.world.turn(id, noon)
		if ok != there || got.Sequence != want.Sequence {
			s.t.Fatalf("seed %d step %d: Next(%s) is %+v, and should be %+v", seed, step, id, got, want)
		}
	}
	got, host, ok := s.room.Pick(s.fleet, noon)
	for s.room.Unfinished() {
		got, host, ok = s.room.Pick(s.fleet, noon)
	}
	want, there := s.world.turn("", noon)
	if ok != there || got.Sequence != want.Sequence {
		s.t.Fatalf("seed %d step %d: Pick is %+v, and should be %+v", seed, step, got, want)
	}
	if ok && !slices.Contains(s.world.best(got.Want(), noon), host) {
		s.t.Fatalf("seed %d step %d: Pick names %s for %+v", seed, step, host, got)
	}
	if kept, ok := s.room.Get(got.Sequence); there && (!ok || kept.Job != want.Job) {
		s.t.Fatalf("seed %d step %d: Get is %+v", seed, step, kept)
	}
	if byJob, ok := s.room.ByJob(want.Tenant, want.Job); there && (!ok || byJob.Sequence != want.Sequence) {
		s.t.Fatalf("seed %d step %d: ByJob is %+v", seed, step, byJob)
	}
}
