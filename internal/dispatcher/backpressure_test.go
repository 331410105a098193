package dispatcher_test

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
)

// all is how many deliveries may be under way when no job has to stand in line.
const all = 512

var noon = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

func TestHowManyDeliveriesMayBeUnderWay(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		facts dispatcher.LineFacts
		most  int
	}{
		"nothing is known":              {dispatcher.LineFacts{}, all},
		"nobody stands":                 {dispatcher.LineFacts{Rate: 100, Peers: 1, Holds: 30}, 30},
		"tiny jobs for 20 s":            {dispatcher.LineFacts{Pending: 2000, Rate: 100, Peers: 1, Holds: 30}, 30},
		"tiny jobs for longer":          {dispatcher.LineFacts{Pending: 2001, Rate: 100, Peers: 1, Holds: 30}, all},
		"three work it off":             {dispatcher.LineFacts{Pending: 6000, Rate: 100, Peers: 3, Holds: 30}, 30},
		"three are not enough":          {dispatcher.LineFacts{Pending: 6001, Rate: 100, Peers: 3, Holds: 30}, all},
		"peers are not known yet":       {dispatcher.LineFacts{Pending: 2000, Rate: 100, Holds: 30}, 30},
		"slow jobs for 4 s":             {dispatcher.LineFacts{Pending: 800, Rate: 100, Peers: 2, Slow: true, Holds: 30}, 64},
		"slow jobs for longer":          {dispatcher.LineFacts{Pending: 801, Rate: 100, Peers: 2, Slow: true, Holds: 30}, all},
		"slots that the hand cannot do": {dispatcher.LineFacts{Pending: 100, Rate: 100, Peers: 1, Stuck: true, Holds: 70}, 134},
		"nor one of slow jobs":          {dispatcher.LineFacts{Pending: 100, Rate: 100, Peers: 1, Slow: true, Stuck: true, Holds: 70}, 134},
		"nor one of a quick fleet":      {dispatcher.LineFacts{Pending: 100, Rate: 1000, Peers: 1, Stuck: true, Holds: 230}, 294},
		"a quick fleet":                 {dispatcher.LineFacts{Pending: 100, Rate: 3000, Peers: 1, Holds: 1000}, 300},
		"a very quick fleet":            {dispatcher.LineFacts{Pending: 100, Rate: 9000, Peers: 1, Holds: 1000}, all},
		"lower ones are in hand":        {dispatcher.LineFacts{Pending: 100, Rate: 100, Peers: 1, Holds: 30, Hand: [10]int64{0: 5, 4: 6, 5: 7, 6: 8}}, 41},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var l dispatcher.Line
			old := c.facts
			old.Pending, old.Rate = 1_000_000, 1 // so that it has been too long for more than lineGrace, or is not any more
			l.Tell(5, old)
			l.Most(5, noon)
			l.Tell(5, c.facts)
			if got := l.Most(5, noon.Add(time.Minute)); got != c.most {
				t.Errorf("%d deliveries may be under way, want %d", got, c.most)
			}
		})
	}
}

func TestALineThatHasJustBegunMayStandForASecond(t *testing.T) {
	t.Parallel()
	var l dispatcher.Line
	look := func(after time.Duration, pending, rate int64, want int) {
		t.Helper()
		l.Tell(5, dispatcher.LineFacts{Pending: pending, Rate: rate, Peers: 1, Holds: 20})
		if got := l.Most(5, noon.Add(after)); got != want {
			t.Errorf("after %v: %d deliveries may be under way, want %d", after, got, want)
		}
	}
	look(0, 1000, 0, 20)
	look(999*time.Millisecond, 1000, 0, 20)
	look(time.Second, 1000, 0, all)
	look(2*time.Second, 0, 0, all) // no job stands in line any more
	look(3*time.Second, 1000, 1, 20)
	look(4*time.Second, 1000, 1, all)
	look(5*time.Second, 1000, 50, 20) // worked off within 20 s
	look(6*time.Second, 1000, 1, 20)  // too long anew
	look(7*time.Second, 1000, 1, all)
}
