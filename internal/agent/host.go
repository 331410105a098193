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

// host drives one ComfyUI. Each host has its own loops.
type host struct {
	name      string
	url       string // without a password
	source    string // of its events, as CloudEvents has it
	q         *queue.Queue
	comfy     ComfyUI
	cfg       Config
	log       *slog.Logger
	meters    *meters
	admission *admission

	work             sync.WaitGroup                         // attempts, and answers to resume offers
	spell            func(class, input, file string) string // how ComfyUI spells the name of a file
	prompts          *promptIDs                             // written by Run before any loop begins
	fetcher          *http.Client                           // of inputs by URL
	storing          chan struct{}                          // a token for every run that stores outputs
	beatNow          chan struct{}                          // renew the presence now: the state has changed
	probeNow         chan struct{}                          // make the health loop probe ComfyUI now
	freed            chan struct{}                          // a run gave its slot back
	extendNow        chan struct{}                          // extend all leases now
	extendEvery      atomic.Int64                           // the lease loop's period, nanoseconds; written by that loop
	cataloguing      atomic.Bool                            // the catalogue is being read and stored
	archives         archives                               // used while cataloguing is set
	relearn          atomic.Bool                            // read the capability at the next probe; written by attempts
	acked            acks                                   // the newest acks, sent again after a reconnect
	follows          follows
	pendingBroadcast pendingBroadcast // of slots that were taken
	looked           atomic.Bool      // ComfyUI was probed once; written by the health loop

	orphans   orphans
	persisted persisted
	process   atomic.Pointer[string] // ComfyUI's, empty when it cannot be identified; written by the health loop
	overdue   chan struct{}          // closed when the drain time is over; by drainLoop
	large     chan struct{}          // a token for every large file that is stored; shared by all hosts of the agent
	thumbs    chan struct{}          // a token for the small picture that is made; shared by all hosts of the agent
}

// maxStoring bounds the runs that have left the GPU and still store their outputs. Beyond it a run keeps its slot, so
// that a slow object store slows the host down instead of filling the agent's memory.
const maxStoring = 8

func newHost(q *queue.Queue, cfg Config, h HostConfig, instance string, m *metrics) *host {
	urls, _ := parseReachable(cfg.InputURLs) // checked with the configuration
	return &host{
		name: h.Name, url: withoutUser(h.URL), source: "agent/" + h.Name, q: q, comfy: h.Comfy, cfg: cfg, log: cfg.Logger.With("host", h.Name), meters: m.of(h.Name),
		admission: newAdmission(queue.HostState{
			Host: h.Name, Instance: instance, Slots: cfg.Slots, Prefetch: cfg.Prefetch, Labels: cfg.Labels,
			Agent: cfg.Version, URL: withoutUser(h.URL),
		}, q),
		spell:   h.Comfy.Spelling,
		fetcher: newFetcher(urls, http.ProxyFromEnvironment),
		storing: make(chan struct{}, maxStoring), overdue: make(chan struct{}),
		beatNow: make(chan struct{}, 1), probeNow: make(chan struct{}, 1), freed: make(chan struct{}, 1), extendNow: make(chan struct{}, 1),
	}
}

// run starts all loops and ends them after the drain, or at once with kill.
func (h *host) run(stop, kill context.Context) error {
	ctx, cancel := context.WithCancel(kill)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	for _, loop := range []func(context.Context) error{
		h.comfy.Listen, h.cancelLoop, h.leaseLoop, h.presenceLoop, h.reconnectLoop, h.pagesLoop,
		func(ctx context.Context) error {
			// The health loop makes the host known, so it begins when the subscriptions to controls and offers are there.
			look := func() { g.Go(func() error { return h.healthLoop(ctx) }) }
			answer := func(o queue.Offer, reply func(queue.Reply)) { h.answer(ctx, o, reply) }
			offers := func() { g.Go(func() error { return h.q.ServeOffers(ctx, h.name, look, answer) }) }
			return h.q.ServeControl(ctx, h.name, offers, func(c queue.Control) queue.Reply { return h.control(ctx, c) })
		},
	} {
		g.Go(func() error { return loop(ctx) })
	}
	g.Go(func() error {
		defer cancel()
		return h.drainLoop(stop, ctx)
	})
	err := g.Wait()
	h.admission.change(func(d *admission) { d.stopping = true }) // no work is started after this
	h.pendingBroadcast.end(&h.work)
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
	h.endPresence(kill)
	return nil
}

