//go:build unix

package chaos_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfysim"
)

// verb is what is done to a process or a connection.
type verb string

const (
	kill    verb = "kill -9"     // started again when it is over
	restart verb = "restart"     // SIGTERM, started again when it is over
	freeze  verb = "freeze"      // SIGSTOP; SIGCONT when it is over
	cut     verb = "cut"         // an agent's connections to NATS are dropped and refused
	stall   verb = "stall"       // they stay open and nothing passes
	fault   verb = "fault"       // a host misbehaves
	revive  verb = "new host"    // kill -9 and started again at once, which repairs a wedged host
	skew    verb = "wrong clock" // kill -9 and started again at once with another clock
	fill    verb = "full"        // COMFY_OUTPUTS takes nothing more
	drop    verb = "delete"      // COMFY_OUTPUTS is deleted
	roll    verb = "rolling"     // all hosts are restarted, one after the other; the plan has each as a restart
)

// action is one step of a plan.
type action struct {
	at    time.Duration // since the beginning
	what  verb
	whom  string
	lasts time.Duration
	fault comfysim.Fault
	clock string // as clockVariable has it
}

func (a action) String() string {
	text := fmt.Sprintf("%6.2fs %s %s", a.at.Seconds(), a.what, a.whom)
	switch a.what {
	case fault:
		return text + " " + string(a.fault.Kind)
	case skew:
		return text + " " + a.clock
	case revive, drop:
		return text
	}
	return text + " for " + a.lasts.String()
}

// makePlan draws what happens in which order; it is a pure function of its arguments.
func makePlan(seed uint64, total time.Duration, s shape) []action {
	rng := rand.New(rand.NewPCG(seed, 1))
	var plan []action
	for at := time.Second; at < total; at += span(rng, 300*time.Millisecond, 1300*time.Millisecond) {
		a := draw(rng, s)
		a.at = at
		if a.what == roll {
			plan = append(plan, rolling(at, s)...)
			continue
		}
		plan = append(plan, a)
	}
	return plan
}

// rollingPause is the time between two restarts of a rolling one.
const rollingPause = 500 * time.Millisecond

func rolling(at time.Duration, s shape) []action {
	var all []action
	for i, host := range s.hosts() {
		all = append(all, action{at: at + time.Duration(i)*rollingPause, what: restart, whom: host, lasts: rollingPause})
	}
	return all
}

func TestChaosIsAFunctionOfItsSeed(t *testing.T) {
	t.Parallel()
	for n := range uint64(20) {
		once, again := makePlan(n, time.Minute, single()), makePlan(n, time.Minute, single())
		if !slices.Equal(once, again) || len(once) < 40 {
			t.Errorf("seed %d gives %d actions and then %d others", n, len(once), len(again))
		}
		if other := makePlan(n+1, time.Minute, single()); slices.Equal(once, other) {
			t.Errorf("seeds %d and %d give the same", n, n+1)
		}
		for i := range 100 {
			if once, again := drawWish(n, i), drawWish(n, i); once != again {
				t.Errorf("seed %d gives two different jobs %d", n, i)
			}
		}
	}
}

func draw(rng *rand.Rand, s shape) action {
	agent := "a" + strconv.Itoa(1+rng.IntN(len(s.agents)))
	dispatcher := "d" + strconv.Itoa(1+rng.IntN(s.dispatchers))
	host := s.hosts()[rng.IntN(len(s.hosts()))]
	short, long := span(rng, 100*time.Millisecond, 1500*time.Millisecond), span(rng, 300*time.Millisecond, 6*time.Second)
	switch n := rng.IntN(112); {
	case n >= 110:
		return action{what: roll}
	case n >= 107:
		return action{what: drop, whom: outputsStore}
	case n >= 103:
		return action{what: fill, whom: outputsStore, lasts: long}
	case n >= 100:
		return action{what: skew, whom: []string{agent, dispatcher}[rng.IntN(2)], clock: drawClock(rng)}
	case n < 12:
		return action{what: kill, whom: agent, lasts: long}
	case n < 18:
		return action{what: freeze, whom: agent, lasts: long}
	case n < 22:
		return action{what: restart, whom: agent, lasts: short}
	case n < 34:
		return action{what: kill, whom: dispatcher, lasts: long}
	case n < 40:
		return action{what: freeze, whom: dispatcher, lasts: long}
	case n < 44:
		return action{what: restart, whom: dispatcher, lasts: short}
	case n < 50:
		return action{what: cut, whom: agent, lasts: long}
	case n < 55:
		return action{what: stall, whom: agent, lasts: long}
	case n < 63:
		return action{what: kill, whom: host, lasts: long}
	case n < 70:
		return action{what: freeze, whom: host, lasts: long}
	case n < 73:
		return action{what: revive, whom: host}
	case n < 80:
		return onNATS(rng, s, short)
	}
	return action{what: fault, whom: host, fault: drawFault(rng)}
}

// drawClock gives a clock that is right, an hour off, or set while its process lives.
func drawClock(rng *rand.Rand) string {
	return []string{"1h", "-1h", "0s", "0s,20s@2s", "0s,-20s@2s", "1h,-1h@3s"}[rng.IntN(6)]
}

