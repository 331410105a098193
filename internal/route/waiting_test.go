package route_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/route"
)

// backlogs are kinds of tickets that stand before the one that a test looks for, by name.
func backlogs() map[string]func(i int) route.Ticket {
	base := func(i int) route.Ticket {
		return route.Ticket{
			Sequence: uint64(i + 1), Revision: uint64(i + 1), Priority: 5, Tenant: tenant(i % benchTenants), Hash: hashOf(1),
			Job: route.JobID(fmt.Sprintf("0b8d2f0e-8a4e-4c39-a6a5-%012d", i)), Attempt: 1, Received: noon.Add(-time.Minute),
		}
	}
	return map[string]func(i int) route.Ticket{
		"one blocked hash": base,
		"own hashes, pinned to busy hosts": func(i int) route.Ticket {
			t := base(i)
			t.Hash, t.Only = hashOf(1000+i), []string{hostName(1 + i%999)}
			return t
		},
		"own hashes, their hosts busy": func(i int) route.Ticket {
			t := base(i)
			t.Hash, t.Only = hashOf(1000+i), []string{"gpu=1"}
			return t
		},
		"own hashes, can run": func(i int) route.Ticket {
			t := base(i)
			t.Priority, t.Hash = 0, hashOf(1000+i)
			return t
		},
		"few hashes, can run": func(i int) route.Ticket {
			t := base(i)
			t.Priority, t.Hash = 0, hashOf(2+i%50)
			return t
		},
	}
}

// busyFleet has 1 000 hosts, of which only the first, of label gpu=0, has a free slot; hash 1 is blocked on all.
func busyFleet() *route.Fleet {
	f := route.NewFleet()
	for i := range 1000 {
		s := online(hostName(i))
		s.Labels = []string{fmt.Sprint("gpu=", i%2)}
		if i > 0 {
			s.Running = []route.Run{{Tenant: "other", Job: route.JobID(fmt.Sprint(i)), Hash: hashOf(0), Since: noon}}
		}
		f.PutHost(s)
		f.PutBlock(block(hostName(i), 1))
	}
	return f
}

// TestNextPassesOverWorkThatCannotRun has up to 100 000 tickets stand before the one that can.
func TestNextPassesOverWorkThatCannotRun(t *testing.T) {
	t.Parallel()
	for name, ticket := range backlogs() {
		f, r := busyFleet(), route.NewRoom()
		n := 10_000
		if name == "own hashes, pinned to busy hosts" {
			n = 100_000
		}
		for i := range n {
			r.Put(ticket(i))
		}
		r.Put(route.Ticket{Sequence: 1 << 40, Priority: 3, Tenant: "acme", Job: "mine", Hash: hashOf(2), Received: noon})
		if got, ok := r.Next(f, route.HostID(hostName(0)), noon); !ok || got.Job != "mine" {
			t.Errorf("%s: Next is %+v", name, got)
		}
		if got, host, ok := r.Pick(f, noon); !ok || got.Job != "mine" || host != route.HostID(hostName(0)) {
			t.Errorf("%s: Pick is %+v on %s", name, got, host)
		}
	}
}

// TestADecisionAllocatesNothing is for the largest fleet that is measured, and a long room.
func TestADecisionAllocatesNothing(t *testing.T) { //nolint:paralleltest // it counts the allocations of the process
	f := benchFleet(10_000, 100, true)
	wants, i := benchWants(f), 0
	if n := testing.AllocsPerRun(1000, func() { f.Choose(wants[i%len(wants)], noon); i++ }); n > 0 {
		t.Errorf("Choose allocates %.0f times", n)
	}
	idle := route.HostID(hostName(0))
	for name, ticket := range backlogs() {
		f, r := busyFleet(), route.NewRoom()
		for i := range 10_000 {
			r.Put(ticket(i))
		}
		r.Put(route.Ticket{Sequence: 1 << 40, Priority: 3, Tenant: "acme", Job: "mine", Hash: hashOf(2), Received: noon})
		r.Next(f, idle, noon)
		if n := testing.AllocsPerRun(100, func() { r.Next(f, idle, noon) }); n > 0 {
			t.Errorf("%s: Next allocates %.0f times", name, n)
		}
	}
}

