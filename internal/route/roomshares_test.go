package route_test

import (
	"slices"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/route"
)

func TestThePlacesOfTheWaitingRoomAreDividedAmongThoseThatWantThem(t *testing.T) {
	t.Parallel()
	many := make([]int, 499)
	for i := range many {
		many[i] = 1_000_000
	}
	cases := map[string]struct {
		places int
		others []int // the smallest first
		want   int
	}{
		"ATenantAloneHasAll":                        {1000, nil, 1000},
		"TwoThatWantMoreHaveHalfEach":               {1000, []int{5000}, 500},
		"WhatOneDoesNotWantIsTheOthers":             {1000, []int{10}, 990},
		"WhatTwoDoNotWantIsDividedAmongTheRest":     {1000, []int{50, 150, 5000}, 400},
		"OneThatHasMoreThanItsPartKeepsNoneBack":    {1000, []int{1000}, 500},
		"ManyHaveAThousandthEachAtLeast":            {100_000, many, 200},
		"OfASmallRoomEachHasTenPlaces":              {1000, many, 10},
		"NobodyHasMoreThanThereAre":                 {2, many, 2},
		"OfAsManyAsThereArePlacesEachHasItsMinimum": {100_000, wants(2000, 100_000), 100},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := route.Part(c.places, c.others, -1); got != c.want {
				t.Errorf("part of %d places: %d, want %d", c.places, got, c.want)
			}
			for _, own := range []int{0, 50, 777, 5000, 2_000_000} {
				if got := route.Part(c.places, slices.Sorted(slices.Values(append([]int{own}, c.others...))), own); got != c.want {
					t.Errorf("part of %d places of one that wants %d itself: %d, want %d", c.places, own, got, c.want)
				}
			}
		})
	}
}

func wants(n, each int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = each
	}
	return list
}

func TestTicketsAreCountedByTenant(t *testing.T) {
	t.Parallel()
	r, f, now := route.NewRoom(), route.NewFleet(), time.Unix(1_000_000, 0)
	for sequence, priority := range []int{0, 5, 5, 9} {
		r.Put(route.Ticket{Sequence: uint64(sequence + 1), Priority: priority, Tenant: "acme", Job: "a", Hash: "h", Received: now})
	}
	r.Put(route.Ticket{Sequence: 9, Priority: 5, Tenant: "acme", Job: "later", Hash: "h", Received: now, NotBefore: now.Add(time.Hour)})
	r.Put(route.Ticket{Sequence: 10, Priority: 5, Tenant: "bolt", Job: "b", Hash: "h", Received: now})
	r.Pick(f, now)
	if all, notDue := r.Waiting("acme"); all != 5 || notDue != 1 {
		t.Errorf("acme has %d tickets, %d not due, want 5 and 1", all, notDue)
	}
	if got := r.Tenants(); len(got) != 2 || got["acme"] != 5 || got["bolt"] != 1 {
		t.Errorf("tickets by tenant: %v", got)
	}
	r.Remove(10)
	if got := r.Tenants(); len(got) != 1 {
		t.Errorf("tickets by tenant when bolt has none: %v", got)
	}
}
