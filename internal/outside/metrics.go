package outside

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// metrics of deliveries: tries are counted by the process that makes them, and the gauges are facts of the fleet, the same in all of them.
type metrics struct {
	tries   *prometheus.CounterVec
	took    prometheus.Histogram
	hooks   *prometheus.GaugeVec
	pending prometheus.Gauge
	oldest  prometheus.Gauge
}

func newMetrics() *metrics {
	m := &metrics{
		tries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "comfyherd_webhook_tries_total", Help: "Tries to deliver an event to a webhook, by outcome.",
		}, []string{"outcome"}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "comfyherd_webhook_request_seconds", Help: "How long requests to receivers took.", Buckets: []float64{0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15},
		}),
		hooks: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "comfyherd_fleet_webhooks", Help: "Webhooks by state: enabled or disabled.",
		}, []string{"state"}),
		pending: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "comfyherd_fleet_webhook_undelivered_events", Help: "Events that were not delivered to webhooks yet.",
		}),
		oldest: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "comfyherd_fleet_webhook_oldest_timestamp_seconds", Help: "Since when the oldest of these events waits; 0 when there is none.",
		}),
	}
	for _, outcome := range jetstream.Outcomes() {
		m.tries.WithLabelValues(string(outcome))
	}
	m.states(0, 0)
	return m
}

func (m *metrics) register(r prometheus.Registerer) {
	r.MustRegister(m.tries, m.took, m.hooks, m.pending, m.oldest)
}

func (m *metrics) states(enabled, disabled int) {
	m.hooks.WithLabelValues("enabled").Set(float64(enabled))
	m.hooks.WithLabelValues("disabled").Set(float64(disabled))
}

// DescribeMetrics registers the metrics, for their reference.
func DescribeMetrics(r prometheus.Registerer) { newMetrics().register(r) }

const measurePause = 15 * time.Second

// measureLoop sets the gauges. While there are no webhooks nothing is read.
func (w *Webhooks) measureLoop(ctx context.Context) error {
	for queue.Pause(ctx, measurePause) {
		enabled, disabled := w.known.states()
		w.metrics.states(enabled, disabled)
		if enabled+disabled == 0 {
			continue
		}
		if err := w.measure(ctx); err != nil && ctx.Err() == nil {
			w.failed("count what is to be delivered to webhooks")(err)
		}
	}
	return ctx.Err()
}

func (w *Webhooks) measure(ctx context.Context) error {
	counts, err := w.q.CountUndelivered(ctx)
	if err != nil {
		return err
	}
	pending := 0
	for _, n := range counts {
		pending += n
	}
	w.metrics.pending.Set(float64(pending))
	at, found, err := w.q.OldestUndelivered(ctx, "", "")
	if err != nil {
		return err
	}
	w.metrics.oldest.Set(0)
	if found {
		w.metrics.oldest.Set(float64(at.UnixMilli()) / 1000)
	}
	return nil
}
