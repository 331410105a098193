package job_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// at is when the event with a sequence was stored.
func at(sequence uint64) time.Time { return time.Unix(1_800_000_000+int64(sequence), 0) }

func moment(sequence uint64) job.Mark {
	return job.Mark{Sequence: sequence, Time: at(sequence)}
}

// story adds events to a fold, one sequence after the other.
type story struct {
	*job.Fold
	sequence uint64
}

func (s *story) add(tenant job.Tenant, id job.ID, kind job.EventKind, b job.Brief) uint64 {
	s.sequence++
	s.Add(&job.StoredEvent{Tenant: tenant, Job: id, Kind: kind, Sequence: s.sequence, Time: at(s.sequence), Readable: true, Brief: b})
	return s.sequence
}

func begun(limit int) *story { return &story{Fold: job.NewFold(limit)} }

var (
	hashA = workflow.Hash("aa11" + strings.Repeat("0", 60))
	hashB = workflow.Hash("aa22" + strings.Repeat("0", 60))
)

// all asks for all rows of a tenant.
func all(f *job.Fold, tenant job.Tenant) []job.Row {
	return f.Page(&job.Query{Tenant: tenant, Limit: 1 << 20, Look: 1 << 20}).Rows
}

func ids(rows []job.Row) string {
	var text []string
	for _, r := range rows {
		text = append(text, string(r.Tenant)+"/"+string(r.Job))
	}
	return strings.Join(text, " ")
}

func TestARowSaysWhatTheLastEventOfItsJobSays(t *testing.T) {
	t.Parallel()
	s := begun(10)
	base := job.Brief{Priority: 7, Hash: hashA, RequeueOf: "root"}
	with := func(edit func(*job.Brief)) job.Brief {
		b := base
		edit(&b)
		return b
	}
	row := job.Row{Tenant: "acme", Job: "one", Priority: 7, Hash: hashA, RequeueOf: "root", MaxAttempts: 5, First: moment(1)}
	for _, step := range []struct {
		kind  job.EventKind
		brief job.Brief
		want  func(*job.Row)
	}{
		{job.Queued, with(func(b *job.Brief) { b.MaxAttempts = 5 }), func(*job.Row) {}},
		{job.Waiting, with(func(b *job.Brief) { b.Reason = "all_blocked" }), func(r *job.Row) { r.Reason = "all_blocked" }},
		{job.Started, with(func(b *job.Brief) { b.Host, b.Attempt = "gpu-1", 1 }), func(r *job.Row) { r.Reason, r.Host, r.Attempt = "", "gpu-1", 1 }},
		{job.Failed, with(func(b *job.Brief) { b.Host, b.Attempt, b.Kind = "gpu-1", 1, failure.OutOfMemory }), func(r *job.Row) { r.Kind = failure.OutOfMemory }},
		{job.Retrying, with(func(b *job.Brief) { b.Attempt = 2 }), func(r *job.Row) { r.Attempt = 2 }},
		{job.Started, with(func(b *job.Brief) { b.Host, b.Attempt = "gpu-2", 2 }), func(r *job.Row) { r.Host = "gpu-2" }},
		{job.Completed, with(func(b *job.Brief) { b.Host, b.Attempt = "gpu-2", 2 }), func(r *job.Row) { r.Kind = "" }},
	} {
		sequence := s.add("acme", "one", step.kind, step.brief)
		row.State, row.Last = step.kind, moment(sequence)
		step.want(&row)
		if diff := cmp.Diff([]job.Row{row}, all(s.Fold, "")); diff != "" {
			t.Errorf("after %s: %s", step.kind, diff)
		}
	}
}

func TestAnEventWhoseBodyNobodyCanReadChangesTheStateOnly(t *testing.T) {
	t.Parallel()
	s := begun(10)
	s.add("acme", "one", job.Started, job.Brief{Priority: 7, Hash: hashA, Host: "gpu-1", Attempt: 1})
	s.Add(&job.StoredEvent{Tenant: "acme", Job: "one", Kind: job.Cancelled, Sequence: 9, Time: at(9)})
	want := job.Row{
		Tenant: "acme", Job: "one", State: job.Cancelled, Priority: 7, Hash: hashA, Host: "gpu-1", Attempt: 1, First: moment(1), Last: moment(9),
	}
	if diff := cmp.Diff([]job.Row{want}, all(s.Fold, "")); diff != "" {
		t.Error(diff)
	}
}

func TestWhatIsNoWordIsNoReasonAndNoKind(t *testing.T) {
	t.Parallel()
	s := begun(10)
	for i, text := range []string{"\x1b[2J", "Shouted", strings.Repeat("x", 65), "no, thanks"} {
		s.add("acme", job.ID(fmt.Sprint(i)), job.Dead, job.Brief{Reason: text, Kind: failure.Kind(text)})
	}
	for _, r := range all(s.Fold, "") {
		if r.Reason != "" || r.Kind != "" {
			t.Errorf("%+v", r)
		}
	}
}

