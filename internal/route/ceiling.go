package route

// A tenant may have a ceiling: its jobs of a higher priority count as of that one. They share a lane with those that have it
// from the start, so that a tenant with more priorities has no more turns, and age no further. Their tickets keep the
// priority that they were published with.

// CountsAs is the priority that decides when jobs of a tenant have their turn.
func (r *Room) CountsAs(t Tenant, priority int) int {
	return min(clampPriority(priority), r.ceiling(t))
}

func (r *Room) ceiling(t Tenant) int {
	if most, own := r.ceilings[t]; own {
		return most
	}
	return r.usual
}

// PutUsualCeiling sets the ceiling of all tenants without one of their own; 9 means none. Call it before the first Put.
func (r *Room) PutUsualCeiling(most int) { r.usual = clampPriority(most) }

// PutCeiling sets the ceiling of a tenant.
func (r *Room) PutCeiling(t Tenant, most int) {
	before := r.ceiling(t)
	r.ceilings[t] = clampPriority(most)
	r.relane(t, before)
}

// RemoveCeiling lets the usual one hold for a tenant again.
func (r *Room) RemoveCeiling(t Tenant) {
	before := r.ceiling(t)
	delete(r.ceilings, t)
	r.relane(t, before)
}

// relane moves a tenant's tickets to the lanes that follow from its new ceiling.
func (r *Room) relane(t Tenant, before int) {
	now := r.ceiling(t)
	if now == before {
		return
	}
	for p := range priorities {
		if l := r.lanes[laneKey{t, p}]; l != nil {
			l.ceiling = now
		}
	}
	var tickets []Ticket
	r.Each(func(ticket *Ticket) {
		if ticket.Tenant == t && ticket.Priority > min(before, now) {
			tickets = append(tickets, *ticket)
		}
	})
	for _, ticket := range tickets {
		r.Put(ticket)
	}
}
