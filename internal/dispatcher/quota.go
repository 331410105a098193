package dispatcher

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// A tenant may have so many unfinished jobs, and bytes of them. A job beyond that is dead with reason
// over_quota when a dispatcher takes it in; jobs of other tenants do not wait for it.
//
// As long as all jobs of all tenants together are far below a tenant's quota nothing is counted. Otherwise what it has is
// counted from the stored events, as lists of jobs are, so every dispatcher counts the same and one that starts counts
// what was there. What this one has taken in since it counted is added. Far below the quota a count may
// be a second old, and is renewed beside the jobs; near it every job is counted anew, one at a time. So a tenant exceeds
// its quota at most by what other dispatchers take in within that second, and by what is taken in while the events cannot
// be read: then it cannot be counted, and no job is refused or kept waiting for that.

const (
	countAge     = time.Second            // of a count that is used far below the quota
	overAge      = 200 * time.Millisecond // of one that says it is reached: only jobs that end change that
	countTimeout = 2 * time.Second        // how long a job waits for its tenant to be counted, before it is taken in
)

// quota is what a tenant may have; 0 is no cap.
type quota struct {
	jobs  int
	bytes int64
}

func (q quota) fits(h job.Unfinished) bool {
	return (q.jobs == 0 || h.Jobs <= q.jobs) && (q.bytes == 0 || h.Bytes <= q.bytes)
}

// near reports whether four fifths of a cap are used.
func (q quota) near(h job.Unfinished) bool {
	return q.jobs != 0 && h.Jobs > q.jobs/5*4 || q.bytes != 0 && h.Bytes > q.bytes/5*4
}

// quotas counts what tenants have.
type quotas struct {
	count  func(ctx context.Context, tenant job.Tenant) (held job.Unfinished, upTo uint64, err error)
	all    *total
	usual  func() quota // of a tenant without one of its own
	beside func(func()) // runs a count that no job waits for

	mu       sync.Mutex // guards all below
	own      map[job.Tenant]queue.TenantSettings
	accounts map[job.Tenant]*account
}

// account is what is known of a tenant.
type account struct {
	turn     chan struct{} // holds one: the walk that counts and takes in near the quota
	held     job.Unfinished
	counted  time.Time   // when a count was last tried
	failed   bool        // that count failed: held is of an earlier time, and some of since may have ended; no job waits for the next count
	atMost   bool        // held is what all tenants have together
	counting bool        // a count is under way that no job waits for
	since    []*admitted // jobs that are not in held
	bytes    int64       // of those
}

func (a *account) add(this *admitted) {
	a.since = append(a.since, this)
	a.bytes += this.bytes
}

// forget leaves out jobs.
func (a *account) forget(these func(*admitted) bool) {
	a.since = slices.DeleteFunc(a.since, func(x *admitted) bool {
		if !these(x) {
			return false
		}
		a.bytes -= x.bytes
		return true
	})
}

// admitted is a job that this dispatcher takes in.
type admitted struct {
	bytes    int64
	begun    time.Time
	sequence uint64 // of its first event; 0 as long as it is not stored
}

func newQuotas() *quotas {
	return &quotas{own: map[job.Tenant]queue.TenantSettings{}, accounts: map[job.Tenant]*account{}}
}

// put applies a tenant's settings.
func (q *quotas) put(tenant job.Tenant, s queue.TenantSettings) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.own[tenant] = s
}

func (q *quotas) remove(tenant job.Tenant) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.own, tenant)
}

func (q *quotas) of(tenant job.Tenant) quota {
	limit, s := q.usual(), q.own[tenant]
	if s.MaxUnfinished > 0 {
		limit.jobs = s.MaxUnfinished
	}
	if s.MaxBytes > 0 {
		limit.bytes = s.MaxBytes
	}
	return limit
}

// fileBytes is what was set for the input files of a tenant; 0 when nothing was.
func (q *quotas) fileBytes(tenant job.Tenant) int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.own[tenant].MaxFileBytes
}

// admit counts a job in, or says why its tenant may have no more. stored must be called with the sequence of the job's
// first event, or 0 when there is none.
func (q *quotas) admit(ctx context.Context, tenant job.Tenant, bytes int) (stored func(sequence uint64), why string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	limit := q.of(tenant)
	if limit == (quota{}) {
		return func(uint64) {}, ""
	}
	a := q.account(tenant)
	this := &admitted{bytes: int64(bytes), begun: time.Now()}
	if limit.near(a.with(this)) && !a.failed {
		return q.admitNear(ctx, tenant, a, this)
	}
	a.add(this)
	if !a.counting && time.Since(a.counted) > countAge {
		a.counting = true
		q.beside(func() { q.recount(ctx, tenant, a, nil) })
	}
	return func(sequence uint64) { q.stored(a, this, sequence) }, ""
}