func TestATicketTakesAtMost200Bytes(t *testing.T) { //nolint:paralleltest // it measures the heap of the process
	const n = 100_000
	ticket := backlogs()["few hashes, can run"]
	perTicket := func() float64 {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		r := route.NewRoom()
		for i := range n {
			r.Put(ticket(i))
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(r)
		return float64(after.HeapAlloc-before.HeapAlloc) / n
	}
	got := perTicket()
	t.Logf("%.0f bytes for each of %d tickets, of which 36 are the job's id", got, n)
	if got > 200 {
		t.Errorf("%.0f bytes", got)
	}
}

func heapInUse() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

func TestAnEmptyRoomGivesBackWhatALongLineTook(t *testing.T) { //nolint:paralleltest // it measures the heap of the process
	const n = 50_000
	for _, name := range []string{"few hashes, can run", "own hashes, their hosts busy"} {
		f, r, ticket := busyFleet(), route.NewRoom(), backlogs()[name]
		before := heapInUse()
		for i := range n {
			r.Put(ticket(i))
		}
		r.Pick(f, noon)
		full := heapInUse()
		for i := range n {
			r.Remove(uint64(i + 1))
		}
		r.Pick(f, noon)
		// What is known of the hashes that were used last is kept: of a third of them here.
		if left, took := heapInUse()-before, full-before; left > took/3 {
			t.Errorf("%s: of %.0f kB for %d tickets %.0f kB are left when all have gone", name, took/1024, n, left/1024)
		}
		r.Put(ticket(7))
		if got, found := r.Get(8); !found || got.Sequence != 8 || r.Len() != 1 {
			t.Errorf("%s: the room has lost its next ticket: %+v", name, got)
		}
	}
}

// A cost that grows with the square of the line would be a hundred times the other one's per job.
func TestAJobsCostDoesNotGrowWithTheLineBeforeIt(t *testing.T) { //nolint:paralleltest // it measures time
	perJob := func(n int) time.Duration {
		f, r, ticket := busyFleet(), route.NewRoom(), backlogs()["few hashes, can run"]
		began := time.Now()
		for i := range n {
			r.Put(ticket(i))
			r.Pick(f, noon)
		}
		for r.Len() > 0 {
			next, ok := r.Next(f, route.HostID(hostName(0)), noon)
			if !ok {
				t.Fatalf("%d jobs are left and none can run", r.Len())
			}
			r.Remove(next.Sequence)
		}
		return time.Since(began) / time.Duration(n)
	}
	short, long := perJob(100), perJob(10_000)
	for range 2 { // the quickest of three: the machine has other work
		short, long = min(short, perJob(100)), min(long, perJob(10_000))
	}
	t.Logf("%v a job in a line of 100, %v in one of 10 000", short, long)
	if long > 40*short {
		t.Errorf("a job costs %v in a line of 10 000 and %v in one of 100", long, short)
	}
}

func BenchmarkNext(b *testing.B) {
	idle := route.HostID(hostName(0))
	for name, ticket := range backlogs() {
		f := busyFleet()
		for _, n := range []int{1000, 100_000} {
			r := route.NewRoom()
			for i := range n {
				r.Put(ticket(i))
			}
			r.Put(route.Ticket{Sequence: 1 << 40, Priority: 3, Tenant: "acme", Job: "mine", Hash: hashOf(2), Received: noon})
			r.Next(f, idle, noon)
			b.Run(fmt.Sprintf("%s/waiting=%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, ok := r.Next(f, idle, noon); !ok {
						b.Fatal("nothing can run")
					}
				}
			})
			b.Run(fmt.Sprintf("%s/waiting=%d/turnover", name, n), func(b *testing.B) { turnover(b, f, r) })
		}
	}
}

// turnover has the next job taken out and put back.
func turnover(b *testing.B, f *route.Fleet, r *route.Room) {
	b.Helper()
	b.ReportAllocs()
	for b.Loop() {
		t, _, ok := r.Pick(f, noon)
		if !ok {
			b.Fatal("nothing can run")
		}
		r.Remove(t.Sequence)
		r.Put(t)
	}
}

// BenchmarkLanes has 20 000 jobs that can all run wait in n lanes, and one of them taken out and put back.
func BenchmarkLanes(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000} {
		f, r := busyFleet(), route.NewRoom()
		for i := range 20_000 {
			t := backlogs()["few hashes, can run"](i)
			t.Tenant = tenant(i % n)
			r.Put(t)
		}
		b.Run(fmt.Sprintf("lanes=%d", n), func(b *testing.B) { turnover(b, f, r) })
	}
}

