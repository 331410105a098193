package dashboard

import "github.com/comfyherd/comfyherd/internal/job"

// ring keeps the newest rows, by their sequences.
type ring struct {
	rows    []row  // in the order of their sequences; rows[0] is the oldest
	encoded int    // rows before this place are encoded
	after   uint64 // all stored events after this sequence, up to last, are in rows
	last    uint64
}

const (
	ringRows  = 4096
	ringSlack = 1024 // how many rows too many there may be before the oldest are dropped, so that they are not moved each time
	allShown  = 40   // how many of the newest of the rows that are encoded together are all sent: the page lists them as events
)

// add adds an event. One that is known already is ignored.
func (g *ring) add(r row) bool {
	if r.sequence <= g.last {
		return false
	}
	g.last = r.sequence
	if r.stored == nil {
		return false
	}
	g.rows = append(g.rows, r)
	if len(g.rows) >= ringRows+ringSlack {
		drop := len(g.rows) - ringRows
		g.after = g.rows[drop-1].sequence
		g.rows = append(make([]row, 0, ringRows+ringSlack), g.rows[drop:]...)
		g.encoded = max(0, g.encoded-drop)
	}
	return true
}

// encode encodes the rows that came since it was called last. When they are many, those stay empty that a later row of the same job
// replaces: viewers are sent that one too.
func (g *ring) encode() {
	fresh := g.rows[g.encoded:]
	g.encoded = len(g.rows)
	var later map[jobOf]job.EventKind // the event that follows, by job
	if len(fresh) > allShown {
		later = make(map[jobOf]job.EventKind, len(fresh)/2)
	}
	for i := len(fresh) - 1; i >= 0; i-- {
		r := &fresh[i]
		of := jobOf{r.tenant, r.job}
		if i < len(fresh)-allShown && r.replacedBy(later[of]) {
			r.stored = nil
		}
		if later != nil && r.job != "" && r.stored != nil {
			later[of] = r.kind
		}
		r.encode()
	}
}

// rowsAfter gives the rows after a sequence, at most so many; false when the ring does not reach back so far. Those without a body are not
// sent.
func (g *ring) rowsAfter(sequence uint64, most int) ([]row, bool) {
	if sequence < g.after {
		return nil, false
	}
	g.encode()
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
