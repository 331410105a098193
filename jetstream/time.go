package jetstream

import (
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/names"
)

// Now is NATS' time, measured by the dispatchers' answers; until the first answer it is this machine's time. It has no monotonic
// reading: compare it only with times of Now and of events.
func (c *Client) Now() time.Time { return c.clock.now() }

// answerClock is a clock that is set by the header Comfy-Time of answers.
type answerClock struct{ best atomic.Pointer[clockSetting] }

// clockSetting is one measurement of NATS' time.
type clockSetting struct {
	at     time.Time     // this machine's time in the middle of the round trip, with its monotonic reading
	time   time.Time     // NATS' time at the same moment, without one
	within time.Duration // the round trip: time may be off by half of it
}

// settingAge is how long a setting is kept when only answers with longer round trips come.
const settingAge = time.Minute

func (c *answerClock) now() time.Time {
	if t := c.best.Load(); t != nil {
		return t.time.Add(time.Since(t.at))
	}
	return time.Now().Round(0)
}

// set sets the clock by an answer to what was asked at a moment, unless a recent answer had a shorter round trip.
func (c *answerClock) set(answer *nats.Msg, asked time.Time) {
	there, err := time.Parse(time.RFC3339Nano, answer.Header.Get(names.TimeHeader))
	if err != nil {
		return
	}
	trip := time.Since(asked)
	fresh := &clockSetting{at: asked.Add(trip / 2), time: there, within: trip}
	if t := c.best.Load(); t == nil || trip <= t.within || time.Since(t.at) > settingAge {
		c.best.Store(fresh)
	}
}
