//go:build unix

package chaos_test

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// story is what was done to whom and when.
type story struct {
	began time.Time

	mu    sync.Mutex // guards deeds
	deeds []deed
}

// deed is an action as it was done; till is zero until it is undone.
type deed struct {
	action
	from, till time.Time
}

func (s *story) begin(a action) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deeds = append(s.deeds, deed{action: a, from: time.Now()})
	return len(s.deeds) - 1
}

func (s *story) undone(i int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deeds[i].till = time.Now()
}

func (s *story) now() string { return fmt.Sprintf("after %.1fs", time.Since(s.began).Seconds()) }

// aftermath is how long a process that was frozen or cut off may still act on what it knew.
const aftermath = 1500 * time.Millisecond

// disturbed reports whether between two moments a dispatcher or a server of NATS was killed or stood still, so that
// what was known of blocks may be old.
func (s *story) disturbed(from, to time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.deeds {
		if kind := d.whom[0]; kind != 'd' && kind != 'n' {
			continue
		}
		if d.from.Before(to) && (d.till.IsZero() || d.till.Add(aftermath).After(from)) {
			return true
		}
	}
	return false
}

// dropped reports whether COMFY_OUTPUTS was deleted since a moment.
func (s *story) dropped(since time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.deeds, func(d deed) bool { return d.what == drop && !d.from.Before(since) })
}

// before gives the last deed that hit one of the names at or before a moment.
func (s *story) before(at time.Time, names ...string) (last deed, found bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.deeds {
		for _, name := range names {
			if d.whom == name && !d.from.After(at) && (!found || d.from.After(last.from)) {
				last, found = d, true
			}
		}
	}
	return last, found
}

// excuses reports whether a process that has ended by itself could not have gone on: while it starts it needs NATS, and
// gives up when that goes away in the middle. Whoever runs it starts it again.
func (s *story) excuses(name string, end lifeEnd) bool {
	if name[0] != 'd' && name[0] != 'a' || end.how != "exit status 1" {
		return false
	}
	const startTime = 20 * time.Second
	s.mu.Lock()
	defer s.mu.Unlock()
	started, hit := s.began, false
	for _, d := range s.deeds {
		if d.whom == name && d.till.Before(end.at) && d.till.After(started) {
			started = d.till
		}
	}
	for _, d := range s.deeds {
		onWay := d.whom[0] == 'n' || d.whom == name
		hit = hit || onWay && d.from.Before(end.at) && (d.till.IsZero() || d.till.After(end.at.Add(-startTime)))
	}
	return hit && end.at.Sub(started) < startTime
}

func (s *story) counts() map[verb]map[byte]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := map[verb]map[byte]int{}
	for _, d := range s.deeds {
		if n[d.what] == nil {
			n[d.what] = map[byte]int{}
		}
		n[d.what][d.whom[0]]++
	}
	return n
}

// offers remembers when each attempt was first offered to a host. What is offered while this process is not connected
// is not seen.
type offers struct {
	mu   sync.Mutex // guards seen
	seen map[string]time.Time
}

func watchOffers(f *fleet) *offers {
	o := &offers{seen: map[string]time.Time{}}
	_, err := f.nc.Subscribe("comfy.hosts.*.offer", func(msg *nats.Msg) {
		key := msg.Header.Get("Comfy-Tenant") + "/" + msg.Header.Get("Comfy-Job-Id") + "#" + msg.Header.Get("Comfy-Attempt") + msg.Subject
		o.mu.Lock()
		defer o.mu.Unlock()
		if _, again := o.seen[key]; !again {
			o.seen[key] = time.Now()
		}
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return o
}

func (o *offers) when(key string, attempt int, host string) (time.Time, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	at, seen := o.seen[key+"#"+strconv.Itoa(attempt)+"comfy.hosts."+host+".offer"]
	return at, seen
}
