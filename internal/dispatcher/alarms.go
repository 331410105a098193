package dispatcher

import (
	"container/heap"
	"time"
)

// alarms are functions that are due at a time. The loop calls those that are due; none is called twice.
type alarms struct{ list alarmList }

// at has do called once, at a time.
func (a *alarms) at(when time.Time, do func(now time.Time)) {
	heap.Push(&a.list, alarm{at: when, do: do})
}

// every has do called again and again, a pause after each call.
func (a *alarms) every(now time.Time, pause time.Duration, do func(now time.Time)) {
	var again func(now time.Time)
	again = func(now time.Time) {
		do(now)
		a.at(now.Add(pause), again)
	}
	a.at(now.Add(pause), again)
}

// next is when the first one is due.
func (a *alarms) next() (at time.Time, some bool) {
	if len(a.list) == 0 {
		return time.Time{}, false
	}
	return a.list[0].at, true
}

// ring calls the functions that are due.
func (a *alarms) ring(now time.Time) {
	for a.ringOne(now) {
	}
}

// ringOne calls the first one if it is due, and reports whether it was.
func (a *alarms) ringOne(now time.Time) bool {
	if len(a.list) == 0 || a.list[0].at.After(now) {
		return false
	}
	heap.Pop(&a.list).(alarm).do(now)
	return true
}

type alarm struct {
	at time.Time
	do func(now time.Time)
}

// alarmList is a heap, the earliest first.
type alarmList []alarm

func (a alarmList) Len() int           { return len(a) }
func (a alarmList) Less(i, j int) bool { return a[i].at.Before(a[j].at) }
func (a alarmList) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *alarmList) Push(x any)        { *a = append(*a, x.(alarm)) }
func (a *alarmList) Pop() any {
	old := *a
	last := old[len(old)-1]
	old[len(old)-1] = alarm{}
	*a = old[:len(old)-1]
	return last
}