// admitNear has the jobs of a tenant near its quota take turns, so that each is counted before the next. mu is held, but
// not while it waits.
func (q *quotas) admitNear(ctx context.Context, tenant job.Tenant, a *account, this *admitted) (stored func(sequence uint64), why string) {
	q.mu.Unlock()
	select {
	case a.turn <- struct{}{}:
	case <-ctx.Done():
		q.mu.Lock()
		return func(uint64) {}, ""
	}
	q.mu.Lock()
	limit := q.of(tenant)
	if !a.failed && (limit.fits(a.with(this)) || a.atMost || time.Since(a.counted) > overAge) {
		q.mu.Unlock()
		q.recount(ctx, tenant, a, this)
		q.mu.Lock()
	}
	if has := a.with(this); !a.failed && !limit.fits(has) {
		<-a.turn
		return nil, overText(tenant, limit, has)
	}
	a.add(this)
	return func(sequence uint64) {
		q.stored(a, this, sequence)
		<-a.turn
	}, ""
}

// overText says what a tenant has with the job that is one too many.
func overText(tenant job.Tenant, limit quota, has job.Unfinished) string {
	what, flag := fmt.Sprintf("%d unfinished jobs and may have %d", has.Jobs, limit.jobs), "--max-unfinished N"
	if limit.bytes != 0 && has.Bytes > limit.bytes {
		what, flag = fmt.Sprintf("unfinished jobs of %d bytes and may have %d", has.Bytes, limit.bytes), "--max-bytes SIZE"
	}
	return fmt.Sprintf("with this job tenant %s has %s: publish it again, under another id, when some have ended, or have the operator raise it with `dispatcher tenants set %s %s`",
		tenant, what, tenant, flag)
}

// accountsMost is from how many tenants on accounts that are not in use are forgotten.
const accountsMost = 1024

func (q *quotas) account(tenant job.Tenant) *account {
	a := q.accounts[tenant]
	if a != nil {
		return a
	}
	if len(q.accounts) >= accountsMost {
		for name, other := range q.accounts {
			if len(other.since) == 0 && !other.counting && len(other.turn) == 0 && time.Since(other.counted) > time.Minute {
				delete(q.accounts, name)
			}
		}
	}
	a = &account{turn: make(chan struct{}, 1)}
	q.accounts[tenant] = a
	return a
}

// with is what the tenant has when a job is counted in.
func (a *account) with(this *admitted) job.Unfinished {
	return job.Unfinished{Jobs: a.held.Jobs + len(a.since) + 1, Bytes: a.held.Bytes + a.bytes + this.bytes}
}

// stored notes where a job's first event is, or that there is none.
func (q *quotas) stored(a *account, this *admitted, sequence uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	this.sequence = sequence
	if sequence == 0 {
		a.forget(func(x *admitted) bool { return x == this })
	}
}

// recount counts anew, if that succeeds in time. next is the job that waits for it; nil when none does.
func (q *quotas) recount(ctx context.Context, tenant job.Tenant, a *account, next *admitted) {
	ctx, cancel := context.WithTimeout(ctx, countTimeout+answerRoom)
	defer cancel()
	if q.fitsAll(ctx, tenant, a, next) {
		return
	}
	held, upTo, err := q.count(ctx, tenant)
	q.mu.Lock()
	defer q.mu.Unlock()
	a.counted, a.counting, a.failed = time.Now(), false, err != nil
	if err != nil {
		return
	}
	a.held, a.atMost = held, false
	a.forget(func(x *admitted) bool { return x.sequence != 0 && x.sequence <= upTo })
}

// fitsAll takes what all tenants have for what this one has, when even that, with the jobs that may be missing in it, is far below its
// quota. It must not be taken otherwise: a tenant would be refused for what others have.
func (q *quotas) fitsAll(ctx context.Context, tenant job.Tenant, a *account, next *admitted) bool {
	all, asked, err := q.all.get(ctx)
	q.mu.Lock()
	defer q.mu.Unlock()
	if err != nil {
		return false
	}
	known := func(x *admitted) bool { return x.sequence != 0 && x.begun.Before(asked) }
	has := all
	if next != nil {
		has.Jobs, has.Bytes = has.Jobs+1, has.Bytes+next.bytes
	}
	for _, x := range a.since {
		if !known(x) {
			has.Jobs, has.Bytes = has.Jobs+1, has.Bytes+x.bytes
		}
	}
	if q.of(tenant).near(has) {
		return false
	}
	a.held, a.atMost, a.counted, a.counting, a.failed = all, true, time.Now(), false, false
	a.forget(known)
	return true
}