func onNATS(rng *rand.Rand, s shape, lasts time.Duration) action {
	server := "n" + strconv.Itoa(1+rng.IntN(s.servers))
	return action{what: []verb{kill, kill, freeze, restart}[rng.IntN(4)], whom: server, lasts: lasts}
}

// drawFault gives a random fault, for some of the next jobs or requests.
func drawFault(rng *rand.Rand) comfysim.Fault {
	few := 1 + rng.IntN(3)
	delay := span(rng, 0, 200*time.Millisecond)
	all := []comfysim.Fault{
		{Kind: comfysim.FaultRaise, Exception: "RuntimeError", Message: "chaos", Delay: delay},
		{Kind: comfysim.FaultRaise, Exception: "cuda_device_assert", Delay: delay},
		{Kind: comfysim.FaultOOM, MinSize: 64 * 64},
		{Kind: comfysim.FaultHang},
		{Kind: comfysim.FaultHangHard},
		{Kind: comfysim.FaultDie, Delay: delay, Restart: 500 * time.Millisecond},
		{Kind: comfysim.FaultWedge},
		{Kind: comfysim.FaultExitWorker},
		{Kind: comfysim.FaultDiskFull},
		{Kind: comfysim.FaultStatus, Path: "/prompt", Status: 403},
		{Kind: comfysim.FaultInterrupt, Delay: delay},
		{Kind: comfysim.FaultFreeze, For: span(rng, time.Second, 5*time.Second)},
		{Kind: comfysim.FaultDeaf},
		{Kind: comfysim.FaultStall, For: span(rng, time.Second, 4*time.Second)},
		{Kind: comfysim.FaultHistoryWiped},
		{Kind: comfysim.FaultMissingOutput},
		{Kind: comfysim.FaultNaN},
		{Kind: comfysim.FaultRefuse},
		{Kind: comfysim.FaultSlowAccept, Delay: span(rng, time.Second, 6*time.Second)},
		{Kind: comfysim.FaultResetAfterQueue},
		{Kind: comfysim.FaultDeletePending},
		{Kind: comfysim.FaultWrongJSON, Path: "/history"},
		{Kind: comfysim.FaultWrongJSON, Path: "/prompt"},
		{Kind: comfysim.FaultStatus, Path: "/view", Status: 500},
		{Kind: comfysim.FaultSlowAnswer, Path: "/queue", Delay: span(rng, time.Second, 4*time.Second)},
		{Kind: comfysim.FaultBacklog, Count: few, For: 300 * time.Millisecond},
	}
	f := all[rng.IntN(len(all))]
	f.Times, f.Probability = few, 0.7
	return f
}

func span(rng *rand.Rand, from, to time.Duration) time.Duration {
	return (from + time.Duration(rng.Int64N(int64(to-from)))).Truncate(time.Millisecond)
}

// sort is the kind of a job in a plan.
type sort string

const (
	plain     sort = "plain"
	expiring  sort = "expiring"
	cancelled sort = "cancelled"
	twice     sort = "twice"     // the same id again, with another picture
	late      sort = "late"      // run_at
	long      sort = "long"      // runs longer than a lease lives without its agent
	big       sort = "big"       // meets out of memory
	raising   sort = "raising"   // fails wherever it runs
	deadly    sort = "deadly"    // takes its host down
	incapable sort = "incapable" // wants a node that no host has
	invalid   sort = "invalid"   // no job at all
)

// wish is one job of a plan.
type wish struct {
	number   int
	sort     sort
	priority int
	color    int
	size     int
	shape    int // which of some structures, and so its hash
	ran      time.Duration
	after    time.Duration // cancel, or publish again, so long afterwards
	expires  time.Duration
}

const structures = 6

// drawWish gives job n of a seed.
func drawWish(seed uint64, n int) wish {
	rng := rand.New(rand.NewPCG(seed, uint64(n)+1000))
	sorts := slices.Concat(
		slices.Repeat([]sort{plain}, 55), slices.Repeat([]sort{long}, 5), slices.Repeat([]sort{cancelled}, 9), slices.Repeat([]sort{twice}, 8),
		slices.Repeat([]sort{expiring}, 6), slices.Repeat([]sort{late}, 4), slices.Repeat([]sort{big}, 4),
		slices.Repeat([]sort{raising}, 3), slices.Repeat([]sort{deadly}, 1), slices.Repeat([]sort{incapable}, 2), slices.Repeat([]sort{invalid}, 3),
	)
	w := wish{
		number: n, sort: sorts[rng.IntN(len(sorts))], priority: []int{0, 5, 5, 5, 9}[rng.IntN(5)],
		color: 2*n + 1, size: 16, shape: rng.IntN(structures), ran: span(rng, 20*time.Millisecond, 500*time.Millisecond),
		after: span(rng, 0, 1500*time.Millisecond), expires: span(rng, time.Second, 4*time.Second),
	}
	switch w.sort {
	case big:
		w.size = 64
	case long:
		w.ran = span(rng, ackWait, 3*ackWait)
	}
	return w
}
