package job_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
)

// Another program may have stored an event, and a stream that was restored may have lost the times.
func TestEventsWithoutATimeAreInNoSum(t *testing.T) {
	t.Parallel()
	f := job.NewFold(10)
	for i, kind := range []job.EventKind{job.Queued, job.Started, job.Completed} {
		f.Add(&job.StoredEvent{Tenant: "acme", Job: "one", Kind: kind, Sequence: uint64(i + 1), Readable: true, Brief: job.Brief{Host: "gpu-1", Attempt: 1}})
	}
	f.Add(&job.StoredEvent{Tenant: "acme", Job: "two", Kind: job.Started, Sequence: 4, Readable: true, Brief: job.Brief{Host: "gpu-1", Attempt: 1}})
	f.Add(&job.StoredEvent{Tenant: "acme", Job: "two", Kind: job.Failed, Sequence: 5, Time: time.Time{}.Add(time.Hour), Readable: true, Brief: job.Brief{Host: "gpu-1"}})
	noon := at(0)
	if pace := f.Pace("acme", noon); pace != (job.Pace{}) {
		t.Errorf("the pace is %+v", pace)
	}
	for i, ran := range f.Busy("gpu-1", nil, noon) {
		if ran != 0 {
			t.Errorf("in step %d it ran %s", i, ran)
		}
	}
	if steps, _ := f.Trend(noon); len(steps) != 360 {
		t.Errorf("%d steps", len(steps))
	}
	if steps, _ := f.Trend(time.Unix(30, 0)); len(steps) != 360 || steps[359] != (job.Counts{}) {
		t.Errorf("a minute after 1970 there are %d steps", len(steps))
	}
	if got := f.Busy("gpu-1", nil, time.Unix(300, 0)); len(got) != 30 {
		t.Errorf("a minute after 1970 there are %d steps", len(got))
	}
}

// Each sum has a ring of steps: what is a whole round older than the newest would take its place.
func TestWhatIsARoundOlderThanTheNewestIsLeftOutOfTheSums(t *testing.T) {
	t.Parallel()
	d := &day{Fold: job.NewFold(100)}
	on := job.Brief{Host: "gpu-1", Attempt: 1}
	run := func(id string, begun, ended time.Duration) {
		d.add(id, job.Queued, begun-time.Second, job.Brief{})
		d.add(id, job.Started, begun, on)
		d.add(id, job.Completed, ended, on)
	}
	run("new", -10*time.Minute, -5*time.Minute)
	run("day", -24*time.Hour-9*time.Minute, -24*time.Hour-8*time.Minute) // its hour is that of new in the ring of 24
	run("wait", -80*time.Minute, -80*time.Minute+30*time.Second)         // its step is that of new in the ring of 7
	run("busy", -62*time.Minute-7*time.Minute, -62*time.Minute-6*time.Minute)
	run("trend", -3610*time.Second-5*time.Minute, -3610*time.Second-5*time.Minute)
	if got := d.Pace("acme", d.noon()); got.GPU != 5*time.Minute+30*time.Second+time.Minute || got.Started != 1 {
		t.Errorf("%+v", got)
	}
	if got := d.Pace("acme", d.noon().Add(-61*time.Minute)); got.GPU != 90*time.Second || got.Started != 2 {
		t.Errorf("61 minutes before: %+v", got)
	}
	sum := time.Duration(0)
	for _, ran := range d.Busy("gpu-1", nil, d.noon()) {
		sum += ran
	}
	if sum != 5*time.Minute {
		t.Errorf("the host ran %s of the last hour", sum)
	}
	steps, _ := d.Trend(d.noon())
	all := job.Counts{}
	for i := range steps {
		all.Add(&steps[i])
	}
	if all.Of(job.Completed) != 1 || all.Of(job.Started) != 1 {
		t.Errorf("the last hour has %v", all.States())
	}
	if got := d.Busy("gpu-1", []time.Time{d.noon().Add(-3 * time.Hour)}, d.noon())[0]; got != 2*time.Minute {
		t.Errorf("a job that has run for three hours ran %s of the first step", got)
	}
}

func TestWaitsAreOfFirstAttemptsAndOfAnyLength(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		took      time.Duration
		low, high time.Duration
	}{
		"Short":       {50 * time.Millisecond, 50 * time.Millisecond, 50 * time.Millisecond},
		"ALittleMore": {51 * time.Millisecond, 60 * time.Millisecond, 60 * time.Millisecond},
		"Tenth":       {100 * time.Millisecond, 100 * time.Millisecond, 120 * time.Millisecond},
		"TwoDays":     {48 * time.Hour, 24 * time.Hour, 48 * time.Hour},
	} {
		d := &day{Fold: job.NewFold(10)}
		d.add("one", job.Queued, -time.Minute-c.took, job.Brief{})
		d.add("one", job.Started, -time.Minute, job.Brief{Host: "gpu-1", Attempt: 1})
		d.add("one", job.Failed, -time.Minute, job.Brief{Host: "gpu-1", Attempt: 1})
		d.add("one", job.Started, -time.Minute, job.Brief{Host: "gpu-1", Attempt: 2})
		d.add("two", job.Queued, -time.Minute, job.Brief{})
		d.add("two", job.Waiting, -time.Second, job.Brief{Attempt: 1})
		if got := d.Pace("acme", d.noon()); got.Started != 1 || got.WaitMost < c.low || got.WaitMost > c.high || got.WaitP95 != got.WaitMost || got.GPU != 0 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	d := &day{Fold: job.NewFold(1000)}
	for i := range 100 { // six wait for longer, so 95 % have not waited less
		id, took := fmt.Sprint("job-", i), time.Second
		if i >= 94 {
			took = 100 * time.Second
		}
		d.add(id, job.Queued, -10*time.Minute, job.Brief{})
		d.add(id, job.Started, -10*time.Minute+took, job.Brief{Host: "gpu-1", Attempt: 1})
	}
	if got := d.Pace("acme", d.noon()); got.WaitP95 < 100*time.Second {
		t.Errorf("95 %% waited %s", got.WaitP95)
	}
}

