package dashboard

// ring keeps the newest rows, by their sequences.
type ring struct {
	rows  []row  // in the order of their sequences; rows[0] is the oldest
	after uint64 // all stored events behind this sequence, up to last, are in rows
	last  uint64
}

const (
	ringRows  = 4096
	ringSlack = 1024 // rows that may be more before the oldest are dropped, so that they are not moved each time
)

// add adds an event. One that is known already is ignored.
func (g *ring) add(r row) bool {
	if r.sequence <= g.last {
		return false
	}
	g.last = r.sequence
	if r.body == nil {
		return false
	}
	g.rows = append(g.rows, r)
	if len(g.rows) >= ringRows+ringSlack {
		drop := len(g.rows) - ringRows
		g.after = g.rows[drop-1].sequence
		g.rows = append(make([]row, 0, ringRows+ringSlack), g.rows[drop:]...)
	}
	return true
}

// behind gives the rows behind a sequence, at most so many; false when the ring does not reach back so far.
func (g *ring) behind(sequence uint64, most int) ([]row, bool) {
	if sequence < g.after {
		return nil, false
	}
	low, high := 0, len(g.rows)
	for low < high {
		if mid := (low + high) / 2; g.rows[mid].sequence <= sequence {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return g.rows[low:min(len(g.rows), low+most)], true
}
