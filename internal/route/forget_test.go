package route_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/route"
)

// TestWhatIsGoneIsForgotten has tenants, workflows, hosts, jobs, wishes, blocks and strikes come and go that nobody
// has seen before, and compares the heap of later days with that of earlier ones.
func TestWhatIsGoneIsForgotten(t *testing.T) { //nolint:paralleltest // it measures the heap of the process
	const perDay = 20_000
	f, r := route.NewFleet(), route.NewRoom()
	days := 0
	day := func() uint64 {
		for i := range perDay {
			live(f, r, days*perDay+i, noon.Add(time.Duration(days)*24*time.Hour+time.Duration(i)*time.Second))
		}
		days++
		return heapNow()
	}
	day()
	day()
	before := day()
	day()
	day()
	after := day()
	t.Logf("%.1f MB after 3 days, %.1f MB after 6", float64(before)/1e6, float64(after)/1e6)
	if after > before+before/20 {
		t.Errorf("the heap grew from %d to %d bytes", before, after)
	}
	runtime.KeepAlive(f)
	runtime.KeepAlive(r)
}

// live is the whole life of one job, of a tenant and workflow of its own; a host sees a hundred of them.
func live(f *route.Fleet, r *route.Room, i int, now time.Time) {
	host, hash, who := route.HostID(fmt.Sprint("guest-", i/100)), hashOf(i), route.Tenant(fmt.Sprint("tenant-", i))
	if i%100 == 0 {
		f.PutHost(online(string(host)))
	}
	f.PutRequirements(hash, needs(i%50))
	b := block(string(host), i)
	b.Kind = failure.ExecutionError
	f.PutBlock(b)
	ticket := route.Ticket{
		Sequence: uint64(i + 1), Priority: 5, Tenant: who, Job: route.JobID(fmt.Sprint("job-", i)), Hash: hash,
		Wishes: route.Wishes{Prefer: []string{string(host)}}, Received: now, Expires: now.Add(time.Hour),
	}
	r.Put(ticket)
	r.Pick(f, now)
	f.RemoveBlock(host, hash)
	if _, at, ok := r.Pick(f, now); ok {
		f.Occupy(at, route.Run{Tenant: who, Job: ticket.Job, Priority: 5, Hash: hash, Since: now})
		f.Release(at, who, ticket.Job)
	}
	r.Remove(ticket.Sequence)
	r.Charge(who, 5, 10, now)
	f.ObserveRun(hash, host, 10*time.Second)
	if i%100 == 99 {
		f.RemoveHost(host)
	}
}

// After random events everything that a story has put is removed again.
func TestNothingIsLeftOfWhatWasRemoved(t *testing.T) {
	t.Parallel()
	kinds := kinds()
	for seed := range uint64(12) {
		s := newStory(t, seed, kinds)
		if seed == 0 {
			s.hosts, s.hashes = 150, 2
		}
		for range 120 {
			s.step()
			s.ticket()
			s.room.Pick(s.fleet, noon)
		}
		s.removeAll()
		if diff := cmp.Diff(map[string]int{}, s.fleet.Left()); diff != "" {
			t.Errorf("seed %d: the fleet keeps %s", seed, diff)
		}
		if diff := cmp.Diff(map[string]int{}, s.room.Left()); diff != "" {
			t.Errorf("seed %d: the room keeps %s", seed, diff)
		}
	}
}

func (s *story) removeAll() {
	for sequence := range uint64(60) {
		s.room.Remove(sequence)
	}
	s.room.Pick(s.fleet, noon)
	for h := range s.hosts {
		id := route.HostID(fmt.Sprint("h", h))
		s.fleet.RemoveHost(id)
		s.fleet.RemoveCapability(id)
		s.fleet.RemoveGrant(id)
		for n := range s.hashes {
			s.fleet.RemoveBlock(id, hashOf(n))
			s.fleet.RemoveStrikes(id, hashOf(n))
		}
	}
	for n := range s.hashes {
		s.fleet.PutAffinity(hashOf(n), nil, nil)
		for _, tenant := range []route.Tenant{"a", "b", "c"} {
			s.fleet.Withhold(hashOf(n), tenant, false)
		}
	}
}

func heapNow() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
