package agent

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// host drives one ComfyUI by loops of its own.
type host struct {
	name   string
	url    string // without a password
	source string // of its events, as CloudEvents has it
	q      *queue.Queue
	comfy  ComfyUI
	cfg    Config
	log    *slog.Logger
	meters *meters
	desk   *desk

	work        sync.WaitGroup                         // walks, and answers to resume offers
	spell       func(class, input, file string) string // as ComfyUI does
	prompts     promptIDs                              // written by Run before any loop begins
	fetcher     *http.Client                           // of inputs by URL
	shipping    chan struct{}                          // a token for every run that stores outputs
	beatNow     chan struct{}                          // the state changed: tell it
	examineNow  chan struct{}                          // look at ComfyUI now
	freed       chan struct{}                          // a run gave its slot back
	extendNow   chan struct{}                          // extend all leases now
	extendEvery atomic.Int64                           // the lease loop's period, nanoseconds; written by that loop
	relearn     atomic.Bool                            // read the capability at the next look; written by walks
	acked       acks                                   // jobs that were acked lately
	follows     follows
	untold      untold      // slots that were taken and that no broadcast has told of
	looked      atomic.Bool // ComfyUI was looked at; written by the health loop

	strays  strays
	keeper  keeper
	process atomic.Pointer[string] // ComfyUI's, empty when it cannot be told; written by the health loop
	overdue chan struct{}          // closed when the drain time is over; by drainLoop
	large   chan struct{}          // a token for every large file that is stored; the agent's, for all its hosts
}

// maxShipping bounds the runs that left the GPU and still store outputs. Beyond it a run keeps its slot, so that a
// slow object store slows the host down instead of filling its memory.
const maxShipping = 8

func newHost(q *queue.Queue, cfg Config, h HostConfig, instance string, m *metrics) *host {
	urls, _ := parseReachable(cfg.InputURLs) // checked with the configuration
	return &host{
		name: h.Name, url: withoutUser(h.URL), source: "agent/" + h.Name, q: q, comfy: h.Comfy, cfg: cfg, log: cfg.Logger.With("host", h.Name), meters: m.of(h.Name),
		desk: newDesk(queue.HostState{
			Host: h.Name, Instance: instance, Slots: cfg.Slots, Prefetch: cfg.Prefetch, Labels: cfg.Labels,
			Agent: cfg.Version, URL: withoutUser(h.URL),
		}, q),
		spell:    h.Comfy.Spelling,
		fetcher:  newFetcher(urls, http.ProxyFromEnvironment),
		shipping: make(chan struct{}, maxShipping), overdue: make(chan struct{}),
		beatNow: make(chan struct{}, 1), examineNow: make(chan struct{}, 1), freed: make(chan struct{}, 1), extendNow: make(chan struct{}, 1),
	}
}

