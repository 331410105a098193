package job_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
)

func TestARowHasItsNameAndTheTitleOfItsWorkflow(t *testing.T) {
	t.Parallel()
	s := begun(2)
	s.add("acme", "one", job.Queued, job.Brief{Hash: hashA, Name: "a cat", Title: "base, image"})
	s.add("acme", "one", job.Started, job.Brief{Hash: hashA, Name: "a cat"})
	row := all(s.Fold, "acme")[0]
	if row.Name != "a cat" || row.Title != "base, image" {
		t.Errorf("%+v", row)
	}
	if got := s.Texts("acme", "one"); got != (job.Texts{Name: "a cat", Title: "base, image"}) {
		t.Errorf("%+v", got)
	}
	if got := s.Texts("other", "one"); got != (job.Texts{}) {
		t.Errorf("another tenant's job has %+v", got)
	}
	s.add("acme", "two", job.Queued, job.Brief{Hash: hashB})
	s.add("acme", "three", job.Queued, job.Brief{Hash: hashB}) // one is dropped
	if got := s.Texts("acme", "one"); got != (job.Texts{}) {
		t.Errorf("a job that was forgotten has %+v", got)
	}
}

func TestJobsAreFoundByATextOfTheirNameOrMetadata(t *testing.T) {
	t.Parallel()
	s := begun(10)
	s.add("acme", "one", job.Queued, job.Brief{Name: "A Cat"})
	s.add("acme", "two", job.Queued, job.Brief{Metadata: []byte(`{"order":"CAT-17"}`)})
	s.add("acme", "three", job.Queued, job.Brief{Name: "dog"})
	s.add("acme", "four", job.Queued, job.Brief{})
	s.add("acme", "five", job.Queued, job.Brief{Metadata: []byte(`"` + strings.Repeat("x", 600) + `cat"`)}) // behind what is kept
	for text, want := range map[string]string{"cat": "acme/two acme/one", "CAT-17": "acme/two", "order": "acme/two", "o": "acme/three acme/two", "": "acme/five acme/four acme/three acme/two acme/one"} {
		if got := ids(s.Page(&job.Query{Text: text, Limit: 10, Look: 100}).Rows); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestTextsOfTheOldestJobsAreForgottenWhenThereAreTooMany(t *testing.T) {
	t.Parallel()
	s := begun(1000)
	s.KeepTexts(3 * (64 + 4))
	for _, id := range []job.ID{"a", "b", "c", "d"} {
		s.add("acme", id, job.Queued, job.Brief{Name: "name"})
	}
	if got := ids(s.Page(&job.Query{Text: "name", Limit: 10, Look: 100}).Rows); got != "acme/d acme/c acme/b" {
		t.Errorf("found %q", got)
	}
	if got := ids(all(s.Fold, "acme")); got != "acme/d acme/c acme/b acme/a" {
		t.Errorf("listed %q", got)
	}
}

// nextDay is when nothing has happened for an hour.
var nextDay = at(1).Add(24 * time.Hour)

func TestWorkflowsCountTheirJobs(t *testing.T) {
	t.Parallel()
	s := begun(10)
	s.add("acme", "one", job.Queued, job.Brief{Hash: hashA, Title: "base, image"})                     // 1
	s.add("acme", "two", job.Queued, job.Brief{Hash: hashB})                                           // 2
	s.add("other", "one", job.Queued, job.Brief{Hash: hashA, Title: "base, image"})                    // 3
	s.add("acme", "one", job.Completed, job.Brief{Hash: hashA, RanFor: job.Duration(4 * time.Second)}) // 4
	s.add("acme", "bad", job.Dead, job.Brief{})                                                        // 5: it has no workflow
	both := job.WorkflowRow{Hash: hashA, Title: "base, image", RanFor: 4 * time.Second, Last: moment(4), Done: job.Key{Tenant: "acme", Job: "one"}}
	second := job.WorkflowRow{Hash: hashB, Last: moment(2)}
	for name, c := range map[string]struct {
		got, want []job.WorkflowRow
	}{
		"All":        {s.Workflows("", "", 0, 10, nextDay), []job.WorkflowRow{both, second}},
		"OfATenant":  {s.Workflows("other", "", 0, 10, nextDay), []job.WorkflowRow{{Hash: hashA, Title: "base, image", Last: moment(3)}}},
		"ByDigits":   {s.Workflows("", "aa2", 0, 10, nextDay), []job.WorkflowRow{second}},
		"SecondPage": {s.Workflows("", "", 4, 10, nextDay), []job.WorkflowRow{second}},
		"AtMostOne":  {s.Workflows("", "", 0, 1, nextDay), []job.WorkflowRow{both}},
		"OfNobody":   {s.Workflows("none", "", 0, 10, nextDay), []job.WorkflowRow{}},
	} {
		for i := range c.got {
			if c.got[i].Hash == hashA && name == "All" {
				if diff := cmp.Diff(map[job.EventKind]int{job.Completed: 1, job.Queued: 1}, c.got[i].Counts.States()); diff != "" {
					t.Error(diff)
				}
			}
			c.got[i].Counts = job.Counts{}
		}
		if diff := cmp.Diff(c.want, c.got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	s.Forget(moment(6))
	if left := s.Workflows("", "", 0, 10, nextDay); len(left) != 0 {
		t.Errorf("%+v are left", left)
	}
}

func TestAWorkflowThatIsKnownLaterMovesTheJob(t *testing.T) {
	t.Parallel()
	s := begun(10)
	s.add("acme", "one", job.Queued, job.Brief{})
	s.add("acme", "one", job.Started, job.Brief{Hash: hashA})
	s.add("acme", "one", job.Completed, job.Brief{Hash: hashB})
	got := s.Workflows("", "", 0, 10, nextDay)
	if len(got) != 1 || got[0].Hash != hashB || got[0].Counts.Of(job.Completed) != 1 || got[0].Counts.Of(job.Started) != 0 {
		t.Errorf("%+v", got)
	}
}

func TestTheTrendCountsEventsByTheStepOfTheirTime(t *testing.T) {
	t.Parallel()
	f := job.NewFold(10)
	begin := time.Unix(1_800_000_000, 0) // the beginning of a step
	for i, after := range []time.Duration{0, 9 * time.Second, 10 * time.Second, 59 * time.Minute, 2 * time.Hour} {
		f.Add(&job.StoredEvent{Tenant: "acme", Job: "one", Kind: job.Queued, Sequence: uint64(i + 1), Time: begin.Add(after)})
		if after == 59*time.Minute {
			steps, until := f.Trend(begin.Add(time.Hour + 5*time.Second))
			if len(steps) != 360 || !until.Equal(begin.Add(time.Hour)) || steps[0].Of(job.Queued) != 2 || steps[1].Of(job.Queued) != 1 || steps[354].Of(job.Queued) != 1 {
				t.Errorf("%d steps until %s, the first %v, %v", len(steps), until, steps[0], steps[1])
			}
		}
	}
	steps, _ := f.Trend(begin.Add(2*time.Hour + 10*time.Second))
	sum := job.Counts{}
	for i := range steps {
		sum.Add(&steps[i])
	}
	if sum.Of(job.Queued) != 1 || steps[359].Of(job.Queued) != 1 {
		t.Errorf("the hour before has %v", sum)
	}
}

func TestADayIsCountedFromTheQuarterOfAnHourInWhichItBegan(t *testing.T) {
	t.Parallel()
	f := job.NewFold(10)
	noon := time.Unix(1_800_000_000, 0).Truncate(job.DayStep)
	for i, after := range []time.Duration{0, 14 * time.Minute, 16 * time.Minute, 47 * time.Hour} {
		f.Add(&job.StoredEvent{Tenant: "acme", Job: "one", Kind: job.Dead, Sequence: uint64(i + 1), Time: noon.Add(after)})
	}
	now := noon.Add(47*time.Hour + time.Minute)
	for name, c := range map[string]struct {
		since time.Time
		dead  int
		from  time.Time
	}{
		"AllOfIt":         {noon.Add(5 * time.Minute), 4, noon},
		"BehindAStep":     {noon.Add(15 * time.Minute), 2, noon.Add(15 * time.Minute)},
		"LongAgo":         {time.Time{}, 4, noon.Add(-time.Hour)},
		"InTheFuture":     {now.Add(time.Hour), 1, noon.Add(47 * time.Hour)},
		"SinceAnHourOnly": {now.Add(-time.Hour), 1, noon.Add(46 * time.Hour)},
	} {
		if sum, from := f.Day(c.since, now); sum.Of(job.Dead) != c.dead || !from.Equal(c.from) {
			t.Errorf("%s: %d since %s, want %d since %s", name, sum.Of(job.Dead), from, c.dead, c.from)
		}
	}
}

func TestHowLongAWorkflowRunsIsTheMedianOfItsLastRuns(t *testing.T) {
	t.Parallel()
	s := begun(100)
	ran := func(seconds ...int) time.Duration {
		for _, n := range seconds {
			s.add("acme", job.ID(fmt.Sprintf("job-%d", s.sequence)), job.Completed, job.Brief{Hash: hashA, RanFor: job.Duration(time.Duration(n) * time.Second)})
		}
		return s.Workflows("", "", 0, 10, nextDay)[0].RanFor
	}
	for _, c := range []struct {
		runs []int
		want time.Duration
	}{
		{[]int{0}, 0}, {[]int{7}, 7 * time.Second}, {[]int{100}, 53500 * time.Millisecond}, {[]int{8}, 8 * time.Second},
		{[]int{5, 5, 5, 5, 5, 5, 5, 5, 5}, 5 * time.Second}, {[]int{9, 9, 9, 9}, 5 * time.Second}, {[]int{9}, 9 * time.Second},
	} {
		if got := ran(c.runs...); got != c.want {
			t.Errorf("after %v: %s, want %s", c.runs, got, c.want)
		}
	}
}

func TestDeadJobsAreGroupedByWhatTheyDiedOf(t *testing.T) {
	t.Parallel()
	s := begun(4)
	dead := func(tenant job.Tenant, id job.ID, host, message string) {
		s.sequence++
		e := job.Event{EventKind: job.Dead, Job: id, Tenant: tenant, Host: host, Reason: "attempts_exhausted", Kind: failure.OutOfMemory, Message: message}
		s.Add(&job.StoredEvent{
			Tenant: tenant, Job: id, Kind: job.Dead, Sequence: s.sequence, Time: at(s.sequence), Readable: true, Brief: job.Brief{Host: host}, Dead: &e,
		})
	}
	dead("acme", "one", "gpu-1", "needs 5 GiB")
	dead("acme", "two", "gpu-2", "needs 7 GiB")
	dead("bolt", "one", "gpu-1", "needs 9 GiB")
	dead("bolt", "two", "gpu-3", "no such file")
	list := func(groups []job.DeadGroup) string {
		var text []string
		for _, g := range groups {
			text = append(text, fmt.Sprintf("%d%v%v %s %d-%d", g.Count, g.Tenants, g.Hosts, g.Newest.Message, g.First.Unix()-at(0).Unix(), g.Last.Unix()-at(0).Unix()))
		}
		return strings.Join(text, "; ")
	}
	for name, c := range map[string]struct{ got, want string }{
		"All":       {list(s.DeadGroups("", "", "")), "3[acme bolt][gpu-1 gpu-2] needs 9 GiB 1-3; 1[bolt][gpu-3] no such file 4-4"},
		"OfATenant": {list(s.DeadGroups("acme", "", "")), "2[acme][gpu-1 gpu-2] needs 7 GiB 1-2"},
		"OfAKind":   {list(s.DeadGroups("", failure.Timeout, "")), ""},
		"OfAReason": {list(s.DeadGroups("bolt", "", "attempts_exhausted")), "1[bolt][gpu-1] needs 9 GiB 3-3; 1[bolt][gpu-3] no such file 4-4"},
	} {
		if c.got != c.want {
			t.Errorf("%s: %q, want %q", name, c.got, c.want)
		}
	}
	s.add("acme", "new", job.Queued, job.Brief{}) // and one is forgotten, so that the group begins where the history does
	if got := list(s.DeadGroups("acme", "", "")); got != "1[acme][gpu-2] needs 7 GiB 1-2" {
		t.Errorf("after one was forgotten: %q", got)
	}
}

func TestOfTooManyGroupsOfDeadJobsTheSmallestAreForgotten(t *testing.T) {
	t.Parallel()
	s := begun(1000)
	s.KeepGroups(4)
	dead := func(message string) {
		s.sequence++
		e := job.Event{EventKind: job.Dead, Job: job.ID(fmt.Sprint("j", s.sequence)), Tenant: "acme", Host: "gpu-1", Reason: "not_retryable", Message: message}
		s.Add(&job.StoredEvent{
			Tenant: "acme", Job: e.Job, Kind: job.Dead, Sequence: s.sequence, Time: at(s.sequence), Readable: true, Brief: job.Brief{Host: "gpu-1"}, Dead: &e,
		})
	}
	for _, message := range []string{"often", "a", "often", "b", "c", "d"} {
		dead(message)
	}
	list := func() string {
		var text []string
		for _, g := range s.DeadGroups("", "", "") {
			text = append(text, fmt.Sprint(g.Newest.Message, g.Count))
		}
		slices.Sort(text)
		return strings.Join(text, " ")
	}
	if got := list(); got != "c1 d1 often2" {
		t.Errorf("%q are left", got)
	}
	dead("a")
	s.Forget(moment(3)) // the first of often, and of a, which is in no group any more
	if got := list(); got != "a1 c1 d1 often1" {
		t.Errorf("%q are left after the oldest jobs are forgotten", got)
	}
}
