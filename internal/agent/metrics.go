package agent

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// metrics of all hosts of a process; every one but the clock's has the label host.
type metrics struct {
	attempts   *prometheus.CounterVec // host, outcome
	failures   *prometheus.CounterVec // host, kind
	offers     *prometheus.CounterVec // host, answer
	running    *prometheus.GaugeVec
	online     *prometheus.GaugeVec
	uploaded   *prometheus.CounterVec
	extensions *prometheus.CounterVec
	clock      prometheus.Gauge // of the process: without a host
}

func newMetrics(to prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "comfyherd", Subsystem: "agent", Name: name, Help: help}, append([]string{"host"}, labels...))
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "comfyherd", Subsystem: "agent", Name: name, Help: help}, []string{"host"})
	}
	m := &metrics{
		attempts:   counter("attempts_total", "Ended attempts by outcome: completed, failed, cancelled, or dropped (the job had ended, or another agent has it).", "outcome"),
		failures:   counter("failures_total", "Failed attempts by kind.", "kind"),
		offers:     counter("offers_total", "Offers by answer.", "answer"),
		running:    gauge("running_jobs", "Accepted jobs that hold a slot or a place in ComfyUI's backlog."),
		online:     gauge("host_online", "1 while ComfyUI answers and takes jobs."),
		uploaded:   counter("output_bytes_total", "Bytes of outputs stored in COMFY_OUTPUTS."),
		extensions: counter("lease_extensions_total", "Extensions of leases."),
		clock: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "comfyherd", Subsystem: "agent", Name: "clock_offset_seconds",
			Help: "By how much this machine's clock is ahead of NATS'."}),
	}
	if to == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.attempts, m.failures, m.offers, m.running, m.online, m.uploaded, m.extensions, m.clock} {
		if err := to.Register(c); err != nil {
			return nil, fmt.Errorf("register the agent's metrics: %w", err)
		}
	}
	return m, nil
}

// meters are one host's.
type meters struct {
	all        *metrics
	host       string
	completed  prometheus.Counter
	accepted   prometheus.Counter
	running    prometheus.Gauge
	online     prometheus.Gauge
	uploaded   prometheus.Counter
	extensions prometheus.Counter
}

func (m *metrics) of(host string) *meters {
	for _, outcome := range []string{"completed", "failed", "cancelled", "dropped"} {
		m.attempts.WithLabelValues(host, outcome)
	}
	for _, kind := range failure.Kinds() {
		m.failures.WithLabelValues(host, string(kind))
	}
	for _, answer := range queue.Answers() {
		m.offers.WithLabelValues(host, string(answer))
	}
	return &meters{
		all: m, host: host,
		completed:  m.attempts.WithLabelValues(host, "completed"),
		accepted:   m.offers.WithLabelValues(host, acceptedLabel),
		running:    m.running.WithLabelValues(host),
		online:     m.online.WithLabelValues(host),
		uploaded:   m.uploaded.WithLabelValues(host),
		extensions: m.extensions.WithLabelValues(host),
	}
}

// ended counts an attempt that did not complete; kind is that of a failure, else empty.
func (m *meters) ended(outcome string, kind failure.Kind) {
	m.all.attempts.WithLabelValues(m.host, outcome).Inc()
	if kind != "" {
		m.all.failures.WithLabelValues(m.host, string(kind)).Inc()
	}
}

func (m *meters) answered(answer string) {
	if answer == acceptedLabel {
		m.accepted.Inc()
		return
	}
	m.all.offers.WithLabelValues(m.host, answer).Inc()
}

const acceptedLabel = string(queue.Accepted)

// DescribeMetrics registers the metrics of an agent that does nothing, for their reference.
func DescribeMetrics(r prometheus.Registerer) error {
	_, err := newMetrics(r)
	return err
}