func TestEventsThatComeAgainAndKindsThatNobodyKnowsAreLeftOut(t *testing.T) {
	t.Parallel()
	s := begun(10)
	s.add("acme", "one", job.Queued, job.Brief{})
	s.add("acme", "one", job.Completed, job.Brief{})
	s.sequence = 0
	s.add("acme", "one", job.Dead, job.Brief{})
	s.sequence = 2
	s.add("acme", "one", "mood", job.Brief{})
	s.add("acme", "two", "mood", job.Brief{})
	rows := all(s.Fold, "")
	if len(rows) != 1 || rows[0].State != job.Completed || rows[0].Last.Sequence != 2 || s.Last() != moment(4) {
		t.Errorf("%+v, last %v", rows, s.Last())
	}
}

func TestPagesGoFromTheNewestEventToTheOldest(t *testing.T) {
	t.Parallel()
	s := begun(10)
	for _, id := range []job.ID{"a", "b", "c", "d", "e"} {
		s.add("acme", id, job.Queued, job.Brief{})
	}
	s.add("acme", "b", job.Started, job.Brief{}) // 6
	first := s.Page(&job.Query{Limit: 2, Look: 100})
	s.add("acme", "a", job.Started, job.Brief{}) // is newer than the pages now
	second := s.Page(&job.Query{Limit: 2, Look: 100, Before: first.Next})
	third := s.Page(&job.Query{Limit: 2, Look: 100, Before: second.Next})
	got := fmt.Sprintf("%s|%d|%s|%d|%s|%d", ids(first.Rows), first.Next, ids(second.Rows), second.Next, ids(third.Rows), third.Next)
	if want := "acme/b acme/e|5|acme/d acme/c|3||0"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestFiltersAreAllMet(t *testing.T) {
	t.Parallel()
	s := begun(100)
	s.add("acme", "red-1", job.Queued, job.Brief{Hash: hashA})
	s.add("acme", "red-2", job.Started, job.Brief{Hash: hashA, Host: "gpu-1"})
	s.add("acme", "red-3", job.Dead, job.Brief{Hash: hashB, Host: "gpu-2", Kind: failure.Timeout, Reason: "attempts_exhausted"})
	s.add("bolt", "red-4", job.Started, job.Brief{Hash: hashB, Host: "gpu-1"})
	s.add("bolt", "blue", job.Waiting, job.Brief{Hash: hashB, Reason: "all_blocked"})
	for name, c := range map[string]struct {
		query job.Query
		want  string
	}{
		"All":             {job.Query{}, "bolt/blue bolt/red-4 acme/red-3 acme/red-2 acme/red-1"},
		"Tenant":          {job.Query{Tenant: "acme"}, "acme/red-3 acme/red-2 acme/red-1"},
		"NoSuchTenant":    {job.Query{Tenant: "gpu-1"}, ""},
		"State":           {job.Query{State: job.Started}, "bolt/red-4 acme/red-2"},
		"StateOfTenant":   {job.Query{State: job.Started, Tenant: "acme"}, "acme/red-2"},
		"NobodysState":    {job.Query{State: "mood"}, ""},
		"HashPrefix":      {job.Query{Hash: "aa1"}, "acme/red-2 acme/red-1"},
		"Hash":            {job.Query{Hash: hashB, Tenant: "bolt"}, "bolt/blue bolt/red-4"},
		"Host":            {job.Query{Host: "gpu-1"}, "bolt/red-4 acme/red-2"},
		"NoSuchHost":      {job.Query{Host: "gpu-9"}, ""},
		"Kind":            {job.Query{Kind: failure.Timeout}, "acme/red-3"},
		"Reason":          {job.Query{Reason: "all_blocked"}, "bolt/blue"},
		"IDPrefix":        {job.Query{Job: "red-"}, "bolt/red-4 acme/red-3 acme/red-2 acme/red-1"},
		"HostAndHash":     {job.Query{Host: "gpu-1", Hash: hashB}, "bolt/red-4"},
		"NothingMeetsAll": {job.Query{Host: "gpu-2", State: job.Started}, ""},
	} {
		c.query.Limit, c.query.Look = 100, 100
		p := s.Page(&c.query)
		if got := ids(p.Rows); got != c.want || p.Next != 0 {
			t.Errorf("%s: %s, want %s; next %d", name, got, c.want, p.Next)
		}
	}
}

// A page ends after so many places, however few rows it has, and says where to go on.
func TestAFilterThatMatchesRarelyLooksAtNoMoreThanItMay(t *testing.T) {
	t.Parallel()
	s := begun(100)
	s.add("acme", "rare", job.Started, job.Brief{Host: "gpu-1"}) // 1
	for n := range 25 {
		s.add("acme", job.ID(fmt.Sprint(n)), job.Started, job.Brief{Host: "gpu-2"}) // 2 to 26
	}
	q := job.Query{Host: "gpu-1", Limit: 5, Look: 10}
	var nexts []uint64
	for {
		p := s.Page(&q)
		nexts = append(nexts, p.Next)
		if q.Before = p.Next; p.Next == 0 {
			if got := ids(p.Rows); got != "acme/rare" {
				t.Errorf("the last page has %q", got)
			}
			break
		}
		if len(p.Rows) > 0 {
			t.Errorf("it has %s before the end", ids(p.Rows))
		}
	}
	if diff := cmp.Diff([]uint64{17, 7, 0}, nexts); diff != "" {
		t.Error(diff)
	}
}

func TestTheOldestEndedRowGoesFirstAndSinceTellsIt(t *testing.T) {
	t.Parallel()
	s := begun(3)
	s.Forget(moment(1))
	s.add("acme", "old", job.Queued, job.Brief{})      // 1
	s.add("acme", "ended", job.Completed, job.Brief{}) // 2
	s.add("bolt", "late", job.Completed, job.Brief{})  // 3
	if s.Since() != moment(1) {
		t.Errorf("since %v before anything is left out", s.Since())
	}
	s.add("bolt", "next", job.Queued, job.Brief{}) // 4: ended goes
	if got := ids(all(s.Fold, "")); got != "bolt/next bolt/late acme/old" {
		t.Errorf("there are %s", got)
	}
	if want := (job.Mark{Sequence: 3, Time: at(2)}); s.Since() != want {
		t.Errorf("since %v, want %v", s.Since(), want)
	}
	s.add("bolt", "more", job.Queued, job.Brief{}) // 5: late goes
	s.add("bolt", "most", job.Queued, job.Brief{}) // 6: none has ended, so old goes
	if got := ids(all(s.Fold, "")); got != "bolt/most bolt/more bolt/next" {
		t.Errorf("there are %s", got)
	}
	s.add("acme", "old", job.Completed, job.Brief{}) // 7: comes back, and as the only one that has ended goes again
	if got := ids(all(s.Fold, "")); got != "bolt/most bolt/more bolt/next" || len(all(s.Fold, "acme")) > 0 {
		t.Errorf("there are %s", got)
	}
}

func TestRowsGoWithTheEventsThatAreStoredNoMore(t *testing.T) {
	t.Parallel()
	s := begun(10)
	s.add("acme", "one", job.Completed, job.Brief{Hash: hashA}) // 1
	s.add("acme", "two", job.Queued, job.Brief{})               // 2
	s.add("bolt", "six", job.Queued, job.Brief{})               // 3
	s.add("acme", "two", job.Started, job.Brief{})              // 4
	s.Forget(moment(4))
	if got := ids(all(s.Fold, "")); got != "acme/two" || s.Since() != moment(4) || s.Len() != 1 {
		t.Errorf("there are %s since %v", got, s.Since())
	}
	if counts := s.Counts("bolt"); counts != (job.Counts{}) {
		t.Errorf("bolt has %v", counts)
	}
}

func TestCountsAreThoseOfTheRows(t *testing.T) {
	t.Parallel()
	s := begun(10)
	s.add("acme", "one", job.Queued, job.Brief{})
	s.add("acme", "two", job.Queued, job.Brief{})
	s.add("bolt", "one", job.Queued, job.Brief{})
	s.add("acme", "one", job.Completed, job.Brief{})
	acme, every := s.Counts("acme"), s.Counts("")
	got := fmt.Sprint(acme.Of(job.Queued), acme.Of(job.Completed), acme.Of("mood"), every.Of(job.Queued), every.Of(job.Completed), every.Of(job.Dead))
	if got != "1 1 0 2 1 0" {
		t.Errorf("counts %s", got)
	}
}

func TestAFoldKeepsAsManyRowsAsItsLimitAndAtLeastOne(t *testing.T) {
	t.Parallel()
	for limit, want := range map[int]string{0: "acme/three", 1: "acme/three", 2: "acme/three acme/two"} {
		s := begun(limit)
		for _, id := range []job.ID{"one", "two", "three"} {
			s.add("acme", id, job.Completed, job.Brief{})
		}
		if got := ids(all(s.Fold, "")); got != want {
			t.Errorf("limit %d: %s, want %s", limit, got, want)
		}
	}
}

// The many events of the third job leave places without a row, which are removed in between.
func TestTheRowThatHasEndedLongestAgoGoesFirstAfterOthersWereMovedUp(t *testing.T) {
	t.Parallel()
	s := begun(3)
	s.add("acme", "first", job.Completed, job.Brief{})
	s.add("acme", "second", job.Completed, job.Brief{})
	for range 70 {
		s.add("acme", "third", job.Waiting, job.Brief{})
	}
	if places := s.Sizes().Places; places > 70 {
		t.Fatalf("%d places for three rows", places)
	}
	s.add("acme", "fourth", job.Queued, job.Brief{})
	if got, want := ids(all(s.Fold, "")), "acme/fourth acme/third acme/second"; got != want {
		t.Errorf("left are %s, want %s", got, want)
	}
}
