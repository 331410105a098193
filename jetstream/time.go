package jetstream

import (
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/names"
)

// Now is NATS' time, taken from the answers of dispatchers; before the first answer it is this machine's. It has no monotonic
// reading: compare it only with times of events and with other results of Now.
func (c *Client) Now() time.Time { return c.clock.now() }

// toldClock is a clock that is set by the times in answers.
type toldClock struct{ told atomic.Pointer[toldTime] }

// toldTime is the time of an answer, and how exact it is.
type toldTime struct {
	at     time.Time     // here, with its monotonic reading
	time   time.Time     // there at the same moment, without one
	within time.Duration // the round trip: it may be off by half of it
}

// toldFor is how long a time is kept while only less exact ones come.
const toldFor = time.Minute

func (c *toldClock) now() time.Time {
	if t := c.told.Load(); t != nil {
		return t.time.Add(time.Since(t.at))
	}
	return time.Now().Round(0)
}

// hear sets the clock by an answer to a request that was sent at asked. Of several answers the one with the shortest round trip
// counts.
func (c *toldClock) hear(answer *nats.Msg, asked time.Time) {
	there, err := time.Parse(time.RFC3339Nano, answer.Header.Get(names.TimeHeader))
	if err != nil {
		return
	}
	trip := time.Since(asked)
	fresh := &toldTime{at: asked.Add(trip / 2), time: there, within: trip}
	if t := c.told.Load(); t == nil || trip <= t.within || time.Since(t.at) > toldFor {
		c.told.Store(fresh)
	}
}
