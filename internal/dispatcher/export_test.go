package dispatcher

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/jetstream"
)

// LineFacts are what the loop and the pull loops have found out about the jobs in the stream.
type LineFacts struct {
	Pending, Rate, Peers, Holds int64
	Slow, Stuck                 bool
	Hand                        [10]int64
}

// Line is a line with one priority's jobs in it.
type Line struct{ line }

// Tell sets all that is known of the line of a priority.
func (l *Line) Tell(p int, f LineFacts) {
	l.pending[p].Store(f.Pending)
	l.rate.Store(f.Rate)
	l.peers.Store(f.Peers)
	l.holds.Store(f.Holds)
	l.slow.Store(f.Slow)
	l.stuck.Store(f.Stuck)
	for k, n := range f.Hand {
		l.hand[k].Store(n)
	}
}

// Most is how many deliveries may be under way when more jobs of a priority are pulled.
func (l *Line) Most(p int, now time.Time) int { return l.most(p, now) }

// WhyOfTenant answers as a tenant is answered.
func (d *Dispatcher) WhyOfTenant(ctx context.Context, r jetstream.WhyRequest) (jetstream.WhyAnswer, error) {
	return d.whyFor(ctx, r, ofTenant)
}

// TenantLimit keeps the jobs of one tenant from holding up those of others.
type TenantLimit struct{ tenantLimit }

// NewTenantLimit makes a TenantLimit with nothing under way.
func NewTenantLimit() *TenantLimit { return &TenantLimit{newTenantLimit()} }

// Enter lets a delivery pass, or says for how long it is put off.
func (g *TenantLimit) Enter(tenant job.Tenant, size int, now time.Time) time.Duration {
	putOff, _ := g.enter(tenant, size, now)
	return putOff
}

// Done ends a delivery that has passed.
func (g *TenantLimit) Done(tenant job.Tenant) { g.done(tenant) }

// SetIntakePause says that jobs enough wait, and how long the pause between two more is.
func (g *TenantLimit) SetIntakePause(pause time.Duration) { g.intake.Store(int64(pause)) }

// IntakePause gives that pause.
var IntakePause = intakePause

// Wire is what a dispatcher needs of NATS.
type Wire = wire

// Puller takes deliveries.
type Puller = puller

// EventReader reads stored events.
type EventReader = eventReader

// NewOn makes a dispatcher on another wire than NATS.
func NewOn(w Wire, cfg Config) (*Dispatcher, error) { return newOn(w, cfg) }

// FileCalls answers the calls on files of a queue, each of at most that many bytes.
func FileCalls(q *queue.Queue, most int64) map[string]queue.TenantEndpoint {
	return FileCallsWith(q, most, 0)
}

// FileCallsWith answers the calls on files of tenants that may have so many bytes of input files; 0 is the usual part.
func FileCallsWith(q *queue.Queue, most, own int64) map[string]queue.TenantEndpoint {
	return newFiles(q, most, func(job.Tenant) int64 { return own }).endpoints()
}

// InputShares says whether tenants may put more.
type InputShares struct{ *inputShares }

// NewInputShares makes an InputShares that counts with a function.
func NewInputShares(count func(context.Context) (queue.InputsUse, error), own func(job.Tenant) int64) InputShares {
	return InputShares{newInputShares(count, own)}
}

// Admit lets a piece in.
func (s InputShares) Admit(ctx context.Context, tenant job.Tenant, bytes, want int64) (done func(), err error) {
	return s.admit(ctx, tenant, bytes, want)
}

// Settings are the settings of tenants.
type Settings struct {
	*settings[queue.TenantSettings]
}

// NewSettings makes Settings that have received no change.
func NewSettings() Settings { return Settings{newSettings[queue.TenantSettings]()} }

// Change takes a change.
func (m Settings) Change(c queue.Change[queue.TenantSettings]) { m.change(c) }

// Keys are those of all that stand.
func (m Settings) Keys() []string {
	keys, _ := m.some("", "", 100)
	return keys
}

// CallLimit lets calls ask one after the other.
type CallLimit struct{ *callLimit }

// NewCallLimit makes a CallLimit that no call has passed.
func NewCallLimit() CallLimit { return CallLimit{newCallLimit()} }

// Pass asks when it is its turn, and says that the answer has taken some time.
func (t CallLimit) Pass(ctx context.Context, took time.Duration, ask func()) error {
	return t.pass(ctx, func() {
		ask()
		t.took(took)
	})
}

// Walks are the dispatcher's goroutines.
type Walks struct{ *walks }

// NewWalks makes Walks of which none has begun.
func NewWalks() Walks { return Walks{newWalks()} }

// SettleSome settles so many failures and nothing else.
func (d *Dispatcher) SettleSome(ctx context.Context, most int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var loop sync.WaitGroup
	loop.Go(func() { _ = d.loop.run(ctx) }) // it ends with ctx
	var done atomic.Int64
	var failed atomic.Value
	err := d.q.SettleFailed(ctx, func(ctx context.Context, link queue.Link) error {
		err := d.settle(ctx, link)
		if err == nil && done.Add(1) == int64(most) {
			cancel()
		}
		return err
	}, func(err error) {
		if !errors.Is(err, context.Canceled) {
			failed.Store(err)
		}
		cancel()
	})
	loop.Wait()
	d.walks.Wait()
	if err, some := failed.Load().(error); some {
		return err
	}
	return ended(err)
}

// Received is what a dispatcher knows of hosts, and in which way it receives that.
type Received struct {
	Shares bool // only its own hosts, and relays
	Known  int
	Own    int // at home there, or until lately
	Slots  int // that it believes to be free
}

// Receives is how a dispatcher receives the states of hosts now.
func (d *Dispatcher) Receives() (r Received) {
	d.loop.ask(func(time.Time) {
		r = Received{Shares: d.loop.sources.isShared(), Known: len(d.loop.hosts.known), Own: len(d.loop.sources.followed)}
		r.Slots, _ = d.loop.fleet.Slots()
	})
	return r
}

// Knows reports whether a dispatcher knows a host.
func (d *Dispatcher) Knows(host string) (known bool) {
	d.loop.ask(func(time.Time) { known = d.loop.hosts.known[host] != nil })
	return known
}

// TenantSlots is how many slots of a tenant are taken as far as a dispatcher knows, and whether it gives the tenant's jobs to hosts.
func (d *Dispatcher) TenantSlots(tenant route.Tenant) (taken int, home bool) {
	d.loop.ask(func(time.Time) { taken, home = len(d.loop.slots.taken[tenant]), d.loop.peers.isTenantHome(tenant) })
	return taken, home
}

// Tickets is how many tickets wait, as far as a dispatcher knows.
func (d *Dispatcher) Tickets() (n int) {
	d.loop.ask(func(time.Time) { n = d.loop.tickets.len() + len(d.loop.tickets.claiming) })
	return n
}
