package job

import "time"

const (
	// TrendStep is how finely a Fold counts events by their time.
	TrendStep = 10 * time.Second
	// TrendSpan is how far back these counts go.
	TrendSpan = time.Hour

	trendSteps = int(TrendSpan/TrendStep) + 1

	// DayStep is how finely a Fold counts events of a day by their time: days begin at quarters of an hour everywhere.
	DayStep = 15 * time.Minute
	// DaySpan is how far back these counts go.
	DaySpan = 48 * time.Hour

	daySteps = int(DaySpan/DayStep) + 1
)

// trend counts events by their time and kind. The step of a number is kept at that number modulo the number of steps.
type trend struct {
	step  time.Duration
	steps []trendStep
}

type trendStep struct {
	number int64 // steps since 1970
	counts Counts
}

func newTrend(step time.Duration, steps int) trend { return trend{step, make([]trendStep, steps)} }

// number is that of the step of a time.
func (t *trend) number(at time.Time) int64 { return at.Unix() / int64(t.step/time.Second) }

// beginOf is when a step begins.
func (t *trend) beginOf(number int64) time.Time {
	return time.Unix(number*int64(t.step/time.Second), 0).UTC()
}

func (t *trend) add(state uint8, at time.Time) {
	number := t.number(at)
	if number < 0 {
		return // the event has no time
	}
	s := &t.steps[number%int64(len(t.steps))]
	if number < s.number {
		return // older than the trend
	}
	if number > s.number {
		*s = trendStep{number: number}
	}
	s.counts[state]++
}

// at gives the counts of a step.
func (t *trend) at(number int64) (counts Counts) {
	if number >= 0 {
		if s := &t.steps[number%int64(len(t.steps))]; s.number == number {
			counts = s.counts
		}
	}
	return counts
}

// Trend gives the numbers of events by kind in each full step of the last hour, oldest first; the last step ends at until.
func (f *Fold) Trend(now time.Time) (steps []Counts, until time.Time) {
	last := f.trend.number(now) - 1
	steps = make([]Counts, 0, trendSteps-1)
	for number := last - int64(trendSteps) + 2; number <= last; number++ {
		steps = append(steps, f.trend.at(number))
	}
	return steps, f.trend.beginOf(last + 1)
}

// Day gives the numbers of events by kind since a time, and the moment from which on they are counted: the beginning of its step, or of
// the oldest step that is kept.
func (f *Fold) Day(since, now time.Time) (sum Counts, from time.Time) {
	last := f.days.number(now)
	first := min(last, max(f.days.number(since), last-int64(daySteps)+1))
	for number := first; number <= last; number++ {
		counts := f.days.at(number)
		sum.Add(&counts)
	}
	return sum, f.days.beginOf(first)
}
