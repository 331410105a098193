package dispatcher

import (
	"testing"
	"time"
)

func TestAlarmsRingInTheirOrderAndOnce(t *testing.T) {
	t.Parallel()
	a := alarms{}
	var rung []string
	note := func(name string) func(time.Time) { return func(time.Time) { rung = append(rung, name) } }
	a.at(noonUTC.Add(3*time.Second), note("third"))
	a.at(noonUTC.Add(time.Second), note("first"))
	a.at(noonUTC.Add(2*time.Second), note("second"))
	at, some := a.next()
	same(t, "next", []any{at, some}, []any{noonUTC.Add(time.Second), true})
	a.ring(noonUTC.Add(2 * time.Second))
	same(t, "after two seconds", rung, []string{"first", "second"})
	a.ring(noonUTC.Add(time.Minute))
	a.ring(noonUTC.Add(time.Minute))
	same(t, "after a minute", rung, []string{"first", "second", "third"})
	_, some = a.next()
	same(t, "any left", some, false)
}

func TestAnAlarmThatComesAgainWaitsAfterEachCall(t *testing.T) {
	t.Parallel()
	a := alarms{}
	n := 0
	a.every(noonUTC, time.Second, func(time.Time) { n++ })
	a.ring(noonUTC.Add(999 * time.Millisecond))
	same(t, "before a second", n, 0)
	a.ring(noonUTC.Add(1500 * time.Millisecond))
	a.ring(noonUTC.Add(2499 * time.Millisecond)) // less than a second after the call before
	same(t, "before another second", n, 1)
	a.ring(noonUTC.Add(2500 * time.Millisecond))
	same(t, "then", n, 2)
}
