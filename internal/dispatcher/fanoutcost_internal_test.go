package dispatcher

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// load is a fleet as docs/architecture.md computes what it sends and receives: presences every 5 s, jobs of 20 s on hosts with one slot.
type load struct{ hosts, dispatchers float64 }

const (
	costTTL   = 15 * time.Second // of a presence
	costBeat  = 5                // seconds between two presences of a host
	costJob   = 20               // seconds that a job takes
	costValue = 40_000           // bytes of a capability
)

func (l load) jobs() float64      { return l.hosts / costJob }
func (l load) presences() float64 { return l.hosts / costBeat * l.dispatchers }
func (l load) changes() float64   { return 2 * l.jobs() * l.dispatchers }
func (l load) tickets() float64   { return 2 * l.jobs() * l.dispatchers }

// relays is how many relays all dispatchers receive in a second.
func (l load) relays() float64 {
	p := newPeers("d-0")
	for n := range int(l.dispatchers) {
		p.put(fmt.Sprint("d-", n), noonUTC)
	}
	r := newRelays(relays{peers: p})
	return l.dispatchers * (l.dispatchers - 1) / r.pause().Seconds()
}

// reads is how many requests and answers of presences there are in a second. A home reads one that is older than two thirds of the TTL,
// when it may have been written up to a beat before it was read.
func (l load) reads() float64 {
	return 2 * l.hosts / (costTTL.Seconds()*2/3 - costBeat/2.0)
}

// TestTheDocumentHasTheCostsOfMessages computes the numbers of docs/architecture.md from the constants of the code.
func TestTheDocumentHasTheCostsOfMessages(t *testing.T) {
	t.Parallel()
	body, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(body), "*", "")
	small, middle, large := load{10, 2}, load{1000, 5}, load{10_000, 50}
	for what, number := range map[string]float64{
		"10/5 × 2 = %s/s":             small.presences(),
		"200 × 5 = %s/s":              middle.presences(),
		"2 000 × 50 = %s/s":           large.presences(),
		"1 × 2 = %s/s":                small.changes(),
		"100 × 5 = %s/s":              middle.changes(),
		"1 000 × 50 = %s/s":           large.changes(),
		"sum in a small fleet | %s/s": small.presences() + small.changes() + small.tickets(),
		"| %s/s, 1.8 MB/s":            middle.presences() + middle.changes() + middle.tickets(),
		"| %s/s, 186 MB/s":            large.presences() + large.changes() + large.tickets(),
		"50 × 2 × 5 = %s/s":           middle.tickets(),
		"50/5 × 2 = %s/s":             large.dispatchers / (costTTL.Seconds() / 3) * 2,
		"10 000/7.5 × 2 = %s/s":       round(large.reads(), 100),
		"| %s/s, 0.8 MB/s":            large.changes() / large.dispatchers,
		"4 × 50 × 49 = %s/s":          large.relays(),
		"20 × 5 × 4 = %s/s":           middle.relays(),
		"500 × 2 × 50 = %s/s":         large.tickets(),
		"500 × 2 × 2 = %s/s":          2 * large.jobs() * 2,
		"10 000 × 40 kB = %s MB":      large.hosts * costValue / 1e6,
		"%s/s, 31 MB/s":               round(large.reads()+large.changes()/large.dispatchers+large.relays(), 500),
	} {
		if want := fmt.Sprintf(what, spaced(number)); !strings.Contains(text, want) {
			t.Errorf("docs/architecture.md has no %q", want)
		}
	}
}

func round(n, to float64) float64 { return to * float64(int(n/to+0.5)) }

// spaced writes a whole number in groups of three digits.
func spaced(n float64) string {
	text := fmt.Sprintf("%.0f", n)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + " " + text[at:]
	}
	return text
}