// run starts all loops and ends them after the drain, or at once with kill.
func (h *host) run(stop, kill context.Context) error {
	ctx, cancel := context.WithCancel(kill)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	for _, loop := range []func(context.Context) error{
		h.comfy.Listen, h.cancelLoop, h.leaseLoop, h.presenceLoop, h.reconnectLoop,
		func(ctx context.Context) error {
			// Nobody hears that the host is there before ComfyUI was looked at, so that is not done before controls and
			// offers are heard.
			look := func() { g.Go(func() error { return h.healthLoop(ctx) }) }
			answer := func(o queue.Offer, reply func(queue.Reply)) { h.answer(ctx, o, reply) }
			offers := func() { g.Go(func() error { return h.q.ServeOffers(ctx, h.name, look, answer) }) }
			return h.q.ServeControl(ctx, h.name, offers, func(c queue.Control) queue.Reply { return h.obey(ctx, c) })
		},
	} {
		g.Go(func() error { return loop(ctx) })
	}
	g.Go(func() error {
		defer cancel()
		return h.drainLoop(stop, ctx)
	})
	err := g.Wait()
	h.desk.change(func(d *desk) { d.leaving = true }) // nothing is begun after this
	h.untold.told(&h.work)
	h.work.Wait()
	if closer, ok := h.comfy.(interface{ Close() }); ok {
		closer.Close()
	}
	if kill.Err() != nil {
		return kill.Err()
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	h.depart(kill)
	return nil
}

// drainLoop waits for stop, lets the running jobs end for the drain time, and gives back those that have not.
func (h *host) drainLoop(stop, ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-stop.Done():
	}
	h.desk.change(func(d *desk) { d.leaving = true })
	h.log.Info("draining", "running", len(h.desk.all()), "for", h.cfg.Drain)
	h.announce()
	h.work.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), wireTimeout)
		defer cancel()
		if err := h.q.AnnounceHost(ctx, h.name, queue.HostDraining, drained{}.Error()); err != nil {
			h.log.Debug("cannot announce the drain", "error", err)
		}
	})
	timer := time.NewTimer(h.cfg.Drain)
	defer timer.Stop()
	select {
	case <-h.desk.empty():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
	}
	close(h.overdue)
	for _, r := range h.desk.all() {
		if !r.reporting.Load() {
			r.end(drained{})
		}
	}
	select {
	case <-h.desk.empty():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// depart ends the host's presence, if it still is this agent's. A crash before it costs the others one presence TTL.
func (h *host) depart(kill context.Context) {
	ctx, cancel := context.WithTimeout(kill, wireTimeout)
	defer cancel()
	s, there, err := h.q.Host(ctx, h.name)
	if there && s.Instance != h.desk.state().Instance {
		return // another agent serves the host already
	}
	err = errors.Join(err, h.q.Leave(ctx, h.name), h.q.AnnounceHost(ctx, h.name, queue.HostOffline, "the agent was stopped"))
	if err != nil {
		h.log.Warn("cannot say good-bye", "error", err)
	}
	h.meters.online.Set(0)
}

// obey does what dispatcher hosts drain and resume ask for. A drained host stays so when its agent is restarted.
func (h *host) obey(ctx context.Context, c queue.Control) queue.Reply {
	if c.Drain == c.Resume {
		return queue.Reply{Answer: queue.Unfit, Reason: "a control asks for either drain or resume", State: h.desk.state()}
	}
	h.desk.change(func(d *desk) {
		d.drained, d.drainedBy = c.Drain, ""
		if c.Drain {
			d.drainedBy = c.By
		}
	})
	h.log.Info("told by an operator", "drain", c.Drain, "by", c.By)
	reply := queue.Reply{Answer: queue.Accepted}
	ctx, cancel := context.WithTimeout(ctx, obeyTimeout)
	defer cancel()
	if err := h.keep(ctx); err != nil {
		h.log.Warn("cannot store the host's condition; trying again", "error", err)
		reply.Reason = "not stored yet, so that a restart of the agent would forget it: " + err.Error()
	}
	h.announce()
	reply.State = h.desk.state()
	switch s := &reply.State; {
	case c.Drain || reply.Reason != "":
	case s.State != queue.Online:
		reply.Reason = "it is not drained any more, but takes no jobs: " + s.Reason
	case s.Trial:
		reply.Reason = "it takes one job at a time: " + s.Reason
	}
	return reply
}

// obeyTimeout leaves room within the 2 s that an operator's command waits.
const obeyTimeout = 1500 * time.Millisecond

// heard reports whether anybody reads what every job logs.
func (h *host) heard() bool { return h.log.Enabled(context.Background(), slog.LevelInfo) }

// announce tells the host's state to all dispatchers now, and to the presence with the next beat, which it asks
// for at once.
func (h *host) announce() {
	h.broadcast(nil)
	poke(h.beatNow)
}

// wireTimeout bounds one call to NATS.
const wireTimeout = 5 * time.Second

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// pause waits for d; false means that ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
