package route_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/route"
)

// shares counts, of n hashes, how many each host gets.
func shares(f *route.Fleet, n int) map[string]int {
	counts := map[string]int{}
	for i := range n {
		counts[chosen(f, want(i))]++
	}
	return counts
}

func equalFleet(n int) *route.Fleet {
	f := route.NewFleet()
	for i := range n {
		f.PutHost(online(hostName(i)))
	}
	return f
}

// TestEqualHostsShareHashesEvenly allows five standard deviations of a fair draw.
func TestEqualHostsShareHashesEvenly(t *testing.T) {
	t.Parallel()
	for _, hosts := range []int{2, 3, 10, 100, 400} {
		const hashes = 20_000
		counts := shares(equalFleet(hosts), hashes)
		expected := hashes / hosts
		for host, n := range counts {
			if off := n - expected; off*off > 25*expected {
				t.Errorf("%d hosts: %s has %d hashes instead of about %d", hosts, host, n, expected)
			}
		}
		if len(counts) != hosts {
			t.Errorf("%d of %d hosts are used", len(counts), hosts)
		}
	}
}

func TestLosingOneOfNHostsMovesItsHashesOnly(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ hosts, hashes, least, most int }{{10, 5000, 400, 600}, {400, 20_000, 20, 85}} {
		f := equalFleet(c.hosts)
		before := make([]string, c.hashes)
		for i := range before {
			before[i] = chosen(f, want(i))
		}
		f.RemoveHost(route.HostID(hostName(3)))
		moved := 0
		for i, host := range before {
			if now := chosen(f, want(i)); now != host {
				moved++
				if host != hostName(3) {
					t.Fatalf("hash %d moved from %s to %s", i, host, now)
				}
			}
		}
		if moved < c.least || moved > c.most {
			t.Errorf("%d of %d hashes moved when one of %d hosts went", moved, c.hashes, c.hosts)
		}
	}
}

// champion is the host that Choose names of a list of any length, found among few at a time.
func champion(f *route.Fleet, w route.Want, hosts []string) string {
	for len(hosts) > 1 {
		var winners []string
		for few := range slices.Chunk(hosts, 50) {
			w.Only = few
			if host := chosen(f, w); host != "none" {
				winners = append(winners, host)
			}
		}
		hosts = winners
	}
	return strings.Join(hosts, "")
}

// Among more than 128 hosts the best are looked up in a list, among fewer each is compared.
func TestAmongManyHostsTheSameOneIsChosenAsAmongFew(t *testing.T) {
	t.Parallel()
	f := equalFleet(200)
	var hosts []string
	for i := range 200 {
		hosts = append(hosts, hostName(i))
	}
	check := func(when string, hashes int) {
		t.Helper()
		for i := range hashes {
			if got, want := chosen(f, want(i)), champion(f, want(i), hosts); got != want {
				t.Fatalf("%s: hash %d goes to %s, and among few hosts to %s", when, i, got, want)
			}
		}
	}
	check("all idle", 60)
	for i := range 50 { // more than there are in the list
		f.Occupy(route.HostID(chosen(f, want(1))), route.Run{Tenant: "acme", Job: route.JobID(fmt.Sprint(i)), Hash: hashOf(99)})
		check("some busy", 2)
	}
	first := champion(f, want(3), hosts)
	f.RemoveHost(route.HostID(first))
	check("one gone", 4)
	f.PutHost(online(first))
	f.PutHost(online("late"))
	hosts = append(hosts, "late")
	check("two come", 60)
}

