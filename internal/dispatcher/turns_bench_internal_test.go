package dispatcher

import (
	"context"
	"fmt"
	"iter"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

// The benchmarks of the loop's turns. Each has a dispatcher with a large fleet and a long queue do one thing, and reports
// the longest turn that the loop took for it: nothing else was decided meanwhile. Where the system tells it, that is the CPU time
// of the loop's thread, so that what else runs on the machine does not count.

// stillWire is a NATS in which nothing happens but what a benchmark does. One job waits there.
type stillWire struct {
	wire
	waiting job.Message
	chain   []queue.Link
}

func (w *stillWire) Now() time.Time             { return time.Now().Round(0) }
func (w *stillWire) AckWait() time.Duration     { return 30 * time.Second }
func (w *stillWire) PresenceTTL() time.Duration { return time.Hour }
func (w *stillWire) EventsAge() time.Duration   { return time.Hour }
func (w *stillWire) AnswerBytes() int           { return 1 << 20 }
func (w *stillWire) JobsRoom() int64            { return 0 }
func (w *stillWire) LaneCap() int64             { return 10_000 }

func (w *stillWire) Chain(context.Context, job.Tenant, job.ID) ([]queue.Link, error) {
	return w.chain, nil
}

func (w *stillWire) Stored(context.Context, uint64) (job.Message, error) { return w.waiting, nil }

func (w *stillWire) Last(context.Context, job.Tenant, job.ID) (queue.Link, bool, error) {
	return w.chain[0], true, nil
}

func (w *stillWire) AnnounceHost(context.Context, string, queue.HostEventKind, string) error {
	return nil
}

// turnScene is a dispatcher whose loop runs, and which notes the longest of its turns.
type turnScene struct {
	*Dispatcher
	ended chan error

	oneThread bool // the loop stays on one thread, whose CPU time is then known; not when calls are answered in slices

	mu      sync.Mutex // guards the longest
	longest time.Duration
}

func newTurnScene(b *testing.B) *turnScene {
	b.Helper()
	o := ownedJob(b, "acme", 1<<30, 1)
	w := &stillWire{waiting: o.message}
	e := o.job.NewEvent(job.Queued, noonUTC)
	e.Sequence = o.job.Sequence
	w.chain = []queue.Link{{Event: e, ChainSequence: 1}}
	d, err := newOn(w, Config{Name: "me", WaitingCap: 1 << 20})
	if err != nil {
		b.Fatal(err)
	}
	s := &turnScene{Dispatcher: d, ended: make(chan error, 1)}
	var began threadTime
	d.loop.turnBegan = func() { began = threadTimeNow() }
	d.loop.turnEnded = func(took time.Duration) {
		used, known := threadTimeNow().since(began)
		if !known {
			used = took
		}
		s.mu.Lock()
		s.longest = max(s.longest, used)
		s.mu.Unlock()
	}
	d.loop.unsynced = 1
	d.loop.peers.put("me", time.Now().Add(time.Hour))
	return s
}

// start has the loop run until the benchmark ends.
func (s *turnScene) start(b *testing.B) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	s.loop.bucketKnown()
	go func() { s.ended <- s.loop.run(ctx) }()
	b.Cleanup(func() {
		cancel()
		<-s.ended
		s.walks.Wait()
	})
	s.loop.ask(func(time.Time) {
		if s.oneThread {
			runtime.LockOSThread()
		}
		s.loop.walk = func(func(context.Context)) {}
	})
	s.settle()
}

// run measures do. It reports the longest turn that one do takes, as the median of all of them, and the longest of all.
func (s *turnScene) run(b *testing.B, name string, do func()) {
	b.Helper()
	b.Run(name, func(b *testing.B) {
		s.take()
		var each []time.Duration
		for b.Loop() {
			do()
			each = append(each, s.take())
		}
		slices.Sort(each)
		b.ReportMetric(float64(each[len(each)/2].Microseconds()), "µs/turn")
		b.ReportMetric(float64(each[len(each)-1].Microseconds()), "µs/longest")
	})
}

// take gives the longest turn since it was called last.
func (s *turnScene) take() time.Duration {
	s.loop.ask(func(time.Time) {})
	s.mu.Lock()
	defer s.mu.Unlock()
	longest := s.longest
	s.longest = 0
	return longest
}

func benchHost(i int) string { return fmt.Sprintf("host-%05d", i) }

