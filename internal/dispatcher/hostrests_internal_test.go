package dispatcher

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/route"
)

func restScene() (*hostRests, *[]string) {
	changed := []string{}
	r := newHostRests(hostRests{
		first: 5 * time.Second, alarms: &alarms{}, log: (&logged{}).logger(),
		changed: func(host string, now time.Time) { changed = append(changed, host+" "+now.Sub(noonUTC).String()) },
	})
	return r, &changed
}

func TestAHostThatBeginsNoJobsRestsForLongerEachTime(t *testing.T) {
	t.Parallel()
	r, changed := restScene()
	r.notBegun("a", true, noonUTC)
	same(t, "until", r.of("a", noonUTC).until, noonUTC.Add(5*time.Second))
	same(t, "why", r.of("a", noonUTC).text(), "it has accepted a job and not begun it")
	r.notBegun("a", true, noonUTC.Add(time.Second)) // it has taken that before
	same(t, "a job of before", r.of("a", noonUTC).until, noonUTC.Add(5*time.Second))
	same(t, "why then", r.of("a", noonUTC).text(), "2 jobs were given to it, and it has begun none of them")
	r.alarms.ring(noonUTC.Add(5 * time.Second))
	same(t, "changes", *changed, []string{"a 0s", "a 1s", "a 5s"})
	same(t, "after the rest", r.of("a", noonUTC.Add(5*time.Second)) == nil, true)
	r.notBegun("a", true, noonUTC.Add(5*time.Second))
	same(t, "the second rest", r.of("a", noonUTC.Add(5*time.Second)).until, noonUTC.Add(15*time.Second))
	for range 20 {
		r.notBegun("a", true, r.records["a"].until)
	}
	last := r.records["a"].until
	r.notBegun("a", true, last)
	same(t, "the longest rest", r.records["a"].until.Sub(last), 15*time.Minute)
}

func TestThreeDoubtsAreAsMuchAsAJobThatWasNotBegun(t *testing.T) {
	t.Parallel()
	r, _ := restScene()
	r.notBegun("a", false, noonUTC)
	r.notBegun("a", false, noonUTC)
	same(t, "rests after two", r.of("a", noonUTC) != nil, false)
	same(t, "record", []bool{r.hasRecord("a"), r.hasRecord("b")}, []bool{true, false})
	r.notBegun("a", false, noonUTC)
	same(t, "rests after three", r.of("a", noonUTC) != nil, true)
}

func TestAHostThatBeginsAJobAfterItsRestStartsAnew(t *testing.T) {
	t.Parallel()
	r, _ := restScene()
	r.notBegun("a", true, noonUTC)
	r.begun("a", noonUTC.Add(4*time.Second)) // one that it had taken before
	same(t, "while it rests", r.of("a", noonUTC.Add(4*time.Second)) != nil, true)
	r.begun("a", noonUTC.Add(5*time.Second))
	same(t, "afterwards", r.hasRecord("a"), false)
	r.begun("b", noonUTC)
}

func TestOnlyAHostThatCallsItselfOnlineCountsAsResting(t *testing.T) {
	t.Parallel()
	r, _ := restScene()
	r.notBegun("a", true, noonUTC)
	for state, want := range map[route.Availability]route.Availability{route.Online: route.Resting, route.Draining: route.Draining} {
		s := route.HostState{ID: "a", State: state}
		r.apply(&s, noonUTC)
		same(t, "state", s.State, want)
	}
	s := route.HostState{ID: "a", State: route.Online}
	r.apply(&s, noonUTC)
	same(t, "until", s.Until, noonUTC.Add(5*time.Second))
	r.forgetOld(noonUTC.Add(5*time.Second + 15*time.Minute))
	same(t, "remembered", r.hasRecord("a"), true)
	r.forgetOld(noonUTC.Add(5*time.Second + 15*time.Minute + 1))
	same(t, "forgotten", r.hasRecord("a"), false)
}

func TestDoubtsAreCountedApartFromJobsThatWereNotBegun(t *testing.T) {
	t.Parallel()
	r, _ := restScene()
	r.notBegun("a", true, noonUTC)
	over := noonUTC.Add(5 * time.Second)
	r.notBegun("a", false, noonUTC)
	same(t, "why", r.of("a", noonUTC).text(), "2 jobs were given to it, and it has begun none of them")
	r.notBegun("a", false, over)
	same(t, "rests after two doubts", r.of("a", over) != nil, false)
	r.notBegun("a", false, over)
	same(t, "rests after three", r.of("a", over) != nil, true)
}

func TestADoubtIsRememberedAlthoughTheHostHasNotRested(t *testing.T) {
	t.Parallel()
	r, _ := restScene()
	r.notBegun("a", false, noonUTC)
	r.forgetOld(noonUTC.Add(15 * time.Minute))
	same(t, "remembered", r.hasRecord("a"), true)
	r.forgetOld(noonUTC.Add(15*time.Minute + 1))
	same(t, "forgotten", r.hasRecord("a"), false)
}
