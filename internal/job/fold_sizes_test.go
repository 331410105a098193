package job_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// namingAll is an event's body that names everything, each time something else.
func namingAll(n int) job.Brief {
	return job.Brief{
		Hash: workflow.Hash(fmt.Sprintf("%064x", n)), Host: fmt.Sprint("gpu-", n), Kind: failure.Kind(fmt.Sprint("kind_", n)),
		Reason: fmt.Sprint("reason_", n), RequeueOf: job.ID(fmt.Sprint("root-", n)),
	}
}

func TestWhatIsKeptGoesWithItsRow(t *testing.T) {
	t.Parallel()
	s := begun(100)
	s.add("acme", "bare", job.Queued, job.Brief{})
	if diff := cmp.Diff(job.Sizes{Rows: 1, Index: 1, Tenants: 1, Places: 1, Names: 1, NameRoom: 2}, s.Sizes()); diff != "" {
		t.Errorf("one bare job: %s", diff)
	}
	s.add("bolt", "full", job.Dead, namingAll(1))
	if diff := cmp.Diff(job.Sizes{Rows: 2, Index: 2, Requeues: 1, Tenants: 2, Places: 2, Names: 6, NameRoom: 7}, s.Sizes()); diff != "" {
		t.Errorf("one that has everything: %s", diff)
	}
	s.add("bolt", "full", job.Dead, namingAll(2)) // five other names, for which room is kept
	if diff := cmp.Diff(job.Sizes{Rows: 2, Index: 2, Requeues: 1, Tenants: 2, Places: 3, Names: 6, NameRoom: 8}, s.Sizes()); diff != "" {
		t.Errorf("and everything anew: %s", diff)
	}
	s.Forget(moment(4))
	if diff := cmp.Diff(job.Sizes{Rows: 2, Places: 3, NameRoom: 8}, s.Sizes()); diff != "" {
		t.Errorf("nothing is left: %s", diff)
	}
	s.add("bolt", "full", job.Dead, namingAll(3))
	if diff := cmp.Diff(job.Sizes{Rows: 2, Index: 1, Requeues: 1, Tenants: 1, Places: 4, Names: 5, NameRoom: 8}, s.Sizes()); diff != "" {
		t.Errorf("room that is free is used first: %s", diff)
	}
}

func TestVoidPlacesAreFewerThanTheOthersAndAFew(t *testing.T) {
	t.Parallel()
	s := begun(100)
	for range 66 { // 2 × 1 row + 64
		s.add("acme", "one", job.Started, job.Brief{})
	}
	if all, of := s.Sizes().Places, s.TenantPlaces(); all != 66 || of != 66 {
		t.Errorf("%d and %d places after 66 events", all, of)
	}
	s.add("acme", "one", job.Started, job.Brief{})
	if all, of := s.Sizes().Places, s.TenantPlaces(); all != 1 || of != 1 {
		t.Errorf("%d and %d places after 67 events", all, of)
	}
	if got := ids(all(s.Fold, "acme")); got != "acme/one" {
		t.Errorf("there are %s", got)
	}
}

func TestForgettingRemovesVoidPlaces(t *testing.T) {
	t.Parallel()
	s := begun(1000)
	for n := range 100 {
		s.add("acme", job.ID(fmt.Sprint(n)), job.Started, job.Brief{})
	}
	s.Forget(moment(100)) // leaves one row: 99 places are void, of which 64 may stay
	if all, of := s.Sizes().Places, s.TenantPlaces(); all != 1 || of < 1 || of > 66 {
		t.Errorf("%d places, and %d of the tenant", all, of)
	}
}

func TestRowsOfAnyAgeThatAreLeftOutDoNotMoveSinceBack(t *testing.T) {
	t.Parallel()
	s := begun(2)
	s.add("acme", "old", job.Queued, job.Brief{})      // 1
	s.add("acme", "ended", job.Completed, job.Brief{}) // 2
	s.add("acme", "next", job.Queued, job.Brief{})     // 3: ended goes
	s.add("acme", "last", job.Queued, job.Brief{})     // 4: old goes, whose event is older
	if want := (job.Mark{Sequence: 3, Time: at(2)}); s.Since() != want {
		t.Errorf("since %v, want %v", s.Since(), want)
	}
	s.Forget(moment(2))
	if want := (job.Mark{Sequence: 3, Time: at(2)}); s.Since() != want {
		t.Errorf("since %v after what is older is forgotten, want %v", s.Since(), want)
	}
}

