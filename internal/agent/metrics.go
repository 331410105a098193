package agent

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// metrics of all hosts of a process; every one but the last two has the label host.
type metrics struct {
	attempts    *prometheus.CounterVec // host, outcome
	failures    *prometheus.CounterVec // host, kind
	offers      *prometheus.CounterVec // host, answer
	running     *prometheus.GaugeVec
	online      *prometheus.GaugeVec
	states      *prometheus.GaugeVec // host, state
	slots       *prometheus.GaugeVec
	foreign     *prometheus.GaugeVec
	memory      *prometheus.GaugeVec // host, kind
	uploaded    *prometheus.CounterVec
	extensions  *prometheus.CounterVec
	busy        *prometheus.CounterVec
	loads       *prometheus.CounterVec
	loadSeconds *prometheus.CounterVec
	ran         *prometheus.HistogramVec
	requests    *prometheus.HistogramVec // route, code
	clock       prometheus.Gauge         // of the process: without a host
}

// runBuckets reach from a small picture to a long video.
var runBuckets = []float64{0.05, 0.25, 1, 2.5, 5, 10, 30, 60, 180, 600, 1800, 3600}

func newMetrics() *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "comfyherd", Subsystem: "agent", Name: name, Help: help}, append([]string{"host"}, labels...))
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "comfyherd", Subsystem: "agent", Name: name, Help: help}, append([]string{"host"}, labels...))
	}
	return &metrics{
		attempts:    counter("attempts_total", "Ended attempts by outcome: completed, failed, cancelled, or dropped (the job had ended, or another agent has it).", "outcome"),
		failures:    counter("failures_total", "Failed attempts by kind.", "kind"),
		offers:      counter("offers_total", "Offers by answer.", "answer"),
		running:     gauge("running_jobs", "Accepted jobs that hold a slot or a place in ComfyUI's backlog."),
		online:      gauge("host_online", "1 while ComfyUI answers and takes jobs."),
		states:      gauge("host_state", "1 for the state in which the host is: online, draining or unhealthy.", "state"),
		slots:       gauge("slots", "Jobs that the host may run at a time now; 1 while it is on trial."),
		foreign:     gauge("foreign_prompts", "Prompts in ComfyUI's backlog that are not from comfyherd."),
		memory:      gauge("vram_bytes", "Memory of the card that ComfyUI uses: total, and used when the agent looked last.", "kind"),
		uploaded:    counter("output_bytes_total", "Bytes of outputs stored in COMFY_OUTPUTS."),
		extensions:  counter("lease_extensions_total", "Extensions of leases."),
		busy:        counter("busy_seconds_total", "Time that jobs held a slot, added when they free it."),
		loads:       counter("model_loads_total", "Classes of nodes whose models were loaded in an attempt, as far as the times of nodes show it."),
		loadSeconds: counter("model_load_seconds_total", "How long these nodes took."),
		ran: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "comfyherd", Subsystem: "agent", Name: "run_seconds",
			Help: "How long ComfyUI ran the prompt of an attempt.", Buckets: runBuckets}, []string{"host"}),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "comfyherd", Subsystem: "agent", Name: "comfyui_requests_seconds",
			Help:    "How long ComfyUI took until the header of an answer, by the first part of the path and the status, which is none without an answer.",
			Buckets: []float64{0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 15, 60}}, []string{"route", "code"}),
		clock: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "comfyherd", Subsystem: "agent", Name: "clock_offset_seconds",
			Help: "By how much this machine's clock is ahead of NATS'."}),
	}
}

func (m *metrics) register(to prometheus.Registerer) error {
	if to == nil {
		return nil
	}
	for _, c := range []prometheus.Collector{
		m.attempts, m.failures, m.offers, m.running, m.online, m.states, m.slots, m.foreign, m.memory, m.uploaded, m.extensions,
		m.busy, m.loads, m.loadSeconds, m.ran, m.requests, m.clock,
	} {
		if err := to.Register(c); err != nil {
			return fmt.Errorf("register the agent's metrics: %w", err)
		}
	}
	return nil
}

// routes are the first parts of the paths that have a series of their own; a job's workflow decides on no path.
var routes = []string{"/api", "/free", "/history", "/internal", "/interrupt", "/object_info", "/prompt", "/queue", "/system_stats", "/upload", "/view"}

func (m *metrics) requested(route string, status int, took time.Duration) {
	code := "none"
	if status != 0 {
		code = strconv.Itoa(status)
	}
	if !slices.Contains(routes, route) {
		route = "other"
	}
	m.requests.WithLabelValues(route, code).Observe(took.Seconds())
}

// meters are one host's.
type meters struct {
	all        *metrics
	host       string
	completed  prometheus.Counter
	accepted   prometheus.Counter
	running    prometheus.Gauge
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
	for _, one := range []*prometheus.CounterVec{m.busy, m.loads, m.loadSeconds} {
		one.WithLabelValues(host)
	}
	m.ran.WithLabelValues(host)
	all := &meters{
		all: m, host: host,
		completed:  m.attempts.WithLabelValues(host, "completed"),
		accepted:   m.offers.WithLabelValues(host, acceptedLabel),
		running:    m.running.WithLabelValues(host),
		uploaded:   m.uploaded.WithLabelValues(host),
		extensions: m.extensions.WithLabelValues(host),
	}
	all.gone()
	return all
}

// state shows the host as its presence does.
func (m *meters) state(s *queue.HostState) {
	for _, one := range []queue.Availability{queue.Online, queue.Draining, queue.Unhealthy} {
		m.all.states.WithLabelValues(m.host, string(one)).Set(oneIf(s.State == one))
	}
	m.all.online.WithLabelValues(m.host).Set(oneIf(s.State == queue.Online))
	m.all.slots.WithLabelValues(m.host).Set(float64(s.Slots))
	m.all.foreign.WithLabelValues(m.host).Set(float64(s.Foreign))
	m.all.memory.WithLabelValues(m.host, "total").Set(float64(s.Memory))
	m.all.memory.WithLabelValues(m.host, "used").Set(float64(s.Used))
}

// gone shows a host that is not served.
func (m *meters) gone() { m.state(&queue.HostState{}) }

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// freed adds what an attempt that has freed its slot took since it was accepted, by this machine's clock.
func (m *meters) freed(since time.Time, ran time.Duration, loads []queue.ModelLoad) {
	m.all.busy.WithLabelValues(m.host).Add(max(0, time.Since(since).Seconds()))
	if ran > 0 {
		m.all.ran.WithLabelValues(m.host).Observe(ran.Seconds())
	}
	for _, load := range loads {
		m.all.loads.WithLabelValues(m.host).Inc()
		m.all.loadSeconds.WithLabelValues(m.host).Add(time.Duration(load.Took).Seconds())
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
	return newMetrics().register(r)
}