// BenchmarkHostComes has a host come and go while jobs of n workflows wait, with a decision after each, in slices. It
// reports the longest call.
func BenchmarkHostComes(b *testing.B) {
	for _, n := range []int{1000, 100_000} {
		f, r := busyFleet(), route.NewRoom()
		r.Slice = 256
		ticket := backlogs()["own hashes, their hosts busy"]
		for i := range n {
			r.Put(ticket(i))
		}
		for r.CatchUp(f, noon) {
		}
		b.Run(fmt.Sprintf("workflows=%d", n), func(b *testing.B) {
			var longest time.Duration
			call := func(do func()) {
				began := time.Now()
				do()
				longest = max(longest, time.Since(began))
			}
			again := func() {
				call(func() { r.Next(f, "guest", noon) })
				for r.Unfinished() {
					call(func() { r.CatchUp(f, noon) })
				}
			}
			for b.Loop() {
				call(func() { f.PutHost(online("guest")) })
				again()
				call(func() { f.RemoveHost("guest") })
				again()
			}
			b.ReportMetric(float64(longest.Microseconds()), "µs/longest-call")
		})
	}
}

// blockedHost has a host that is idle, and blocked for the jobs of n workflows that wait; all others are busy.
func blockedHost(n int) (*route.Fleet, *route.Room) {
	f, r := busyFleet(), route.NewRoom()
	r.Slice = 256
	for i := range n {
		t := backlogs()["few hashes, can run"](i)
		t.Hash = hashOf(1000 + i)
		r.Put(t)
		f.PutBlock(block(hostName(0), 1000+i))
	}
	for r.CatchUp(f, noon) {
	}
	return f, r
}

// BenchmarkBlockedHost picks beside an idle host that is blocked for all that wait. It reports the longest pick, which is
// one of the first: these find out that it is.
func BenchmarkBlockedHost(b *testing.B) {
	for _, n := range []int{1000, 10_000, 50_000} {
		f, r := blockedHost(n)
		b.Run(fmt.Sprintf("workflows=%d", n), func(b *testing.B) {
			var longest time.Duration
			pick := func() {
				began := time.Now()
				if _, host, ok := r.Pick(f, noon); ok {
					b.Fatalf("%s gets a job", host)
				}
				longest = max(longest, time.Since(began))
			}
			for pick(); r.Unfinished(); {
				pick()
			}
			for b.Loop() {
				pick()
			}
			b.ReportMetric(float64(longest.Microseconds()), "µs/longest-pick")
		})
	}
}

// TestTheLineBehindABlockedHostIsLookedAtOnce has as many workflows wait as a slice has, and more.
func TestTheLineBehindABlockedHostIsLookedAtOnce(t *testing.T) {
	t.Parallel()
	f, r := blockedHost(3 * 256)
	for n := range 3 {
		if _, host, ok := r.Pick(f, noon); ok || !r.Unfinished() {
			t.Fatalf("pick %d: %s gets a job, and unfinished is %t", n, host, r.Unfinished())
		}
	}
	if _, host, ok := r.Pick(f, noon); ok || r.Unfinished() {
		t.Fatalf("after all were looked at: %s gets a job, and unfinished is %t", host, r.Unfinished())
	}
	f.RemoveBlock(route.HostID(hostName(0)), hashOf(1000+700))
	if got, ok := r.Next(f, route.HostID(hostName(0)), noon); !ok || got.Hash != hashOf(1700) {
		t.Errorf("when a block has ended, its host gets %+v", got)
	}
}

// TestALaneTakesAtMost1kB has one ticket wait in each of many lanes.
func TestALaneTakesAtMost1kB(t *testing.T) { //nolint:paralleltest // it measures the heap of the process
	const n = 10_000
	f := busyFleet()
	before := heapNow()
	r := route.NewRoom()
	for i := range n {
		ticket := backlogs()["few hashes, can run"](i)
		ticket.Tenant, ticket.Hash = tenant(i), hashOf(2)
		r.Put(ticket)
	}
	r.Pick(f, noon)
	got := float64(heapNow()-before) / n
	runtime.KeepAlive(r)
	t.Logf("%.0f bytes for each of %d lanes with one ticket", got, n)
	if got > 1000 {
		t.Errorf("%.0f bytes", got)
	}
}
