package dispatcher

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/comfyherd/comfyherd/internal/queue"
)

type metrics struct {
	received prometheus.Counter
	parked   prometheus.Counter
	rested   prometheus.Counter
	putOff   prometheus.Counter
	claims   *prometheus.CounterVec
	offers   *prometheus.CounterVec
	accepted prometheus.Counter // of offers
	failed   *prometheus.CounterVec
	ended    *prometheus.CounterVec
	waiting  prometheus.Gauge
	hosts    prometheus.Gauge
	blocks   prometheus.Gauge
	clock    prometheus.Gauge
	turns    prometheus.Histogram
}

// newMetrics works without a registerer: then they are counted and not exported.
func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		received: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "comfyherd_jobs_received_total", Help: "Jobs whose chain this dispatcher began.",
		}),
		parked: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "comfyherd_jobs_parked_total", Help: "Tickets that this dispatcher wrote.",
		}),
		rested: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "comfyherd_jobs_rested_total", Help: "Jobs left to rest without a ticket, since their tenant had as many as it may.",
		}),
		putOff: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "comfyherd_deliveries_put_off_total", Help: "Deliveries put off for some time, since many of their tenant's were under way.",
		}),
		claims: counterVec("comfyherd_claims_total", "Claims of tickets by result.", "result"),
		offers: counterVec("comfyherd_offers_total", "Offers to agents by answer.", "answer"),
		failed: counterVec("comfyherd_attempts_failed_total", "Failed attempts settled here, by kind.", "kind"),
		ended:  counterVec("comfyherd_jobs_ended_total", "Jobs that this dispatcher ended, by event and reason.", "event", "reason"),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "comfyherd_waiting_jobs", Help: "Jobs in the waiting room.",
		}),
		hosts:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "comfyherd_hosts", Help: "Hosts whose presence stands."}),
		blocks: prometheus.NewGauge(prometheus.GaugeOpts{Name: "comfyherd_blocks", Help: "Blocked pairs of host and workflow."}),
		clock: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "comfyherd_clock_offset_seconds", Help: "By how much this machine's clock is ahead of NATS'.",
		}),
		turns: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "comfyherd_loop_turn_seconds", Help: "How long each turn of the loop took: nothing else is decided meanwhile.",
			Buckets: []float64{1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 16e-3, 32e-3, 64e-3, 128e-3, 256e-3, 512e-3, 1},
		}),
	}
	m.accepted = m.offers.WithLabelValues(string(queue.Accepted))
	if r != nil {
		r.MustRegister(m.received, m.parked, m.rested, m.putOff, m.claims, m.offers, m.failed, m.ended, m.waiting, m.hosts, m.blocks, m.clock, m.turns)
	}
	return m
}

// offered counts an offer by its answer.
func (m *metrics) offered(answer queue.Answer, err error) {
	switch {
	case err != nil:
		m.offers.WithLabelValues("no_answer").Inc()
	case answer == queue.Accepted:
		m.accepted.Inc()
	default:
		m.offers.WithLabelValues(string(answer)).Inc()
	}
}

func counterVec(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}
