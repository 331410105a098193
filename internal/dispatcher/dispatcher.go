package dispatcher

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/jetstream"
)

// Config of a dispatcher. The zero value works.
type Config struct {
	Name        string        // unique among the live dispatchers; default random
	Policy      route.Policy  // of blocks; default route.Production
	Park        time.Duration // how long a parked delivery rests; default 10 min
	CapableWait time.Duration // how long a job waits for a host that can run it; default 5 min
	WaitingCap  int           // tickets of all tenants, divided among those that want some; default 100 000
	MaxRunning  int           // jobs that a tenant without settings may run at once; 0 is no cap
	MaxPriority *job.Priority // what higher priorities count as, for a tenant without such a setting of its own; default 9
	HistoryRows int           // jobs that lists know of; default 1 000 000, some 200 bytes each
	LargeFleet  int           // hosts × dispatchers from which on the homes of hosts relay their states; default 10 000
	MaxInput    int64         // bytes of a file that a tenant puts; default 4 GiB
	Version     string        // semantic, shown by the API
	Pools       route.SurveyOptions
	Settings    []queue.Setting    // that the call settings shows
	CountEvents bool               // events of attempts, ends of jobs and blocks are counted for metrics, each by one of the dispatchers that do so
	JobEnded    func(queue.JobEnd) // called for each job that ends, on one of the dispatchers that have it or count events; must not wait
	Logger      *slog.Logger       // default discards
	Registerer  prometheus.Registerer
}

const (
	defaultPark        = 10 * time.Minute
	defaultCapableWait = 5 * time.Minute
	defaultWaitingCap  = 100_000
	defaultHistoryRows = 1_000_000
	defaultLargeFleet  = 10_000
)