func TestAnAttemptIsKeptWhenARunEnds(t *testing.T) {
	t.Parallel()
	d := &day{Fold: job.NewFold(10)}
	on := job.Brief{Host: "gpu-1", Attempt: 1, Kind: failure.Timeout}
	d.add("one", job.Queued, -9*time.Minute, job.Brief{Host: "gpu-1"})
	d.add("one", job.Started, -8*time.Minute, on)
	d.add("one", job.Started, -7*time.Minute, on) // told again: it began then
	d.add("one", job.Failed, -6*time.Minute, on)
	d.add("one", job.Retrying, -5*time.Minute, on)
	d.add("one", job.Started, -4*time.Minute, on)
	d.add("one", job.Cancelled, -3*time.Minute, on)
	d.add("two", job.Started, -4*time.Minute, on)
	d.add("two", job.Dead, -2*time.Minute, on)
	d.add("three", job.Started, -4*time.Minute, job.Brief{})
	d.add("three", job.Completed, -time.Minute, job.Brief{})
	if pace := d.Pace("acme", d.noon()); pace.GPU != 7*time.Minute || pace.Started != 2 {
		t.Errorf("%+v", pace)
	}
	var got []string
	for _, a := range d.Attempts("gpu-1") {
		got = append(got, fmt.Sprint(a.Job, " ", a.End, " ", a.Kind, " ", a.Ended.Sub(a.Begun)))
	}
	want := []string{"two dead timeout 2m0s", "one cancelled  1m0s", "one failed timeout 1m0s"}
	if diff := cmp.Diff(want, got); diff != "" || d.BusyHosts() != 1 {
		t.Errorf("%d hosts: %s", d.BusyHosts(), diff)
	}
}

func TestAGroupOfDeadJobsTellsOfTheNewest(t *testing.T) {
	t.Parallel()
	s := begun(10)
	dead := func(e job.Event, host string) {
		s.sequence++
		s.Add(&job.StoredEvent{
			Tenant: e.Tenant, Job: e.Job, Kind: job.Dead, Sequence: s.sequence, Time: at(s.sequence), Readable: true, Brief: job.Brief{Host: host}, Dead: &e,
		})
	}
	like := job.Event{
		EventKind: job.Dead, Job: "one", Tenant: "acme", Host: "gpu-1", Reason: "attempts_exhausted", Kind: failure.ExecutionError, Class: "KSampler",
		Exception: "RuntimeError", Message: "x" + strings.Repeat("y", 2000),
	}
	dead(like, "gpu-1") // 1
	dead(like, "gpu-1") // 2: the same job again
	second := like
	second.Job, second.Tenant = "two", "bolt"
	dead(second, "gpu-1") // 3
	third := like
	third.Job, third.Host = "three", ""
	dead(third, "") // 4
	other := job.Event{EventKind: job.Dead, Job: "five", Tenant: "acme", Host: "gpu-2", Reason: "not_retryable", Kind: failure.Incapable, Message: "no model"}
	dead(other, "gpu-2") // 5
	for range 8 {        // groups of several tenants are met in any order
		got := s.DeadGroups("", "", "")
		want := job.DeadGroup{
			Signature: like.Signature(), Count: 3, Tenants: []job.Tenant{"acme", "bolt"}, Hosts: []string{"gpu-1"}, First: at(1), Last: at(4),
			Newest: job.Event{
				Job: "three", Tenant: "acme", Reason: "attempts_exhausted", Kind: failure.ExecutionError, Class: "KSampler", Exception: "RuntimeError",
				Message: like.Message[:1024],
			},
		}
		if diff := cmp.Diff(want, got[0]); diff != "" || len(got) != 2 || got[1].Count != 1 {
			t.Fatalf("%d groups: %s", len(got), diff)
		}
	}
	for name, c := range map[string]struct{ got, want int }{
		"AnotherReason": {len(s.DeadGroups("", "", "not_retryable")), 1}, "NoReason": {len(s.DeadGroups("", "", "expired")), 0},
		"Kind": {len(s.DeadGroups("", failure.Incapable, "")), 1}, "BothApart": {len(s.DeadGroups("", failure.Incapable, "attempts_exhausted")), 0},
	} {
		if c.got != c.want {
			t.Errorf("%s: %d groups, want %d", name, c.got, c.want)
		}
	}
	s.Forget(moment(3))
	if got := s.DeadGroups("", "", ""); got[0].Count != 2 || !cmp.Equal(got[0].Hosts, []string{"gpu-1"}) || !got[0].First.Equal(at(3)) {
		t.Errorf("after one is forgotten: %+v", got[0])
	}
	s.Forget(moment(5))
	if got := s.DeadGroups("", "", ""); len(got) != 1 || got[0].Newest.Job != "five" {
		t.Errorf("after all of the first are forgotten: %+v", got)
	}
}