func TestTheOrderInWhichFactsComeDoesNotMatter(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		var facts []func(*route.Fleet)
		for i := range 30 {
			s := online(hostName(i))
			s.Slots, s.Memory, s.Labels = 1+i%2, int64(i%3), []string{fmt.Sprint("gpu=", i%3)}
			s.Recent = append(s.Recent, hashOf(r.IntN(20)), hashOf(r.IntN(20)))
			facts = append(facts, func(f *route.Fleet) { f.PutHost(s) }, func(f *route.Fleet) { f.PutCapability(s.ID, kindOf(i%4)) })
		}
		for i := range 20 {
			facts = append(facts, func(f *route.Fleet) { f.PutRequirements(hashOf(i), needs(i%5, 6+i%3)) })
			facts = append(facts, func(f *route.Fleet) { f.PutBlock(block(hostName(i), i)) })
		}
		first := answers(facts)
		r.Shuffle(len(facts), func(i, k int) { facts[i], facts[k] = facts[k], facts[i] })
		if again := answers(facts); !slices.Equal(first, again) {
			t.Errorf("seed %d: %v, and in another order %v", seed, first, again)
		}
	}
}

func answers(facts []func(*route.Fleet)) []string {
	f := route.NewFleet()
	for _, tell := range facts {
		tell(f)
	}
	var list []string
	for i := range 40 {
		list = append(list, chosen(f, want(i)))
	}
	return list
}

func TestTheOrderInWhichTicketsComeDoesNotMatter(t *testing.T) {
	t.Parallel()
	run := func(order []int) []uint64 {
		f, r := fleet(online("a"), online("b")), route.NewRoom()
		for _, i := range order {
			r.Put(route.Ticket{
				Sequence: uint64(i), Priority: i % 3, Tenant: tenant(i % 4), Hash: hashOf(i % 7), Job: route.JobID(fmt.Sprint(i)),
				Received: noon.Add(time.Duration(i) * time.Second),
			})
		}
		var served []uint64
		for {
			t, _, ok := r.Pick(f, noon)
			if !ok {
				return served
			}
			r.Remove(t.Sequence)
			r.Charge(t.Tenant, t.Priority, float64(t.Sequence%5+1), noon)
			served = append(served, t.Sequence)
		}
	}
	first := run(rand.New(rand.NewPCG(1, 1)).Perm(200))
	second := run(rand.New(rand.NewPCG(2, 2)).Perm(200))
	if !slices.Equal(first, second) || len(first) != 200 {
		t.Errorf("served %v, and %v", first, second)
	}
}

func TestHomesAreSharedEvenlyAndMoveOnlyWithTheirDispatcher(t *testing.T) {
	t.Parallel()
	three := []string{"d1", "d2", "d3"}
	counts := map[string]int{}
	for i := range 3000 {
		host := route.HostID(hostName(i))
		home := route.Home(three, host)
		counts[home]++
		if again := route.Home([]string{"d3", "d1", "d2"}, host); again != home {
			t.Fatalf("%s is at home with %s and with %s", host, home, again)
		}
		if left := route.Home([]string{"d1", "d2"}, host); home != "d3" && left != home {
			t.Fatalf("%s moved from %s to %s when d3 went", host, home, left)
		}
	}
	for d, n := range counts {
		if n < 850 || n > 1150 {
			t.Errorf("%s is home of %d of 3000 hosts", d, n)
		}
	}
	if route.Home(nil, "a") != "" {
		t.Error("a home without dispatchers")
	}
}

func TestEveryDispatcherHasARankOfItsOwn(t *testing.T) {
	t.Parallel()
	names := []string{"a", "b", "c", "d", "e"}
	for n := range 100 {
		thing := route.HostID(fmt.Sprint("job-", n))
		ranks := map[int]string{}
		for _, name := range names {
			ranks[route.Rank(names, name, thing)] = name
		}
		if len(ranks) != len(names) || ranks[0] != route.Home(names, thing) {
			t.Fatalf("%s: %v, home %s", thing, ranks, route.Home(names, thing))
		}
		if got := route.Rank(names[1:], "a", thing); got != route.Rank(names, "a", thing) {
			t.Fatalf("%s: rank %d of one that is not among them", thing, got)
		}
	}
}
