package outside

import (
	"math/rand/v2"
	"time"
)

// usualSchedule has the ages of a delivery at which it is tried. After the last one it is given up.
func usualSchedule() []time.Duration {
	return []time.Duration{
		0, 5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
	}
}

// schedule is an ascending list of ages.
type schedule []time.Duration

// next is how long a delivery of an age rests before it is tried again: until the next age of the schedule, and up to a tenth longer, so
// that many which failed together do not come back together. False when there is no further one.
func (s schedule) next(age time.Duration) (time.Duration, bool) {
	for _, at := range s {
		if at > age {
			rest := at - age
			return rest + rand.N(rest/10+1), true //nolint:gosec // it only keeps tries apart
		}
	}
	return 0, false
}

const (
	failsBeforeRest = 3
	firstRest       = 5 * time.Second
	longestRest     = 5 * time.Minute
)

// restAfter is how long an endpoint rests after so many failures in a row.
func restAfter(fails int) time.Duration {
	if fails < failsBeforeRest {
		return 0
	}
	rest := firstRest
	for range fails - failsBeforeRest {
		if rest *= 2; rest >= longestRest {
			return longestRest
		}
	}
	return rest
}
