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

type timers struct {
	heap    []timer
	removed int // tickets with times that were removed since the last cleaning
}

type byTime struct{}

func (byTime) before(a, b timer) bool { return a.at < b.at || a.at == b.at && a.sequence < b.sequence }
func (byTime) moved(timer, int)       {}

func (t *timers) add(at int64, sequence uint64, kind timerKind) {
	if at != 0 {
		t.heap = heapPush(t.heap, timer{at, sequence, kind}, byTime{})
	}
}

// stale counts a ticket with times that is about to be removed. The heap is cleaned when most of it may be stale.
func (t *timers) stale(r *records) {
	t.removed++
	if t.removed < 64 || 2*t.removed < len(t.heap) {
		return
	}
	t.removed = 0
	kept := slices.DeleteFunc(t.heap, func(e timer) bool { return !e.current(r) })
	t.heap = nil
	for _, e := range kept {
		t.heap = heapPush(t.heap, e, byTime{})
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

// Expired lists the tickets whose time is over, lowest sequence first. They are not offered to any host any more.
// One that is not removed is listed again some seconds later.
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

// tick applies the passing of time: tickets become due, which is when a job with run_at may start, and expire.
func (r *Room) tick(now time.Time) {
	r.now = max(r.now, now.UnixNano())
	for len(r.timers.heap) > 0 && r.timers.heap[0].at <= r.now {
		e := r.timers.heap[0]
		r.timers.heap = heapRemove(r.timers.heap, 0, byTime{})
		if !e.current(&r.records) {
			continue
		}
		i := r.records.find(e.sequence)
		x := r.records.at(i)
		switch {
		case e.kind == timeExpires:
			r.dequeue(i)
			r.overdue = append(r.overdue, e)
		case e.kind == timeDue && x.at < 0 && r.due(x):
			r.enqueue(i)
		}
	}
	if r.again != 0 && r.again <= r.now {
		r.again = 0
	}
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
