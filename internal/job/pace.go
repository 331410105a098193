package job

import (
	"math"
	"time"
)

// Pace is what the jobs of a tenant used and waited lately.
type Pace struct {
	GPU      time.Duration // how long its jobs have run on hosts in the last 24 h, in full hours and the one that has begun
	Started  int           // jobs that began in the last hour
	WaitP95  time.Duration // 95 % of these waited no longer than this from their publish; at most a fifth too long
	WaitMost time.Duration // none of these waited longer; at most a fifth too long
}

const (
	gpuStep  = time.Hour
	gpuSteps = 24

	waitStep  = 10 * time.Minute
	waitSteps = 7                     // an hour, and the step that has begun
	waitFirst = 50 * time.Millisecond // the longest wait of the first class
	waitGrows = 1.2                   // by how much each class is longer
	waitTypes = 80                    // the last one has all that waited longer than a day
)

// pace is Pace while it is counted.
type pace struct {
	gpu   [gpuSteps]timeStep[time.Duration]
	waits []timeStep[waitCounts] // waitSteps, from the first wait on
}

type waitCounts [waitTypes]uint32

// ran adds how long a job has run on a host.
func (p *pace) ran(from, to time.Time) {
	if !to.After(from) {
		return
	}
	if ran := stepOf(p.gpu[:], to.UnixNano()/int64(gpuStep)); ran != nil {
		*ran += to.Sub(from)
	}
}

// waited adds how long a job has waited that began now.
func (p *pace) waited(took time.Duration, now time.Time) {
	if p.waits == nil {
		p.waits = make([]timeStep[waitCounts], waitSteps)
	}
	if counts := stepOf(p.waits, now.UnixNano()/int64(waitStep)); counts != nil {
		counts[waitType(took)]++
	}
}

// waitType is the class of a wait.
func waitType(took time.Duration) int {
	if took <= waitFirst {
		return 0
	}
	return min(int(math.Ceil(math.Log(float64(took)/float64(waitFirst))/math.Log(waitGrows))), waitTypes-1)
}

// longestOf is the longest wait of a class.
func longestOf(class int) time.Duration {
	return time.Duration(float64(waitFirst) * math.Pow(waitGrows, float64(class))).Round(time.Millisecond)
}

func (p *pace) at(now time.Time) (sum Pace) {
	hour, ten := now.UnixNano()/int64(gpuStep), now.UnixNano()/int64(waitStep)
	stepsBetween(p.gpu[:], hour-gpuSteps+1, hour, func(_ int64, ran *time.Duration) { sum.GPU += *ran })
	var counts [waitTypes]int
	stepsBetween(p.waits, ten-waitSteps+1, ten, func(_ int64, of *waitCounts) {
		for class, n := range of {
			counts[class] += int(n)
			sum.Started += int(n)
		}
	})
	passed := 0
	for class, n := range counts {
		if n == 0 {
			continue
		}
		if before := passed; 100*before < 95*sum.Started {
			sum.WaitP95 = longestOf(class)
		}
		passed += n
		sum.WaitMost = longestOf(class)
	}
	return sum
}

// Pace is what the jobs of a tenant used and waited lately.
func (f *Fold) Pace(of Tenant, now time.Time) Pace {
	if t := f.tenant(of); t != nil {
		return t.pace.at(now)
	}
	return Pace{}
}

// paces counts an event for the tenant of its job. before is what the job was.
func (f *Fold) paces(before *row, e *StoredEvent) {
	if before == nil {
		return
	}
	t := f.tenants[before.tenant]
	switch was := rowStates[before.state]; {
	case was == Started && e.Kind != Started:
		t.pace.ran(time.Unix(0, before.lastAt), e.Time)
	case was != Started && e.Kind == Started && e.Brief.Attempt <= 1:
		t.pace.waited(e.Time.Sub(time.Unix(0, before.firstAt)), e.Time)
	}
}

// hourly counts what happened in the last hour in four steps of 20 minutes, of which the last one has begun. There is one for each
// workflow of a tenant, so it is small.
type hourly struct {
	newest uint16 // number of the newest step, without its higher bits
	counts [hourSteps]uint16
}

const (
	hourStep  = 20 * time.Minute
	hourSteps = 4
)

// shift moves the steps so that the newest is that of now.
func (h *hourly) shift(now time.Time) {
	number := uint16(now.Unix() / int64(hourStep/time.Second))
	by := number - h.newest
	if by == 0 || by > 1<<15 && h.counts != [hourSteps]uint16{} { // an event that is older than the newest counts as of its step
		return
	}
	var moved [hourSteps]uint16
	if by < hourSteps {
		copy(moved[:], h.counts[by:])
	}
	h.newest, h.counts = number, moved
}

func (h *hourly) add(at time.Time) {
	h.shift(at)
	if last := &h.counts[hourSteps-1]; *last < math.MaxUint16 {
		*last++
	}
}

// at is how many there were in the last hour: of the oldest step as large a part as lies within it.
func (h hourly) at(now time.Time) int {
	h.shift(now)
	sum := 0
	for _, n := range h.counts[1:] {
		sum += int(n)
	}
	begun := now.Sub(now.Truncate(hourStep))
	return sum + int(math.Round(float64(h.counts[0])*(1-begun.Seconds()/hourStep.Seconds())))
}
