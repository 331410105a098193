package dispatcher

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// tenantLimit keeps the jobs of one tenant from holding up those of others. All jobs of a priority come out of one
// consumer, in the order in which they were published, so each waits for the work on all before it. While jobs of several
// tenants come, only so many deliveries of each are worked on at once. The others are put off unread, each for a time of
// its own: the jobs after them come at once, and they come back in their order, as fast as they can be worked off.
// While all tenants publish about as much, none holds up the others: then only bytes are limited.
type tenantLimit struct {
	intake atomic.Int64 // pause between two jobs of a tenant while enough jobs wait, else 0; the loop writes it

	mu       sync.Mutex // guards all below
	tenants  map[job.Tenant]*tenantWork
	balance  balance
	last     job.Tenant // whose delivery came last
	switched time.Time  // when one of another tenant than the one before came
}

// tenantWork is what a tenant has under way.
type tenantWork struct {
	underWay int
	read     time.Time // when the bytes let through so far count as read
	free     time.Time // when the next that is put off comes back
	pace     pacer     // of the jobs that pass while enough jobs wait
	work     int       // what its deliveries weigh in the window that is counted now
	seen     time.Time // when the last of them came
}

const (
	limitDeliveries = 16                     // deliveries of a tenant that are worked on at once, while there are several tenants
	putOffLeast     = 100 * time.Millisecond // shortest time for which one is put off
	putOffPause     = time.Millisecond       // between two that come back, unless enough jobs wait
	limitBytes      = 8 << 20                // that are read of a tenant in a second, while there are several tenants
	putOffMost      = 5 * time.Minute        // longest time
	mixedTime       = time.Minute            // how long several tenants count as such
	limitTenants    = 1024                   // tenants that may be known although nothing of theirs is under way
)

func newTenantLimit() tenantLimit { return tenantLimit{tenants: map[job.Tenant]*tenantWork{}} }

// enter lets a delivery pass, until done, or says for how long it is to be put off. mixed reports that several tenants
// publish, and not all about as much.
func (t *tenantLimit) enter(tenant job.Tenant, size int, now time.Time) (putOff time.Duration, mixed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if tenant != t.last {
		if t.last != "" {
			t.switched = now
		}
		t.last = tenant
	}
	p := t.tenants[tenant]
	if p == nil {
		t.forget(now)
		p = &tenantWork{}
		t.tenants[tenant] = p
	}
	several := !t.switched.IsZero() && now.Sub(t.switched) < mixedTime
	mixed = !t.balance.count(p, size, t.tenants, now) && several
	work := time.Duration(size) * time.Second / limitBytes
	read := later(p.read, now).Add(work)
	pause, paced := time.Duration(t.intake.Load()), mixed
	if pause == 0 || !mixed {
		pause, paced = putOffPause, false
	}
	if !several || (!mixed || p.underWay < limitDeliveries) && (!paced || p.pace.may(now, pause)) && read.Sub(now) <= work+putOffLeast {
		p.underWay++
		p.read = read
		if paced {
			p.pace.count(now, pause)
		}
		return 0, mixed
	}
	p.free = later(p.free, now.Add(putOffLeast)).Add(pause + work)
	return min(p.free.Sub(now), putOffMost), mixed
}

func (t *tenantLimit) done(tenant job.Tenant) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.tenants[tenant]; p != nil {
		p.underWay--
	}
}

// forget drops tenants of whom nothing is under way and nothing put off.
func (t *tenantLimit) forget(now time.Time) {
	if len(t.tenants) < limitTenants {
		return
	}
	for tenant, p := range t.tenants {
		if p.underWay == 0 && p.free.Before(now) {
			delete(t.tenants, tenant)
		}
	}
}

// withinLimit lets a delivery go on to its walk, or puts it off.
func (d *Dispatcher) withinLimit(delivery *queue.Delivery) bool {
	now := time.Now()
	putOff, mixed := d.limit.enter(job.Tenant(delivery.Tenant), len(delivery.Body), now)
	d.loop.pressure.mixed(mixed, now)
	if putOff > 0 {
		d.metrics.putOff.Inc()
		d.putOff(delivery.Lease, putOff)
		return false
	}
	return true
}