// drainLoop waits for stop, gives the running jobs the drain time to end, and gives back those that have not ended by then.
func (h *host) drainLoop(stop, ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-stop.Done():
	}
	h.admission.change(func(d *admission) { d.stopping = true })
	h.log.Info("draining", "running", len(h.admission.all()), "for", h.cfg.Drain)
	h.announce()
	h.work.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), wireTimeout)
		defer cancel()
		if err := h.q.AnnounceHost(ctx, h.name, queue.HostDraining, agentStopping{}.Error()); err != nil {
			h.log.Debug("cannot announce the drain", "error", err)
		}
	})
	timer := time.NewTimer(h.cfg.Drain)
	defer timer.Stop()
	select {
	case <-h.admission.empty():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
	}
	h.giveBack()
	select {
	case <-h.admission.empty():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// giveBack ends what has not ended within the drain time. A run that must stop is told so before its waits for NATS end, since
// it would take the end of a wait for a failure that counts.
func (h *host) giveBack() {
	for _, r := range h.admission.all() {
		if !r.reporting.Load() {
			r.end(agentStopping{})
		}
	}
	close(h.overdue)
}

// endPresence deletes the host's presence if it is still this agent's. After a crash before that, the presence expires
// with its TTL.
func (h *host) endPresence(kill context.Context) {
	ctx, cancel := context.WithTimeout(kill, wireTimeout)
	defer cancel()
	s, there, err := h.q.Host(ctx, h.name)
	if there && s.Instance != h.admission.state().Instance {
		return // another agent serves the host already
	}
	err = errors.Join(err, h.q.Leave(ctx, h.name), h.q.AnnounceHost(ctx, h.name, queue.HostOffline, "the agent was stopped"))
	if err != nil {
		h.log.Warn("cannot delete the presence of the host; it expires by itself", "error", err)
	}
	h.meters.gone()
}

// control drains or resumes the host, as `dispatcher hosts drain` and `resume` ask for. A drained host stays drained when its
// agent is restarted.
func (h *host) control(ctx context.Context, c queue.Control) queue.Reply {
	if c.Drain == c.Resume {
		return queue.Reply{Answer: queue.Unfit, Reason: "a control asks for either drain or resume", State: h.admission.state()}
	}
	h.admission.change(func(d *admission) {
		d.drained, d.drainedBy = c.Drain, ""
		if c.Drain {
			d.drainedBy = c.By
		}
	})
	h.log.Info("an operator drains or resumes the host", "drain", c.Drain, "by", c.By)
	reply := queue.Reply{Answer: queue.Accepted}
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	if err := h.persist(ctx); err != nil {
		h.log.Warn("cannot store the host's condition; trying again", "error", err)
		reply.Reason = "not stored yet, so that a restart of the agent would forget it: " + err.Error()
	}
	h.announce()
	reply.State = h.admission.state()
	switch s := &reply.State; {
	case c.Drain || reply.Reason != "":
	case s.State != queue.Online:
		reply.Reason = "it is not drained any more, but takes no jobs: " + s.Reason
	case s.Trial:
		reply.Reason = "it takes one job at a time: " + s.Reason
	}
	return reply
}

// controlTimeout leaves room within the 2 s that an operator's command waits.
const controlTimeout = 1500 * time.Millisecond

// logsJobs reports whether the log takes the lines about every job.
func (h *host) logsJobs() bool { return h.log.Enabled(context.Background(), slog.LevelInfo) }

// announce broadcasts the host's state to all dispatchers and has the presence renewed at once.
func (h *host) announce() {
	h.broadcast(nil)
	signal(h.beatNow)
}

// wireTimeout bounds one call to NATS.
const wireTimeout = 5 * time.Second

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
