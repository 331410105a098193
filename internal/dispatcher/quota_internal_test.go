package dispatcher

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// quotaScene is the quota of a tenant that may have 100 jobs, with what counts give.
type quotaScene struct {
	*quotas
	held   job.Unfinished // of the tenant
	upTo   uint64
	total  job.Unfinished // of all tenants
	err    error
	counts int // of the tenant
	asked  int // of all tenants
	later  []func()
}

func newQuotaScene(settings queue.TenantSettings) *quotaScene {
	s := &quotaScene{quotas: newQuotas()}
	s.usual = func() quota { return quota{} }
	s.beside = func(do func()) { s.later = append(s.later, do) }
	s.count = func(context.Context, job.Tenant) (job.Unfinished, uint64, error) {
		s.counts++
		return s.held, s.upTo, s.err
	}
	s.all = &total{ask: func(context.Context) (job.Unfinished, error) {
		s.asked++
		return s.total, s.err
	}}
	s.put("acme", settings)
	return s
}

// passTime lets the time of a bubble pass, which takes none.
func passTime(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // in a bubble it waits until all else does
}

// take has a job of a size taken in, whose first event has a sequence, and reports whether it may be.
func (s *quotaScene) take(bytes int, sequence uint64) bool {
	stored, why := s.admit(context.Background(), "acme", bytes)
	if why == "" {
		stored(sequence)
	}
	return why == ""
}

// runLater runs the counts that no job waits for.
func (s *quotaScene) runLater() int {
	later := s.later
	s.later = nil
	for _, do := range later {
		do()
	}
	return len(later)
}

func TestFarBelowItsQuotaATenantIsCountedOnceASecondBesideItsJobs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newQuotaScene(queue.TenantSettings{MaxUnfinished: 100})
		for range 5 {
			same(t, "taken in", s.take(1, 1), true)
		}
		same(t, "one count is begun", s.runLater(), 1)
		same(t, "what all have is enough", []int{s.asked, s.counts}, []int{1, 0})
		s.take(1, 2)
		passTime(time.Second)
		s.take(1, 3)
		same(t, "within a second", s.runLater(), 0)
		passTime(1)
		s.take(1, 4)
		s.take(1, 5)
		same(t, "afterwards", s.runLater(), 1)
	})
}

func TestNearItsQuotaEveryJobOfATenantIsCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newQuotaScene(queue.TenantSettings{MaxUnfinished: 10, MaxBytes: 1000})
		s.total, s.held, s.upTo = job.Unfinished{Jobs: 50, Bytes: 5000}, job.Unfinished{Jobs: 8, Bytes: 100}, 7
		same(t, "the first, before anything is counted", s.take(1, 8), true)
		s.runLater()
		same(t, "the tenth job", []any{s.take(1, 9), s.counts}, []any{true, 2})
		same(t, "the eleventh", s.take(1, 10), false)
		s.held, s.upTo = job.Unfinished{Jobs: 9, Bytes: 200}, 9 // both are counted now, and one has ended
		passTime(overAge + 1)
		same(t, "when one has ended", s.take(1, 11), true)
		s.held, s.upTo = job.Unfinished{Jobs: 3, Bytes: 900}, 11
		passTime(overAge + 1)
		same(t, "a job with all the bytes that are left", s.take(100, 12), true)
		_, why := s.admit(t.Context(), "acme", 1)
		if !strings.Contains(why, "unfinished jobs of 1001 bytes and may have 1000") || !strings.Contains(why, "--max-bytes SIZE") {
			t.Errorf("%q", why)
		}
		same(t, "another tenant's", func() string { _, why := s.admit(t.Context(), "bolt", 5000); return why }(), "")
		s.remove("acme")
		same(t, "without a quota", s.take(5000, 13), true)
	})
}

// What all tenants have together says at most that a tenant has less than its quota, never that it has more.
func TestATenantIsNotRefusedForWhatOthersHave(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		settings queue.TenantSettings
		total    job.Unfinished
		bytes    []int // of the jobs that it may have
	}{
		"Jobs":  {queue.TenantSettings{MaxUnfinished: 10}, job.Unfinished{Jobs: 7}, []int{1, 1, 1, 1, 1, 1, 1, 1, 1, 1}},
		"Bytes": {queue.TenantSettings{MaxBytes: 1000}, job.Unfinished{Jobs: 9, Bytes: 700}, []int{50, 950}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newQuotaScene(c.settings)
				s.total = c.total
				for n, bytes := range c.bytes {
					same(t, "taken in", s.take(bytes, uint64(n+1)), true)
					s.runLater()
				}
				same(t, "one more than it may have", s.take(1, 99), false)
			})
		})
	}
}

// A job whose first event was not stored, since another was first, is none of the tenant's.
func TestAJobThatWasNotStoredDoesNotCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newQuotaScene(queue.TenantSettings{MaxUnfinished: 100, MaxBytes: 1000})
		for range 10 {
			s.take(70, 0)
		}
		a := s.accounts["acme"]
		same(t, "far from the quota", []any{len(a.since), a.bytes}, []any{0, int64(0)})
		s.take(70, 5)
		same(t, "one that was stored", []any{len(a.since), a.bytes}, []any{1, int64(70)})
		s.runLater()
		same(t, "it may be missing in what all have", len(a.since), 1)
		passTime(2 * time.Second)
		s.take(1, 6)
		s.runLater()
		same(t, "it is in there later", []any{len(a.since), a.bytes}, []any{1, int64(1)})
	})
}

func TestWhatCannotBeCountedRefusesNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newQuotaScene(queue.TenantSettings{MaxUnfinished: 2})
		s.err = errors.New("the stream is away")
		for n := range uint64(5) {
			same(t, "taken in", s.take(1, n+1), true)
			s.runLater()
		}
		s.err, s.held, s.total, s.upTo = nil, job.Unfinished{Jobs: 5}, job.Unfinished{Jobs: 5}, 5
		passTime(2 * time.Second)
		same(t, "the next", s.take(1, 6), true) // no job waits for the first count that may fail again
		s.runLater()
		same(t, "when it can be counted again", s.take(1, 7), false)
	})
}

func TestOfManyTenantsOnlyThoseThatAreNotCountedNowAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, begun := newQuotas(), time.Now()
		for n := range accountsMost - 1 {
			q.account(job.Tenant(ownedName(n))).counted = begun
		}
		passTime(time.Minute)
		q.account("fits").counted = begun
		same(t, "as many as are kept", len(q.accounts), accountsMost)
		q.account("a minute later").counted = begun
		same(t, "while they may be used again", len(q.accounts), accountsMost+1)
		passTime(1)
		kept := []job.Tenant{"has jobs", "is counted", "takes turns", "was counted"}
		for _, tenant := range kept {
			q.accounts[tenant] = &account{turn: make(chan struct{}, 1)}
		}
		q.accounts["has jobs"].add(&admitted{})
		q.accounts["is counted"].counting = true
		q.accounts["takes turns"].turn <- struct{}{}
		q.accounts["was counted"].counted = time.Now()
		q.account("next")
		for _, tenant := range kept {
			same(t, string(tenant), q.accounts[tenant] != nil, true)
		}
		same(t, "left", len(q.accounts), len(kept)+1)
	})
}
