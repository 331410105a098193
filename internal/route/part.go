package route

import "slices"

// Part is how many of the places of a waiting room a tenant may take that has always more to put there, beside others
// that want so many each: the places are divided evenly, and what a tenant does not want is divided among the rest. It is
// not less than a thousandth of the places, nor than ten, however many tenants there are, as long as there are as many
// places.
func Part(places int, others []int) int {
	left, tenants := places, len(others)+1
	for _, wanted := range slices.Sorted(slices.Values(others)) {
		if wanted >= left/tenants {
			break // and all behind it as well
		}
		left -= wanted
		tenants--
	}
	return max(left/tenants, min(places, max(places/1000, 10)))
}

// Waiting is how many tickets a tenant has, and how many of these are not due.
func (r *Room) Waiting(t Tenant) (all, notDue int) {
	for p := range priorities {
		if l := r.lanes[laneKey{t, p}]; l != nil {
			all += l.members
			notDue += l.members - l.depth
		}
	}
	return all, notDue
}

// Tenants is how many tickets each tenant has.
func (r *Room) Tenants() map[Tenant]int {
	tenants := map[Tenant]int{}
	for key, l := range r.lanes {
		if l.members > 0 {
			tenants[key.tenant] += l.members
		}
	}
	return tenants
}
