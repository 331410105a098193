package dispatcher

import (
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// gate keeps what one tenant publishes from standing before the jobs of others. All jobs of a priority come out of one
// consumer, in the order in which they were published, so a job waits for the work on all before it. While jobs of several
// tenants come, only so many deliveries of each are worked on at once, and the others are put off unread, each for a time of
// its own: what stands behind them comes at once, and they come back in their order, as fast as they can be worked off.
// While all of them publish about as much, nobody has to be kept from standing before others: then only bytes are limited.
type gate struct {
	mu       sync.Mutex // guards all below
	tenants  map[job.Tenant]*passage
	evenness evenness
	last     job.Tenant // whose delivery came last
	switched time.Time  // when one of another tenant than the one before came
}

// passage is what a tenant has under way.
type passage struct {
	underWay int
	read     time.Time // until when reading what has passed is taken to last
	free     time.Time // when the next that is put off comes back
	work     int       // what its deliveries weigh in the window that is counted now
	seen     time.Time // when the last of them came
}

const (
	gateMost  = 16                     // deliveries of a tenant that are worked on at once, while there are several tenants
	gateRest  = 100 * time.Millisecond // shortest time for which one is put off
	gatePause = time.Millisecond       // between two that come back
	gateBytes = 8 << 20                // that are read of a tenant in a second, while there are several tenants
	gateLong  = 5 * time.Minute        // longest time
	mixedTime = time.Minute            // how long several tenants count as such
	gateKept  = 1024                   // tenants that may be known although nothing of theirs is under way
)

func newGate() gate { return gate{tenants: map[job.Tenant]*passage{}} }

// enter lets a delivery pass, whose end leave tells, or says for how long it is to be put off. mixed reports that several
// tenants publish, and not all about as much.
func (g *gate) enter(tenant job.Tenant, size int, now time.Time) (putOff time.Duration, mixed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if tenant != g.last {
		if g.last != "" {
			g.switched = now
		}
		g.last = tenant
	}
	p := g.tenants[tenant]
	if p == nil {
		g.forget(now)
		p = &passage{}
		g.tenants[tenant] = p
	}
	several := !g.switched.IsZero() && now.Sub(g.switched) < mixedTime
	mixed = !g.evenness.count(p, size, g.tenants, now) && several
	work := time.Duration(size) * time.Second / gateBytes
	read := later(p.read, now).Add(work)
	if !several || (!mixed || p.underWay < gateMost) && read.Sub(now) <= work+gateRest {
		p.underWay++
		p.read = read
		return 0, mixed
	}
	p.free = later(p.free, now.Add(gateRest)).Add(gatePause + work)
	return min(p.free.Sub(now), gateLong), mixed
}

func (g *gate) leave(tenant job.Tenant) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p := g.tenants[tenant]; p != nil {
		p.underWay--
	}
}

// forget drops tenants of whom nothing is under way and nothing put off.
func (g *gate) forget(now time.Time) {
	if len(g.tenants) < gateKept {
		return
	}
	for tenant, p := range g.tenants {
		if p.underWay == 0 && p.free.Before(now) {
			delete(g.tenants, tenant)
		}
	}
}

// pass lets a delivery go on to its walk, or puts it off.
func (d *Dispatcher) pass(delivery *queue.Delivery) bool {
	now := time.Now()
	putOff, mixed := d.gate.enter(job.Tenant(delivery.Tenant), len(delivery.Body), now)
	d.loop.pressure.mixed(mixed, now)
	if putOff > 0 {
		d.metrics.putOff.Inc()
		d.putOff(delivery.Lease, putOff)
		return false
	}
	return true
}