func (c Config) withDefaults() Config {
	if c.Name == "" {
		c.Name = "d-" + strings.ToLower(rand.Text()[:8])
	}
	if c.Policy == (route.Policy{}) {
		c.Policy = route.Production()
	}
	if c.Park == 0 {
		c.Park = defaultPark
	}
	if c.CapableWait == 0 {
		c.CapableWait = defaultCapableWait
	}
	if c.WaitingCap == 0 {
		c.WaitingCap = defaultWaitingCap
	}
	if c.HistoryRows == 0 {
		c.HistoryRows = defaultHistoryRows
	}
	if c.LargeFleet == 0 {
		c.LargeFleet = defaultLargeFleet
	}
	if c.MaxInput == 0 {
		c.MaxInput = mostFile
	}
	if c.Version == "" {
		c.Version = "0.0.0"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Dispatcher is one of the dispatchers on a queue.
type Dispatcher struct {
	q       wire
	cfg     Config
	log     *slog.Logger
	source  string // of its events, as CloudEvents has it
	started time.Time
	loop    *loop
	history *jobHistory
	quotas  *quotas
	answers *answers
	metrics *metrics
	ids     queue.Turns[idKey] // of deliveries: the first publish of an id is the one that runs
	pairs   queue.Turns[pair]  // of writes of strikes: side by side, most of them would fail since another has written meanwhile
	limit   tenantLimit        // what each tenant has under way
	walks   *walks             // those under way
	files   *files

	references chan struct{} // has a value for each file with a workflow that is being read
	beatNow    chan struct{}

	wrong    bool        // the machine's clock is wrong; only the presence loop uses this
	unpulled sharedText  // why jobs cannot be pulled; written by the pull loops
	unstored atomic.Bool // JetStream had no room for the last heartbeat; written by the presence loop
}

// New makes a dispatcher; Run makes it work.
func New(q *queue.Queue, cfg Config) (*Dispatcher, error) { return newOn(onNATS{q}, cfg) }

func newOn(q wire, cfg Config) (*Dispatcher, error) {
	cfg = cfg.withDefaults()
	if !job.ValidHost(cfg.Name) {
		return nil, fmt.Errorf("the name %q of a dispatcher: use 1 to 64 of A-Z a-z 0-9 _ -", cfg.Name)
	}
	d := &Dispatcher{
		q: q, cfg: cfg, log: cfg.Logger.With("dispatcher", cfg.Name), source: "comfyherd/dispatcher/" + cfg.Name,
		started: q.Now(), walks: newWalks(), metrics: newMetrics(cfg.Registerer),
		beatNow: make(chan struct{}, 1), limit: newTenantLimit(), answers: newAnswers(),
		references: make(chan struct{}, filesAtOnce),
	}
	d.history, d.quotas = newJobHistory(q, cfg.HistoryRows, d.log), newQuotas()
	d.quotas.count, d.quotas.beside = d.history.held, d.walks.Go
	d.quotas.all = &total{ask: q.JobsHeld}
	d.quotas.usual = func() quota { return quota{bytes: q.JobsRoom() / 2} }
	d.files = newFiles(q, cfg.MaxInput, d.quotas.fileBytes)
	d.loop = newLoop(d)
	if cfg.Registerer != nil {
		if err := cfg.Registerer.Register(newFleetMetrics(d)); err != nil {
			return nil, fmt.Errorf("register the metrics of the fleet: %w", err)
		}
	}
	return d, nil
}

// Name is the dispatcher's, unique among the live ones.
func (d *Dispatcher) Name() string { return d.cfg.Name }

// clock is NATS' time. Every time that comes from elsewhere or goes there is given and compared in it.
func (d *Dispatcher) clock() time.Time { return d.q.Now() }

// Run works until stop ends, then takes no more jobs, finishes the walks under way, leaves the fleet and returns.
// When kill ends first it returns at once; what was under way is left to the leases.
func (d *Dispatcher) Run(stop, kill context.Context) error {
	ctx, cancel := context.WithCancel(kill)
	defer cancel()
	background, ctx := errgroup.WithContext(ctx)
	for _, loop := range d.loops() {
		background.Go(func() error { return loop(ctx) })
	}
	if err := d.loop.ready(ctx); err != nil {
		cancel()
		return errors.Join(ended(err), ended(background.Wait()))
	}
	d.walks.Go(func() { d.announceAbsent(ctx) })
	d.log.Info("dispatching", "policy_cooldown", d.cfg.Policy.Cooldown, "ack_wait", d.q.AckWait())
	taking := errgroup.Group{}
	for p := job.Priority(0); p.Valid(); p++ {
		taking.Go(func() error { return d.pullLoop(ctx, stop, p) })
	}
	err := ended(taking.Wait())
	d.drain(ctx, cancel)
	cancel()
	err = errors.Join(err, ended(background.Wait()))
	d.depart(ctx)
	return err
}

// ended gives err, or nil when err only says that the dispatcher was told to stop.
func ended(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (d *Dispatcher) loops() []func(context.Context) error {
	return append(d.loop.watches(),
		d.loop.run,
		func(ctx context.Context) error { return d.q.SettleFailed(ctx, d.settle, d.failed("settle a failure")) },
		func(ctx context.Context) error {
			return d.q.AnnounceBlocks(ctx, d.source, d.failed("announce a block"))
		},
		func(ctx context.Context) error { return d.q.ServeAPI(ctx, d.api()) },
		d.presenceLoop,
		d.tallyLoop,
		d.history.loop,
	)
}

func (d *Dispatcher) failed(what string) func(error) {
	return func(err error) { d.log.Warn("could not "+what+"; it is tried again", "error", err) }
}

// drain gives back what is in hand and waits for the walks under way, of which every one ends with Run's kill as well.
// Without NATS no walk can go on: then all are ended, and their jobs are left to the leases.
func (d *Dispatcher) drain(ctx context.Context, end func()) {
	over, watch := make(chan struct{}), sync.WaitGroup{}
	watch.Go(func() { d.endWithout(ctx, over, end) })
	defer watch.Wait()
	defer close(over)
	for _, o := range d.loop.emptyHand() {
		d.giveBack(o.lease)
	}
	d.walks.Wait()
	d.loop.ask(func(time.Time) {}) // returns once the loop has taken in all that the walks have reported
}

// drainAlone is how long a stop waits for NATS to come back.
const drainAlone = 3 * time.Second

// endWithout ends the walks of a stop when NATS has been away for some time.
func (d *Dispatcher) endWithout(ctx context.Context, over <-chan struct{}, end func()) {
	look := time.NewTicker(drainAlone / 6)
	defer look.Stop()
	away := 0
	for {
		select {
		case <-look.C:
		case <-over:
			return
		case <-ctx.Done():
			return
		}
		if away++; d.q.Connected() {
			away = 0
		}
		if away == 6 {
			d.log.Warn("stopping without NATS, which cannot be reached: jobs under way are left to their leases")
			end()
			return
		}
	}
}

// depart ends the dispatcher's presence; no heartbeat may follow. After a crash before it, the others wait one presence TTL
// until they know.
func (d *Dispatcher) depart(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), departTimeout)
	defer cancel()
	if err := d.q.LeaveDispatcher(ctx, d.cfg.Name); err != nil {
		d.log.Debug("cannot end the presence of this dispatcher", "error", err)
	}
}

const departTimeout = 2 * time.Second

// presenceLoop beats every third of the presence TTL.
func (d *Dispatcher) presenceLoop(ctx context.Context) error {
	for ctx.Err() == nil {
		state := queue.DispatcherState{
			Dispatcher: d.cfg.Name, Version: d.cfg.Version, Started: d.started, Waiting: int(d.loop.depth.Load()), ClockOff: d.lookAtClock(),
			Relays: true, RelaysTickets: true, WantsRelays: d.loop.sources.wants.Load(),
		}
		beat, cancel := context.WithTimeout(ctx, d.q.PresenceTTL()/3)
		err := d.q.BeatDispatcher(beat, &state)
		if err != nil && ctx.Err() == nil {
			d.log.Warn("presence could not be renewed", "error", err)
		}
		d.unstored.Store(errors.Is(err, jetstream.ErrNoSpace))
		cancel()
		select {
		case <-time.After(d.q.PresenceTTL() / 3):
		case <-d.beatNow:
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

// beatSoon has the presence renewed at once, since what it says has changed.
func (d *Dispatcher) beatSoon() {
	select {
	case d.beatNow <- struct{}{}:
	default:
	}
}

// clockOff is the difference from NATS' time from which on the machine's clock is reported as off. Dispatchers do not use that
// clock, but logs and other programs do.
const clockOff = time.Second

// lookAtClock says by how much the machine's clock is off, and 0 when it is right.
func (d *Dispatcher) lookAtClock() queue.Offset {
	off := d.q.ClockOff()
	d.metrics.clock.Set(off.Seconds())
	was := d.wrong
	d.wrong = off.Abs() > clockOff
	switch {
	case d.wrong && !was:
		d.log.Warn("the clock of this machine is off; jobs are not affected, but set it right, for example with NTP", "ahead_of_nats", off.Round(time.Millisecond))
	case was && !d.wrong:
		d.log.Info("the clock of this machine is right again")
	}
	if !d.wrong {
		return 0
	}
	return queue.Offset(off.Round(time.Millisecond))
}

// Ready reports whether jobs are dispatched right now, and says why not.
func (d *Dispatcher) Ready() (bool, string) {
	switch {
	case !d.q.Connected():
		return false, "NATS cannot be reached"
	case !d.loop.isSynced():
		return false, "still reading hosts, blocks and tickets from NATS"
	case d.unpulled.Load() != "":
		return false, d.unpulled.Load()
	case d.unstored.Load():
		return false, "JetStream has no space left, so that no job can begin or end"
	}
	return true, "dispatching"
}
