package route

// A tenant may have a ceiling: its jobs of a higher priority count as of that one. They share a lane with the jobs that
// were published with that priority, so that a tenant gets no more turns by more priorities, and their lane does not age above it. Their tickets keep the
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

// PutCeiling sets the ceiling of a tenant. Its tickets move to the lanes that follow from it in the next decisions, see Slice.
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

// relane has a tenant's tickets move to the lanes that follow from its new ceiling.
func (r *Room) relane(t Tenant, before int) {
	now := r.ceiling(t)
	if now == before {
		return
	}
	for p := range priorities {
		l := r.lanes[laneKey{t, p}]
		if l == nil {
			continue
		}
		if l.ceiling = now; l.members > 0 {
			r.toRelane = r.Places()
		}
	}
}

// placesOfSlice is how many places are looked at before the work left is counted again: a ticket may move in each.
const placesOfSlice = 16

// workOfMove is how many workflows could be put in order anew while a ticket moves to another lane: it is taken out of one and put
// into another, and the classes of both may be made or discarded.
const workOfMove = 8

// relaneSome moves tickets that are in a lane of another priority than they count as. It goes around all places once after the
// ceiling of a tenant with tickets has changed.
func (r *Room) relaneSome(left int) int {
	for ; r.toRelane > 0 && left > 0; left-- {
		var tickets []Ticket
		from := r.relaneAt
		r.relaneAt = r.Some(from, min(placesOfSlice, r.toRelane), func(t *Ticket, like Alike) {
			if like.class.lane.priority != r.CountsAs(t.Tenant, t.Priority) {
				tickets = append(tickets, *t)
			}
		})
		if r.relaneAt < 0 {
			r.relaneAt, r.toRelane = 0, r.toRelane-max(r.Places()-from, 1)
		} else {
			r.toRelane -= r.relaneAt - from
		}
		for _, t := range tickets {
			r.Put(t)
		}
		left -= workOfMove * len(tickets)
	}
	return left
}