// Places are renumbered when void ones are removed, and the search for a row that has ended begins anew.
func TestTheOldestEndedRowIsFoundAfterVoidPlacesAreRemoved(t *testing.T) {
	t.Parallel()
	s := begun(3)
	s.add("acme", "first", job.Queued, job.Brief{})
	s.add("acme", "ended-1", job.Completed, job.Brief{})
	s.add("acme", "busy", job.Queued, job.Brief{})
	s.add("acme", "ended-2", job.Completed, job.Brief{}) // ended-1 goes
	for range 100 {
		s.add("acme", "busy", job.Started, job.Brief{}) // void places are removed on the way
	}
	s.add("acme", "more", job.Queued, job.Brief{})
	if got := ids(all(s.Fold, "")); got != "acme/more acme/busy acme/first" {
		t.Errorf("there are %s", got)
	}
}

func TestAQuestionWithoutLimitsHasOneRowAndLooksAtOnePlace(t *testing.T) {
	t.Parallel()
	s := begun(10)
	s.add("acme", "one", job.Queued, job.Brief{})
	s.add("acme", "two", job.Queued, job.Brief{})
	if p := s.Page(&job.Query{Look: 9}); ids(p.Rows) != "acme/two" || p.Next != 2 {
		t.Errorf("%s, next %d", ids(p.Rows), p.Next)
	}
	if p := s.Page(&job.Query{Limit: 9, Job: "one"}); len(p.Rows) != 0 || p.Next != 2 {
		t.Errorf("%s, next %d", ids(p.Rows), p.Next)
	}
	if p := s.Page(&job.Query{Limit: 9, Look: 9, Before: 1}); len(p.Rows) != 0 || p.Next != 0 {
		t.Errorf("before the first: %s, next %d", ids(p.Rows), p.Next)
	}
}

func TestATenantWithoutJobsHasNoCountsWhoeverElseHas(t *testing.T) {
	t.Parallel()
	s := begun(10)
	s.add("", "one", job.Queued, job.Brief{}) // written by another program
	if counts := s.Counts("acme"); counts != (job.Counts{}) {
		t.Errorf("%v", counts)
	}
}

func TestAFoldAnewIsEmptyAndHasTheSameLimit(t *testing.T) {
	t.Parallel()
	s := begun(2)
	s.add("acme", "one", job.Queued, job.Brief{})
	anew := story{Fold: s.Anew()}
	if anew.Len() != 0 || anew.Last() != (job.Mark{}) {
		t.Errorf("%d rows, last %v", anew.Len(), anew.Last())
	}
	for n := range 3 {
		anew.add("acme", job.ID(fmt.Sprint(n)), job.Queued, job.Brief{})
	}
	if anew.Len() != 2 {
		t.Errorf("%d rows, want 2", anew.Len())
	}
}

func TestWhatAnEventDoesNotSayStaysAsItWas(t *testing.T) {
	t.Parallel()
	s := begun(10)
	s.add("acme", "one", job.Started, job.Brief{Attempt: 2, RequeueOf: "root", Host: "gpu-1", Hash: hashA})
	s.add("acme", "one", job.Waiting, job.Brief{})
	want := job.Row{
		Tenant: "acme", Job: "one", State: job.Waiting, Attempt: 2, RequeueOf: "root", Host: "gpu-1", Hash: hashA, First: moment(1), Last: moment(2),
	}
	if diff := cmp.Diff([]job.Row{want}, all(s.Fold, "")); diff != "" {
		t.Error(diff)
	}
	s.sequence = 1
	s.add("acme", "one", job.Dead, job.Brief{}) // sequence 2 again
	if got := all(s.Fold, ""); len(got) != 1 || got[0].State != job.Waiting {
		t.Errorf("an event that comes twice counts: %+v", got)
	}
}

func TestAReasonHasSmallLettersDigitsAndLines(t *testing.T) {
	t.Parallel()
	s := begun(100)
	for i, c := range []struct {
		reason string
		kept   bool
	}{
		{"az_09", true}, {strings.Repeat("z", 64), true}, {strings.Repeat("z", 65), false},
		{"a{", false}, {"a`", false}, {"a:", false}, {"a/", false}, {"aZ", false}, {"aé", false},
	} {
		id := job.ID(fmt.Sprint(i))
		s.add("acme", id, job.Dead, job.Brief{Reason: c.reason})
		want := ""
		if c.kept {
			want = c.reason
		}
		if got := s.Page(&job.Query{Job: id, Limit: 1, Look: 100}).Rows; len(got) != 1 || got[0].Reason != want {
			t.Errorf("%q: %+v", c.reason, got)
		}
	}
}