func benchHash(i int) workflow.Hash { return workflow.Hash(fmt.Sprintf("%064x", i)) }

// addHosts adds hosts that are busy, but for the first, of two installations.
func (s *turnScene) addHosts(n int) {
	for i := range n {
		state := onlineHost(benchHost(i), 1, 1)
		if i > 0 {
			state.Running = []queue.RunningJob{{Tenant: "other", Job: job.ID(fmt.Sprint("run", i)), Hash: benchHash(0), Since: noonUTC}}
		}
		s.loop.capable.put(state.Host, benchKind(i%2), noonUTC)
		s.loop.hosts.report(&state, noonUTC)
	}
}

// benchKind is one of two installations: only the first has the node class A.
func benchKind(k int) workflow.Capability {
	var c workflow.CapabilityBuilder
	c.AddClass("SaveImage")
	if c.AddClass("EmptyImage1"); k == 0 {
		c.AddClass("A")
	}
	return workflow.NewCapability(&c)
}

// addBlocks adds blocks and strikes of as many pairs.
func (s *turnScene) addBlocks(n, hosts int) {
	for i := range n {
		block := route.Block{
			Host: route.HostID(benchHost(i % hosts)), Hash: benchHash(1<<24 + i/hosts), Kind: failure.HostLost, Message: "lost",
			Tenants: []route.Tenant{route.Everyone}, Until: noonUTC.Add(time.Hour),
		}
		s.loop.blocks.put(&block, noonUTC)
		s.loop.blocks.putStrikes(pair{string(block.Host), block.Hash}, &route.Strikes{Level: 1, Open: &block})
		s.loop.guilt.putStrikes(pair{string(block.Host), block.Hash}, &route.Strikes{Level: 1, Open: &block})
	}
}

// addTickets has jobs of as many workflows wait for hosts of the first installation.
func (s *turnScene) addTickets(b *testing.B, n int) {
	b.Helper()
	for i := range n {
		s.loop.fleet.PutRequirements(benchHash(i), workflow.Requirements{Classes: []string{"A"}})
		s.loop.putTicket(route.Ticket{
			Sequence: uint64(i + 1), Revision: uint64(i + 1), Priority: 5, Tenant: "acme", Hash: benchHash(i),
			Job: route.JobID(fmt.Sprint("job-", i)), Attempt: 1, Received: noonUTC,
		})
		s.loop.room.PlaceNew(s.loop.fleet, noonUTC)
	}
	last := ownedJob(b, "acme", 1<<30, 1)
	s.loop.needs.learn(last.job)
	s.loop.putTicket(ticketOf(last, 1<<30))
	s.block(last.job.Graph.Hash())
}

// block blocks the idle host for a workflow.
func (s *turnScene) block(hash workflow.Hash) {
	s.loop.blocks.put(&route.Block{
		Host: route.HostID(benchHost(0)), Hash: hash, Kind: failure.HostLost, Tenants: []route.Tenant{route.Everyone},
	}, noonUTC)
}

func benchScenes(b *testing.B, oneThread bool, each func(b *testing.B, s *turnScene)) {
	b.Helper()
	for _, size := range []struct{ hosts, blocks, tickets int }{{1000, 100_000, 0}, {10_000, 0, 100_000}} {
		b.Run(fmt.Sprintf("hosts=%d/blocks=%d/workflows=%d", size.hosts, size.blocks, size.tickets), func(b *testing.B) {
			defer debug.SetGCPercent(debug.SetGCPercent(300)) // as the commands
			s := newTurnScene(b)
			s.oneThread = oneThread
			s.addHosts(size.hosts)
			s.addBlocks(size.blocks, size.hosts)
			s.addTickets(b, size.tickets)
			// The idle host is blocked for everybody.
			for i := range size.tickets {
				s.block(benchHash(i))
			}
			s.start(b)
			each(b, s)
		})
	}
}

