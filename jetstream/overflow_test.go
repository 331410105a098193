package jetstream_test

import (
	"fmt"
	"iter"
	"testing"

	"github.com/comfyherd/comfyherd/jetstream"
)

// A follower keeps 8192 live events that wait. What comes beyond them is read in pages, and all are given in their order.
func TestEventsThatOverflowTheirBufferAreReadInPages(t *testing.T) {
	t.Parallel()
	const last = 8300
	url := startNATS(t)
	var d *reader
	d = read(t, url, func(n int, r jetstream.EventsRequest) (jetstream.EventsAnswer, error) {
		switch n {
		case 1:
			return page(2026, 1, "1 a.queued"), nil
		case 2:
			for sequence := uint64(2); sequence <= last; sequence++ {
				d.live("a.waiting", sequence)
			}
			return page(2026, 1), nil
		}
		end := min(r.After+2000, last)
		var events []string
		for sequence := r.After + 1; sequence <= end; sequence++ {
			events = append(events, fmt.Sprint(sequence, " a.waiting"))
		}
		a := page(2026, end, events...)
		a.End = end == last
		return a, nil
	})
	next, stop := iter.Pull2(jetstream.NewClient(connect(t, url), "acme").Follow(t.Context(), 0))
	defer stop()
	for sequence := uint64(1); sequence <= last; sequence++ {
		n, err, more := next()
		if err != nil || !more || n.Sequence != sequence {
			t.Fatalf("%d comes after %d: %v", n.Sequence, sequence-1, err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.asked) < 7 { // two at first, and five pages
		t.Errorf("asked: %q", d.asked)
	}
}
