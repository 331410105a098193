package outside

import (
	"context"
	"crypto/tls"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// WebhookConfig says how events are delivered. The zero value works.
type WebhookConfig struct {
	Name       string // of this process, in the record of its tries; default webhooks
	Allow      string // address ranges with commas to which it may connect beside public addresses, also without TLS
	Schedule   []time.Duration
	Timeout    time.Duration // of a request; default 15 s
	Version    string        // in the header User-Agent
	TLS        *tls.Config   // default the system's
	Logger     *slog.Logger  // default discards
	Registerer prometheus.Registerer
}

func (c WebhookConfig) withDefaults() WebhookConfig {
	if c.Name == "" {
		c.Name = "webhooks"
	}
	if len(c.Schedule) == 0 {
		c.Schedule = usualSchedule()
	}
	if c.Timeout == 0 {
		c.Timeout = 15 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Webhooks delivers events.
type Webhooks struct {
	q         *queue.Queue
	cfg       WebhookConfig
	log       *slog.Logger
	send      *sender
	known     *known
	endpoints *endpoints
	metrics   *metrics
}

// CheckWebhookAllow refuses a WebhookConfig.Allow that cannot be read.
func CheckWebhookAllow(text string) error {
	_, err := allowed(text)
	return err
}

// allowed are public addresses, and those of the given ranges.
func allowed(text string) (Addresses, error) {
	switch text {
	case "":
		return ParseAddresses(PublicAddresses)
	case AnyAddress:
		return ParseAddresses(text)
	}
	return ParseAddresses(PublicAddresses + "," + text)
}

// NewWebhooks makes a Webhooks, which does nothing before Run.
func NewWebhooks(q *queue.Queue, cfg WebhookConfig) (*Webhooks, error) {
	cfg = cfg.withDefaults()
	addresses, err := allowed(cfg.Allow)
	if err != nil {
		return nil, err
	}
	w := &Webhooks{q: q, cfg: cfg, log: cfg.Logger, send: newSender(addresses, &cfg), known: newKnown(), metrics: newMetrics()}
	w.endpoints = &endpoints{of: map[string]*endpoint{}, running: map[string]int{}, try: w.try, failed: w.failed("give a try of a webhook back to its stream")}
	if cfg.Registerer != nil {
		w.metrics.register(cfg.Registerer)
	}
	return w, nil
}

func (w *Webhooks) failed(what string) func(error) {
	return func(err error) { w.log.Warn("could not "+what+"; it is tried again", "error", err) }
}

// Run works until ctx ends. Requests under way end with it; what they were to deliver is delivered by another process, or later.
func (w *Webhooks) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return w.q.WatchWebhooks(ctx, w.known.change) })
	group.Go(func() error { return w.followLoop(ctx) })
	group.Go(func() error { return w.measureLoop(ctx) })
	err := group.Wait()
	w.send.close()
	return err
}

// followLoop runs the two consumers while there are webhooks, with the events that these want.
func (w *Webhooks) followLoop(ctx context.Context) error {
	stop := func() {}
	defer func() { stop() }()
	running := false
	for ctx.Err() == nil {
		all, changed := w.known.all()
		switch {
		case len(all) == 0:
			stop()
			stop, running = func() {}, false
		default:
			if err := w.q.FollowForWebhooks(ctx, all); err != nil {
				w.failed("follow events for webhooks")(err)
				queue.Pause(ctx, time.Second)
				continue
			}
			if !running {
				stop, running = w.work(ctx), true
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

// work runs both consumers until stop is called, which returns when nothing is under way any more.
func (w *Webhooks) work(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var loops sync.WaitGroup
	for _, loop := range []func(context.Context) error{
		func(ctx context.Context) error {
			return w.q.EventsForWebhooks(ctx, w.notice, w.failed("note an event for webhooks"))
		},
		func(ctx context.Context) error {
			return w.q.Undelivered(ctx, func(h *queue.Handed) { w.endpoints.take(ctx, h, time.Now()) }, w.failed("receive what is to be delivered to webhooks"))
		},
	} {
		loops.Go(func() {
			for ctx.Err() == nil {
				if err := loop(ctx); err != nil && ctx.Err() == nil {
					w.failed("follow events for webhooks")(err)
					queue.Pause(ctx, time.Second)
				}
			}
		})
	}
	return func() {
		cancel()
		loops.Wait()
		w.endpoints.stop()
	}
}
