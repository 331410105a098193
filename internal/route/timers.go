package route

import (
	"cmp"
	"slices"
	"time"
)

// A job's run_at is Spec.RunAt and Job.NotBefore in internal/job, Ticket.NotBefore and times.notBefore here. A retry that is
// to wait for retry_delay sets the same time. When it is over, the ticket is due: tick handles its timer of the kind timeDue.

// timerKind says what a timer is for.
type timerKind uint8

const (
	timeDue     timerKind = iota // the job may start
	timeExpires                  // the job is too late
	timeAvoid                    // hosts that failed it may be tried again
)

// timer may be stale: its ticket may have been removed or changed since it was set.
type timer struct {
	at       int64
	sequence uint64
	kind     timerKind
}

// moments are the times of a record's timers, by kind; 0 = none. For the number -1, which is no record, there are none.
func (r *Room) moments(i int32) (at [timeAvoid + 1]int64) {
	if i < 0 {
		return at
	}
	x := r.records.at(i)
	if at[timeAvoid] = x.class.avoidUntil; x.times != nil {
		at[timeDue], at[timeExpires] = x.times.notBefore, x.times.expires
	}
	return at
}

type timers struct {
	heap     []timer
	seenFrom int // place in heap: the timers from there on were looked at already
}

type byTime struct{}

func (byTime) before(a, b timer) bool { return a.at < b.at || a.at == b.at && a.sequence < b.sequence }
func (byTime) moved(timer, int)       {}

func (t *timers) add(at int64, sequence uint64, kind timerKind) {
	if at != 0 {
		t.heap = heapPush(t.heap, timer{at, sequence, kind}, byTime{})
	}
}

// lookedAtOnce is how many timers are looked at for each ticket with times that is removed, so that a heap of which a
// fourth is stale does not grow.
const lookedAtOnce = 8

// stale takes in that a ticket with times was removed. It looks at a few timers, from the last to the first and then again, and takes
// out those that are stale: to look at all of many at once would take long.
func (t *timers) stale(r *records) {
	for range min(lookedAtOnce, len(t.heap)) {
		if t.seenFrom == 0 || t.seenFrom > len(t.heap) {
			t.seenFrom = len(t.heap)
		}
		if t.seenFrom--; !t.heap[t.seenFrom].current(r) {
			t.heap = heapRemove(t.heap, t.seenFrom, byTime{})
		}
	}
	if cap(t.heap) > 64 && len(t.heap) < cap(t.heap)/4 {
		t.heap = slices.Clip(slices.Clone(t.heap))
	}
}

// current reports whether the ticket is there and still has this time.
func (e *timer) current(r *records) bool {
	i := r.find(e.sequence)
	if i < 0 {
		return false
	}
	x := r.at(i)
	switch e.kind {
	case timeDue:
		return x.times != nil && x.times.notBefore == e.at
	case timeExpires:
		return x.times != nil && x.times.expires != 0 && x.times.expires <= e.at
	case timeAvoid:
	}
	return x.class.avoidUntil == e.at
}

// remindAfter is how long Expired waits before it names a ticket again that is still there.
const remindAfter = 5 * time.Second

// Expired lists tickets whose time is over, lowest sequence first: with a Slice not all of very many, see NextDue. They are not
// offered to any host any more. One that is not removed is listed again some seconds later.
func (r *Room) Expired(now time.Time) []Ticket {
	r.tick(now)
	var list []Ticket
	for _, e := range r.overdue {
		if i := r.records.find(e.sequence); i >= 0 && e.current(&r.records) {
			list = append(list, r.ticket(i))
			r.timers.add(r.now+int64(remindAfter), e.sequence, timeExpires)
		}
	}
	r.overdue = r.overdue[:0]
	slices.SortFunc(list, func(a, b Ticket) int { return cmp.Compare(a.Sequence, b.Sequence) })
	return list
}

// timersOfSlice is how many timers take as long as a workflow that is put in order anew.
const timersOfSlice = 2

// tick applies the passing of time: tickets become due, which is when a job with run_at may start, and expire. It reports whether
// there is more to apply than one Slice.
func (r *Room) tick(now time.Time) (more bool) {
	r.now = max(r.now, now.UnixNano())
	if r.again != 0 && r.again <= r.now {
		r.again = 0
	}
	for n := 0; len(r.timers.heap) > 0 && r.timers.heap[0].at <= r.now; n++ {
		if r.Slice > 0 && n == timersOfSlice*r.Slice {
			return true
		}
		e := r.timers.heap[0]
		r.timers.heap = heapRemove(r.timers.heap, 0, byTime{})
		if !e.current(&r.records) {
			continue
		}
		i := r.records.find(e.sequence)
		x := r.records.at(i)
		switch {
		case e.kind == timeExpires:
			r.expire(i)
			r.overdue = append(r.overdue, e)
		case e.kind == timeDue && x.at < 0 && r.due(x):
			r.fallDue(i)
		}
	}
	return false
}

// NextDue is when Pick or Expired may find more by the passing of time alone; zero = never.
func (r *Room) NextDue() time.Time {
	due := r.again
	if len(r.timers.heap) > 0 && (due == 0 || r.timers.heap[0].at < due) {
		due = r.timers.heap[0].at
	}
	if len(r.overdue) > 0 {
		due = r.overdue[0].at
	}
	return moment(due)
}
