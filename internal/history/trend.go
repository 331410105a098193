package history

import "time"

const (
	// TrendStep is how finely a Fold counts events by their time.
	TrendStep = 10 * time.Second
	// TrendSpan is how far back these counts go.
	TrendSpan = time.Hour

	trendSteps = int(TrendSpan/TrendStep) + 1
)

// trend counts the events of the last hour by their time and kind. The step of a number is kept at that number modulo the
// number of steps.
type trend struct{ steps [trendSteps]trendStep }

type trendStep struct {
	number int64 // TrendSteps since 1970
	counts Counts
}

func (t *trend) add(state uint8, at time.Time) {
	number := at.Unix() / int64(TrendStep/time.Second)
	if number < 0 {
		return // the event has no time
	}
	s := &t.steps[number%int64(trendSteps)]
	if number < s.number {
		return // older than the trend
	}
	if number > s.number {
		*s = trendStep{number: number}
	}
	s.counts[state]++
}

// Trend gives the numbers of events by kind in each full step of the last hour, oldest first; the last step ends at until.
func (f *Fold) Trend(now time.Time) (steps []Counts, until time.Time) {
	last := now.Unix()/int64(TrendStep/time.Second) - 1
	steps = make([]Counts, 0, trendSteps-1)
	for number := last - int64(trendSteps) + 2; number <= last; number++ {
		var counts Counts
		if number >= 0 {
			if s := &f.trend.steps[number%int64(trendSteps)]; s.number == number {
				counts = s.counts
			}
		}
		steps = append(steps, counts)
	}
	return steps, time.Unix((last+1)*int64(TrendStep/time.Second), 0).UTC()
}
