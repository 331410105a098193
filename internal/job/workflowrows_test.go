package job_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

func ran(d time.Duration) job.Brief { return job.Brief{Hash: hashA, RanFor: job.Duration(d)} }

func only(t *testing.T, s *story) job.WorkflowRow {
	t.Helper()
	list := s.Workflows("", "", 0, 10, nextDay)
	if len(list) != 1 {
		t.Fatalf("%d workflows", len(list))
	}
	return list[0]
}

func TestRunsCountWhenTheyAreCompletedAndTheMedianIsOfTheLastNine(t *testing.T) {
	t.Parallel()
	s := begun(100)
	s.add("acme", "one", job.Completed, ran(4*time.Second))
	s.add("acme", "two", job.Completed, ran(8*time.Second))
	s.add("acme", "bad", job.Failed, ran(time.Hour))
	s.add("acme", "bad", job.Dead, ran(time.Hour))
	s.add("acme", "kept", job.Completed, ran(0)) // its results were those of another run
	if got := only(t, s); got.RanFor != 6*time.Second || got.Done.Job != "kept" {
		t.Errorf("it runs for %s, and %s was completed last", got.RanFor, got.Done.Job)
	}
	for i := range 4 {
		s.add("acme", job.ID(fmt.Sprint("long-", i)), job.Completed, ran(16*time.Second))
	}
	for i := range 4 {
		s.add("acme", job.ID(fmt.Sprint("more-", i)), job.Completed, ran(4*time.Second))
	}
	// 8, four times 16, four times 4
	if got := only(t, s); got.RanFor != 8*time.Second {
		t.Errorf("it runs for %s", got.RanFor)
	}
	s.add("acme", "last", job.Completed, ran(16*time.Second)) // 8 is the tenth now
	if got := only(t, s); got.RanFor != 16*time.Second {
		t.Errorf("afterwards it runs for %s", got.RanFor)
	}
}

// The tenants are met in any order.
func TestAWorkflowOfTwoTenantsTellsOfTheOneWhoseJobWasLast(t *testing.T) {
	t.Parallel()
	s := begun(100)
	s.add("acme", "one", job.Completed, job.Brief{Hash: hashA, Title: "base, image", RanFor: job.Duration(4 * time.Second)})
	s.add("bolt", "two", job.Queued, job.Brief{Hash: hashA})
	for range 20 {
		if got := only(t, s); got.RanFor != 0 || got.Done != (job.Key{}) || got.Title != "base, image" || got.Last != moment(2) {
			t.Fatalf("while bolt's waits: %+v", got)
		}
	}
	s.add("acme", "one", job.Completed, job.Brief{Hash: hashA})
	for range 20 {
		if got := only(t, s); got.RanFor != 4*time.Second || got.Done != (job.Key{Tenant: "acme", Job: "one"}) || got.Last != moment(3) {
			t.Fatalf("after acme's: %+v", got)
		}
	}
}

// The row of the job that was completed last may stand for another job by now.
func TestTheJobThatWasCompletedLastIsToldWhileItStands(t *testing.T) {
	t.Parallel()
	for name, next := range map[string]struct {
		tenant job.Tenant
		hash   workflow.Hash
	}{"ofTheSame": {"acme", hashA}, "ofAnotherWorkflow": {"acme", hashB}, "ofAnotherTenant": {"bolt", hashA}} {
		s := begun(3)
		s.add("acme", "done", job.Completed, ran(time.Second))
		s.add("acme", "first", job.Waiting, ran(0))
		s.add("acme", "second", job.Waiting, ran(0))
		if got := only(t, s).Done.Job; got != "done" {
			t.Errorf("%s: %q was completed last", name, got)
		}
		s.add("acme", "third", job.Waiting, ran(0))                        // done goes
		s.add(next.tenant, "next", job.Queued, job.Brief{Hash: next.hash}) // takes its place, and first goes
		s.add(next.tenant, "next", job.Completed, job.Brief{Hash: next.hash})
		for _, w := range s.Workflows("acme", "", 0, 10, nextDay) {
			if own := next.tenant == "acme" && next.hash == w.Hash; (w.Done != job.Key{}) != own {
				t.Errorf("%s: of %.4s %+v was completed last", name, w.Hash, w.Done)
			}
		}
	}
}

func TestWorkflowsComeInTheOrderOfTheirLastEvents(t *testing.T) {
	t.Parallel()
	s := begun(100)
	for i := range 40 {
		s.add("acme", job.ID(fmt.Sprint(i)), job.Queued, job.Brief{Hash: workflow.Hash(fmt.Sprintf("%064d", i*7%40))})
	}
	for i, w := range s.Workflows("", "", 0, 100, nextDay) {
		if w.Last.Sequence != uint64(40-i) {
			t.Fatalf("place %d has the event %d", i, w.Last.Sequence)
		}
	}
	s.Forget(moment(40))
	if got := only(t, s); got.Counts.Of(job.Queued) != 1 {
		t.Errorf("left is %+v", got)
	}
}

func TestAWorkflowStandsUntilItsLastJobIsForgotten(t *testing.T) {
	t.Parallel()
	s := begun(100)
	s.add("acme", "one", job.Queued, job.Brief{Hash: hashA, Title: "base"})
	s.add("acme", "two", job.Queued, job.Brief{Hash: hashA, Title: "base, image"})
	s.Forget(moment(2))
	if got := only(t, s); got.Counts.Of(job.Queued) != 1 || got.Title != "base, image" {
		t.Errorf("left is %+v", got)
	}
}

func TestTextsHaveALongestLength(t *testing.T) {
	t.Parallel()
	for size, kept := range map[int]bool{480: true, 481: false} {
		s := begun(10)
		text := strings.Repeat("n", size)
		s.add("acme", "one", job.Queued, job.Brief{Hash: hashA, Name: text, Title: text})
		want := job.Texts{}
		if kept {
			want = job.Texts{Name: text, Title: text}
		}
		if got := s.Texts("acme", "one"); got != want {
			t.Errorf("of %d bytes are kept %d and %d", size, len(got.Name), len(got.Title))
		}
	}
}

// Names, metadata and what a row with texts takes beside them count; those that have gone do not.
func TestTextsTakeNoMoreThanTheyMayWhateverHasComeAndGone(t *testing.T) {
	t.Parallel()
	s := begun(3)
	s.KeepTexts(2 * (64 + 4 + 10))
	for i := range 300 {
		s.add("acme", job.ID(fmt.Sprint("job-", i)), job.Completed, job.Brief{Name: "name", Metadata: []byte(`"12345678"`)})
		s.add("acme", job.ID(fmt.Sprint("job-", i)), job.Completed, job.Brief{Name: "other"}) // the first that has some counts
	}
	if got := ids(all(s.Fold, "acme")); got != "acme/job-299 acme/job-298 acme/job-297" {
		t.Errorf("listed %q", got)
	}
	if got := ids(s.Page(&job.Query{Text: "12345678", Limit: 10, Look: 100}).Rows); got != "acme/job-299 acme/job-298" {
		t.Errorf("found %q", got)
	}
	if got := ids(s.Page(&job.Query{Text: "other", Limit: 10, Look: 100}).Rows); got != "" {
		t.Errorf("found by a later name: %q", got)
	}
}