// BenchmarkTurnOfAQuestion asks what operators and tenants ask.
func BenchmarkTurnOfAQuestion(b *testing.B) {
	ctx := context.Background()
	benchScenes(b, false, func(b *testing.B, s *turnScene) {
		b.Helper()
		check := func(err error) {
			if err != nil {
				b.Fatal(err)
			}
		}
		s.run(b, "hosts", func() {
			_, err := s.apiHosts(ctx, queue.HostsRequest{})
			check(err)
		})
		s.run(b, "blocks", func() {
			_, err := s.apiBlocks(ctx, queue.BlocksRequest{})
			check(err)
		})
		s.run(b, "status", func() {
			_, err := s.apiStatus(ctx, jetstream.StatusRequest{Tenant: "acme", Job: "acme-1073741824"})
			check(err)
		})
		s.run(b, "why", func() {
			_, err := s.apiWhy(ctx, jetstream.WhyRequest{Tenant: "acme", Job: "acme-1073741824"})
			check(err)
		})
		s.run(b, "queue", func() {
			_, err := s.apiQueue(ctx, jetstream.QueueRequest{})
			check(err)
		})
		s.run(b, "unblock", func() {
			_, err := s.guiltyPairs(ctx, pairs{host: benchHost(1)})
			check(err)
		})
	})
}

// BenchmarkTurnOfAChange has the fleet change.
func BenchmarkTurnOfAChange(b *testing.B) {
	benchScenes(b, true, func(b *testing.B, s *turnScene) {
		b.Helper()
		l := s.loop
		serial := uint64(1)
		s.run(b, "a host goes and comes", func() {
			serial++
			l.ask(func(time.Time) { l.hosts.drop(benchHost(7)) })
			l.ask(func(now time.Time) {
				state := onlineHost(benchHost(7), serial, 1)
				l.hosts.report(&state, now)
			})
			l.ask(func(now time.Time) {
				serial++
				state := running(onlineHost(benchHost(7), serial, 1), "x")
				l.hosts.report(&state, now)
			})
			s.settle()
		})
		s.run(b, "a host goes and comes that all are blocked on", func() {
			serial++
			l.ask(func(time.Time) { l.hosts.drop(benchHost(0)) })
			l.ask(func(now time.Time) {
				state := onlineHost(benchHost(0), serial, 1)
				l.hosts.report(&state, now)
			})
			s.settle()
		})
		s.run(b, "a pick beside a host that all are blocked on", func() {
			l.ask(func(time.Time) { l.changes.jobs = true })
		})
		s.run(b, "a dispatcher comes and goes", func() {
			l.ask(func(now time.Time) {
				l.peers.put("other", time.Now().Add(time.Hour))
				l.rehome(now)
			})
			l.ask(func(now time.Time) {
				l.peers.remove("other")
				l.rehome(now)
			})
			s.settle()
		})
		s.run(b, "a job that no host can run comes", func() {
			l.place(ownedJob(b, "acme", 1<<31, 2))
		})
		ceiling := 9
		s.run(b, "a tenant gets another ceiling", func() {
			l.ask(func(time.Time) {
				ceiling = 12 - ceiling
				l.room.PutCeiling("acme", ceiling)
				l.changes.all()
			})
			s.settle()
		})
		s.run(b, "what nobody tells is looked for", func() {
			l.ask(func(now time.Time) { l.expirePresences(time.Now(), now) })
			l.ask(l.liftAllOutdated)
			l.ask(func(now time.Time) { l.removed.counted(map[job.Lane]uint64{}, 0, now) })
			s.settle()
		})
		s.run(b, "the watches begin anew", func() {
			tickets, blocks := l.ticketMirror(), l.blockMirror()
			tickets.beside = func(work func(func() bool)) { l.background.begin("tickets", work) }
			blocks.beside = func(work func(func() bool)) { l.background.begin("blocks", work) }
			l.ask(func(now time.Time) {
				tickets.seen, blocks.seen = allSeen(tickets.keys(always)), allSeen(blocks.keys(always))
			})
			s.take()
			l.ask(func(now time.Time) { tickets.change(queue.Change[queue.Ticket]{Phase: queue.Synced}, now) })
			l.ask(func(now time.Time) { blocks.change(queue.Change[route.Block]{Phase: queue.Synced}, now) })
			s.settle()
		})
	})
}

func allSeen(keys iter.Seq[string]) map[string]bool {
	seen := map[string]bool{}
	for key := range keys {
		seen[key] = true
	}
	return seen
}

// settle waits until nothing is left to do.
func (s *turnScene) settle() {
	for more := true; more; {
		s.loop.ask(func(time.Time) {
			more = s.loop.background.left() || s.loop.room.Unfinished() || s.loop.changes.unmatched()
		})
	}
}
