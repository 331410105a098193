package route_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/route"
)

// Tickets 1 to 3 come 40 ms apart; of those that another dispatcher is to claim first, each counts as 100 ms newer.
func TestDispatchersGoThroughALaneInDifferentOrders(t *testing.T) {
	t.Parallel()
	ranks := map[route.JobID]int{"j1": 1, "j2": 0, "j3": 0}
	rank := func(job route.JobID) int { return ranks[job] }
	r, f := route.NewRoom(), fleet(online("a"))
	for n := range uint64(3) {
		x := ticket(n+1, "acme", 5)
		x.Job, x.Received = route.JobID(fmt.Sprint("j", n+1)), noon.Add(time.Duration(n)*40*time.Millisecond)
		x.Rank = rank(x.Job)
		r.Put(x)
	}
	order := func() (list []uint64) {
		all := map[uint64]route.Ticket{}
		for {
			x, _, found := r.Pick(f, noon.Add(time.Second))
			if !found {
				break
			}
			list, all[x.Sequence] = append(list, x.Sequence), x
			r.Remove(x.Sequence)
		}
		for _, x := range all {
			r.Put(x)
		}
		return list
	}
	same(t, "beside another", order(), []uint64{2, 3, 1})
	ranks = map[route.JobID]int{"j3": 1}
	same(t, "places looked at", r.Rerank(0, 100, rank), 100)
	same(t, "the end", r.Rerank(100, 1000, rank), -1)
	same(t, "after another has come", order(), []uint64{1, 2, 3})
	ranks = map[route.JobID]int{"j1": 2, "j2": 2, "j3": 1}
	r.Rerank(0, 1000, rank)
	same(t, "beside two", order(), []uint64{3, 1, 2})
}
