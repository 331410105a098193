package dispatcher

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// metrics are those of this process: sums over dispatchers are right, except for the mirrors, which each dispatcher has of its own.
// Events are counted in tally.go, and the facts of the fleet in fleetmetrics.go.
type metrics struct {
	*eventCounts
	parked    prometheus.Counter
	rested    prometheus.Counter
	putOff    prometheus.Counter
	claims    *prometheus.CounterVec
	offers    *prometheus.CounterVec
	accepted  prometheus.Counter // of offers
	offerTook prometheus.Histogram
	decided   prometheus.Histogram
	waiting   prometheus.Gauge
	hosts     prometheus.Gauge
	blocks    prometheus.Gauge
	clock     prometheus.Gauge
	turns     prometheus.Histogram
	settleLag prometheus.Histogram
	calls     *prometheus.HistogramVec
	refusals  *prometheus.CounterVec
}

// newMetrics works without a registerer: then they are counted and not exported.
func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		eventCounts: newEventCounts(),
		parked:      counter("jobs_parked_total", "Tickets that this dispatcher wrote."),
		rested:      counter("jobs_rested_total", "Jobs left to rest without a ticket, since their tenant had as many as it may."),
		putOff:      counter("deliveries_put_off_total", "Deliveries put off for some time, since many of their tenant's were under way."),
		claims:      counterVec("claims_total", "Claims of tickets by result.", "result"),
		offers:      counterVec("offers_total", "Offers to agents by answer.", "answer"),
		offerTook:   histogram("offer_seconds", "How long agents took to answer offers.", 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1, 2),
		decided:     histogram("decision_seconds", "How long the choice of a host for a job took.", 1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 1e-4, 1e-3, 1e-2),
		waiting:     gauge("mirror_tickets", "Tickets of the waiting room that this dispatcher has read."),
		hosts:       gauge("mirror_hosts", "Present hosts that this dispatcher has read."),
		blocks:      gauge("mirror_blocks", "Blocks that this dispatcher has read."),
		clock:       gauge("clock_offset_seconds", "By how much this machine's clock is ahead of NATS'."),
		turns: histogram("loop_turn_seconds", "How long each turn of the loop took: nothing else is decided meanwhile.",
			1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 16e-3, 32e-3, 64e-3, 128e-3, 256e-3, 512e-3, 1),
		settleLag: histogram("settle_lag_seconds", "How long after its failed event a failure was settled.", 0.01, 0.05, 0.25, 1, 5, 15, 60, 300),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: prefix + "api_requests_seconds", Help: "How long calls took, by call; those of a tenant begin with tenant.",
			Buckets: []float64{1e-3, 5e-3, 2.5e-2, 0.1, 0.5, 2, 10},
		}, []string{"call"}),
		refusals: counterVec("api_refused_total", "Calls that were answered with an error, by code.", "code"),
	}
	for _, result := range []string{"won", "lost"} {
		m.claims.WithLabelValues(result)
	}
	for _, answer := range append(queue.Answers(), noAnswer) {
		m.offers.WithLabelValues(string(answer))
	}
	for _, code := range []string{"400", "404", "409", "413", "429", "500", "503"} {
		m.refusals.WithLabelValues(code)
	}
	m.accepted = m.offers.WithLabelValues(string(queue.Accepted))
	if r != nil {
		r.MustRegister(m.parked, m.rested, m.putOff, m.claims, m.offers, m.offerTook, m.decided, m.waiting, m.hosts, m.blocks, m.clock, m.turns,
			m.settleLag, m.calls, m.refusals)
		m.register(r)
	}
	return m
}

const (
	prefix = "comfyherd_"

	noAnswer queue.Answer = "no_answer"
)

// called counts a call that was answered.
func (m *metrics) called(name string, err error, begun time.Time) {
	m.calls.WithLabelValues(name).Observe(time.Since(begun).Seconds())
	if err != nil {
		m.refusals.WithLabelValues(jetstream.Code(err)).Inc()
	}
}

// offered counts an offer by its answer.
func (m *metrics) offered(answer queue.Answer, err error, took time.Duration) {
	switch {
	case err != nil:
		m.offers.WithLabelValues(string(noAnswer)).Inc()
		return
	case answer == queue.Accepted:
		m.accepted.Inc()
	default:
		m.offers.WithLabelValues(string(answer)).Inc()
	}
	m.offerTook.Observe(took.Seconds())
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + name, Help: help})
}

func gauge(name, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + name, Help: help})
}

func counterVec(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help}, labels)
}

func histogram(name, help string, buckets ...float64) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{Name: prefix + name, Help: help, Buckets: buckets})
}
