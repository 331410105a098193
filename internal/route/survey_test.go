package route_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/route"
)

func always() bool { return true }

func survey(r *route.Room, f *route.Fleet) *route.Survey {
	return r.Survey(f, route.SurveyOptions{}, noon, always)
}

func TestASurveyCountsHostsSlotsBlocksAndTickets(t *testing.T) {
	t.Parallel()
	busy, sick := online("busy"), online("sick")
	busy.Slots, sick.Slots, sick.State = 3, 2, route.Unhealthy
	busy.Running = []route.Run{{Tenant: "a", Job: "x", Priority: 5, Hash: hashOf(2), Since: noon}}
	f := fleet(online("free"), busy, sick)
	f.PutTenant("capped", 2, 1)
	f.Occupy("busy", route.Run{Tenant: "capped", Job: "y", Priority: 5, Hash: hashOf(2), Since: noon})
	for _, host := range []string{"free", "busy"} {
		f.PutBlock(block(host, 7))
	}
	r := room(ticket(1, "a", 5), ticket(2, "capped", 5), from(3, 60))
	blocked := ticket(4, "a", 5)
	blocked.Hash, blocked.Received = hashOf(7), noon.Add(-time.Hour)
	r.Put(blocked)
	r.Charge("gone", 5, 100, noon)
	got := survey(r, f)
	want := map[route.Tenant]*route.TenantSurvey{
		"a": {
			Weight: 1, Running: 1, Waiting: map[route.HoldReason]int{route.Turn: 1, route.AllBlocked: 1, route.NotDue: 1}, OldestDue: noon.Add(-time.Hour).UTC(),
		},
		"capped": {Weight: 2, MaxRunning: 1, Running: 1, Waiting: map[route.HoldReason]int{route.OverCap: 1}},
		"gone":   {Weight: 1, Waiting: map[route.HoldReason]int{}, Used: 100},
	}
	if diff := cmp.Diff(want, got.Tenants); diff != "" {
		t.Errorf("tenants, want (-) and got (+):\n%s", diff)
	}
	if diff := cmp.Diff(map[route.Availability]int{route.Online: 2, route.Unhealthy: 1}, got.Hosts); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[failure.Kind]int{block("a", 7).Kind: 2}, got.Blocks); diff != "" {
		t.Error(diff)
	}
	if got.Busy != 2 || got.Free != 2 || got.Out != 2 || got.Active != 3 || got.Blocked != 2 || got.Capacity != 4 {
		t.Errorf("%d busy, %d free, %d out; %d pairs, %d of them blocked; %d tickets", got.Busy, got.Free, got.Out, got.Active, got.Blocked, got.Capacity)
	}
}

// The list of all jobs must agree with the places that are computed for single jobs.
func TestTheOrderOfASurveyIsThatOfThePlaces(t *testing.T) {
	t.Parallel()
	f := fleet(online("a"))
	r := room(from(90, 3600), from(91, 60))
	f.PutTenant("capped", 1, 1)
	f.Occupy("a", route.Run{Tenant: "capped", Job: "runs", Priority: 9, Hash: hashOf(2), Since: noon})
	for i := range 30 {
		r.Put(ticket(uint64(i+1), string(tenant(i%3)), 5))
	}
	r.Put(ticket(40, "high", 8))
	r.Put(ticket(41, "low", 1))
	r.Put(ticket(42, "capped", 9))
	for i := range 3 {
		r.Charge(tenant(i), 5, float64(10*(i+1)), noon)
	}
	order := survey(r, f).Order()
	if len(order) != 35 {
		t.Fatalf("%d tickets: %v", len(order), order)
	}
	if got := order[31:]; !slices.Equal(got, []route.Placed{{41, "low"}, {42, "capped"}, {91, "a"}, {90, "a"}}) {
		t.Errorf("the last are %v", got)
	}
	for i, at := range order[:32] {
		if place, _ := r.Position(f, at.Sequence, noon); place != i+1 {
			t.Errorf("ticket %d has place %d and is number %d", at.Sequence, place, i+1)
		}
	}
}

func TestASurveyThatIsGivenUpEnds(t *testing.T) {
	t.Parallel()
	f, r := route.NewFleet(), route.NewRoom()
	for i := range 50 {
		f.PutHost(online(hostName(i)))
		f.PutBlock(block(hostName(i), i))
		r.Put(ticket(uint64(i+1), fmt.Sprint("t", i), 5))
	}
	all := 0
	r.Survey(f, route.SurveyOptions{}, noon, func() bool { all++; return true })
	for n := range all {
		steps := 0
		r.Survey(f, route.SurveyOptions{}, noon, func() bool { steps++; return steps <= n })
		if steps > n+1 {
			t.Fatalf("given up after %d steps, it took %d", n, steps)
		}
	}
}

// Whatever a survey is about to look at may be gone when it goes on.
func TestTicketsMayLeaveWhileASurveyPauses(t *testing.T) {
	t.Parallel()
	const many = 70 * 256 // the room of so many is made anew when all have left
	for n := range 5 {
		f, r := fleet(online("a")), route.NewRoom()
		for i := range many {
			r.Put(ticket(uint64(i+1), "acme", 5))
		}
		steps := 0
		got := r.Survey(f, route.SurveyOptions{}, noon, func() bool {
			if steps++; steps == n+1 {
				for i := range many {
					r.Remove(uint64(i + 1))
				}
			}
			return true
		})
		if got.Capacity > 5*8 {
			t.Errorf("%d tickets were counted although all had left after %d steps", got.Capacity, n+1)
		}
	}
}

func TestATicketThatLeavesDoesNotChangeWhichIsTheOldest(t *testing.T) {
	t.Parallel()
	for n := range 12 {
		f, r := fleet(online("a")), route.NewRoom()
		older, newer := ticket(1, "acme", 5), ticket(2, "acme", 5)
		older.Received, newer.Hash = noon.Add(-time.Hour), hashOf(7)
		r.Put(older)
		r.Put(newer)
		steps := 0
		got := r.Survey(f, route.SurveyOptions{}, noon, func() bool {
			if steps++; steps == n+1 {
				r.Remove(2)
			}
			return true
		})
		if oldest := got.Tenants["acme"].OldestDue; !oldest.Equal(noon.Add(-time.Hour)) {
			t.Errorf("after %d steps the second ticket left, and the oldest is said to be of %s", n+1, oldest)
		}
	}
}
