package route

// Part is how many places of a waiting room a tenant may take when it wants as many as it can get. wants are how many
// each tenant has or wants, the smallest first; own is this tenant's number, or negative when it is not among them.
//
// The places are divided evenly, and what a tenant does not want is divided among the rest. It is not less than a thousandth
// of the places, nor than ten, however many tenants there are, as long as there are as many places.
func Part(places int, wants []int, own int) int {
	left, tenants := places, len(wants)
	if own < 0 {
		tenants++
	}
	for _, wanted := range wants {
		if wanted == own {
			own = -1
			continue
		}
		if wanted >= left/tenants {
			break // and all after it as well
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
