package gateway

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what a gateway counts. All series of its closed sets of labels are there from the start.
type metrics struct {
	requests  *prometheus.CounterVec   // by route and class of the status
	took      *prometheus.HistogramVec // by route, without those that last
	received  *prometheus.CounterVec   // by route
	sent      *prometheus.CounterVec   // by route
	refused   *prometheus.CounterVec   // by reason, before a route
	submitted *prometheus.CounterVec   // by API
	unfit     *prometheus.CounterVec   // submits that were refused, by reason
	frames    *prometheus.CounterVec   // by what became of them
	relayed   prometheus.Counter       // of frames, as the next one
	dropped   prometheus.Counter
	framed    prometheus.Counter     // bytes of frames, of sent
	info      *prometheus.CounterVec // object_info, by how it was found
	sockets   prometheus.Gauge
	slow      prometheus.Counter
	streams   prometheus.Gauge
}

// Routes are the values of the label route: groups of paths that are used together.
func Routes() []string {
	return []string{
		routeNone, routeSocket, "prompt", "queue", "history", "jobs", "view", "upload", "settings", "userdata", "object_info", "models", "info",
		"extensions", "internal", "page", "v2_assets", "v2_content", "v2_jobs", routeEvents, "v2_document",
	}
}

const (
	routeNone   = "none" // refused before a route was found, or no path of this gateway
	routeSocket = "ws"
	routeEvents = "v2_events"
)

// routeOf is the group of a pattern of the mux.
func routeOf(pattern string) string {
	_, path, _ := strings.Cut(pattern, " ")
	path = strings.TrimPrefix(strings.TrimPrefix(path, "/api"), "/")
	if rest, v2 := strings.CutPrefix(path, strings.TrimPrefix(v2Prefix, "/api/")); v2 && !strings.HasPrefix(rest, "userdata") {
		return routeOfV2(rest)
	}
	first, rest, _ := strings.Cut(path, "/")
	switch first {
	case "interrupt", "free":
		return "queue"
	case "history_v2":
		return "history"
	case "job":
		return "jobs"
	case "v2":
		first, _, _ = strings.Cut(rest, "/")
	case "embeddings", "experiment", "view_metadata", "etn":
		return "models"
	case "features", "system_stats", "users", "user":
		return "info"
	case "i18n", "workflow_templates", "global_subgraphs", "node_replacements", "docs":
		return "extensions"
	case "":
		return "page"
	}
	return first
}

func routeOfV2(path string) string {
	first, _, _ := strings.Cut(path, "/")
	switch {
	case strings.HasSuffix(path, "/events"):
		return routeEvents
	case strings.HasSuffix(path, "/{part}"):
		return "v2_content"
	case first == "openapi.yaml":
		return "v2_document"
	}
	return "v2_" + first
}

// Reasons of refusals before a route.
const (
	noKey       = "no_key"
	wrongKey    = "wrong_key"
	wrongOrigin = "origin"
	wrongHost   = "host"
)

// Reasons for which a submit is refused.
const (
	unfitInvalid  = "invalid"   // ComfyUI itself would refuse it, or a file that it names is not there
	unfitNoHost   = "no_host"   // no host could ever run it
	unfitFull     = "full"      // the lane, or the fleet's room
	unfitTooLarge = "too_large" // the body
	unfitRepeated = "repeated"  // an idempotency key that was used before
	unfitFailed   = "failed"    // NATS, or the gateway
)

// What became of a frame for a websocket.
const (
	frameRelayed = "relayed"
	frameDropped = "dropped"
)

const (
	apiComfy = "comfyui"
	apiV2    = "v2"
)

func newMetrics() *metrics {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "comfyherd_gateway_" + name, Help: help}, labels)
	}
	m := &metrics{
		requests: vec("requests_total", "Answered requests, by route and class of their status; route none: refused before, or no path of the gateway.", "route", "code"),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "comfyherd_gateway_request_seconds", Help: "How long requests took, by route; websockets and streams of events are left out.",
			Buckets: []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30},
		}, []string{"route"}),
		received:  vec("received_bytes_total", "Bytes of the bodies of requests, by route.", "route"),
		sent:      vec("sent_bytes_total", "Bytes of the bodies of answers, and of frames to websockets, by route.", "route"),
		refused:   vec("refused_total", "Requests refused before a route was looked at: no_key, wrong_key, origin or host.", "reason"),
		submitted: vec("jobs_submitted_total", "Submits that were taken, by API; one that comes again with its prompt_id is counted again.", "api"),
		unfit:     vec("jobs_refused_total", "Submits that were refused, by reason.", "reason"),
		frames:    vec("frames_total", "Frames for websockets: relayed, or dropped since the client reads slowly.", "result"),
		info:      vec("object_info_total", "Answers of the merged object_info: ready in memory, earlier (that of before a change, while a newer one is merged), or merged while the request waited.", "result"),
		sockets:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "comfyherd_gateway_websockets", Help: "Open websockets."}),
		slow:      prometheus.NewCounter(prometheus.CounterOpts{Name: "comfyherd_gateway_websockets_cut_total", Help: "Websockets closed since their client read too slowly."}),
		streams:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "comfyherd_gateway_event_streams", Help: "Open streams of events of the Comfy API v2."}),
	}
	m.begin()
	m.relayed, m.dropped = m.frames.WithLabelValues(frameRelayed), m.frames.WithLabelValues(frameDropped)
	m.framed = m.sent.WithLabelValues(routeSocket)
	return m
}

// begin makes the series of closed sets.
func (m *metrics) begin() {
	for _, route := range Routes() {
		for _, code := range []string{"2xx", "3xx", "4xx", "5xx"} {
			m.requests.WithLabelValues(route, code)
		}
		m.received.WithLabelValues(route)
		m.sent.WithLabelValues(route)
		if route != routeSocket && route != routeEvents {
			m.took.WithLabelValues(route)
		}
	}
	m.requests.WithLabelValues(routeSocket, "1xx")
	for vec, values := range map[*prometheus.CounterVec][]string{
		m.refused:   {noKey, wrongKey, wrongOrigin, wrongHost},
		m.submitted: {apiComfy, apiV2},
		m.unfit:     {unfitInvalid, unfitNoHost, unfitFull, unfitTooLarge, unfitRepeated, unfitFailed},
		m.frames:    {frameRelayed, frameDropped},
		m.info:      {infoReady, infoEarlier, infoMerged},
	} {
		for _, value := range values {
			vec.WithLabelValues(value)
		}
	}
}

func (m *metrics) register(r prometheus.Registerer) {
	r.MustRegister(m.requests, m.took, m.received, m.sent, m.refused, m.submitted, m.unfit, m.frames, m.info, m.sockets, m.slow, m.streams)
}

// DescribeMetrics registers the metrics, for their reference.
func DescribeMetrics(r prometheus.Registerer) { newMetrics().register(r) }

// measured counts every request of a listener.
func (m *metrics) measured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		answer := &meter{ResponseWriter: w, route: routeNone}
		body := &meteredBody{ReadCloser: r.Body}
		r.Body = body
		next.ServeHTTP(answer, r)
		m.requests.WithLabelValues(answer.route, answer.class(r.Context().Err() != nil)).Inc()
		m.received.WithLabelValues(answer.route).Add(float64(body.read))
		m.sent.WithLabelValues(answer.route).Add(float64(answer.written))
		if answer.route != routeSocket && answer.route != routeEvents {
			m.took.WithLabelValues(answer.route).Observe(time.Since(begun).Seconds())
		}
	})
}

// meter is an answer whose route, status and size are noted.
type meter struct {
	http.ResponseWriter
	route    string
	status   int // 0: nothing was written
	written  int64
	hijacked bool
}

// routed notes the route of a request.
func routed(w http.ResponseWriter, route string) {
	if m, is := w.(*meter); is {
		m.route = route
	}
}

func (m *meter) WriteHeader(status int) {
	if m.status == 0 && status >= http.StatusOK {
		m.status = status
	}
	m.ResponseWriter.WriteHeader(status)
}

func (m *meter) Write(b []byte) (int, error) {
	n, err := m.ResponseWriter.Write(b)
	m.written += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (m *meter) Unwrap() http.ResponseWriter { return m.ResponseWriter }

// Hijack is for websockets.
func (m *meter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(m.ResponseWriter).Hijack()
	m.hijacked = err == nil
	return conn, buffered, err
}

// class is the class of the status. gone says that the client has left before it was answered, which is no error of the gateway.
func (m *meter) class(gone bool) string {
	switch {
	case m.hijacked:
		return "1xx"
	case m.status >= http.StatusInternalServerError && gone:
		return "4xx"
	case m.status >= http.StatusInternalServerError:
		return "5xx"
	case m.status >= http.StatusBadRequest:
		return "4xx"
	case m.status >= http.StatusMultipleChoices:
		return "3xx"
	}
	return "2xx"
}

// meteredBody counts what is read of a body.
type meteredBody struct {
	io.ReadCloser
	read int64
}

func (b *meteredBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read += int64(n)
	return n, err
}

// refuses counts a request that is refused before a route.
func (m *metrics) refuses(err error) {
	reason := map[error]string{errNoKey: noKey, errWrongKey: wrongKey, errOrigin: wrongOrigin, errHost: wrongHost}[err]
	if reason != "" {
		m.refused.WithLabelValues(reason).Inc()
	}
}

// submits is a route whose submits are counted.
func (m *metrics) submits(api string, answer route) route {
	return func(w http.ResponseWriter, r *http.Request, of *tenant) error {
		err := answer(w, r, of)
		if err != nil {
			m.unfit.WithLabelValues(unfitReason(err)).Inc()
		} else {
			m.submitted.WithLabelValues(api).Inc()
		}
		return err
	}
}

// unfitReason is why a submit was refused.
func unfitReason(err error) string {
	f := refusalOf(err)
	switch {
	case f.code == "missing_node_type", f.code == "prompt_outputs_failed_validation", f.code == "invalid_workflow" && f.lacking:
		return unfitNoHost
	case f.status == http.StatusTooManyRequests, f.status == http.StatusInsufficientStorage:
		return unfitFull
	case f.status == http.StatusRequestEntityTooLarge:
		return unfitTooLarge
	case f.code == onceReused().code:
		return unfitRepeated
	case f.status >= http.StatusInternalServerError:
		return unfitFailed
	}
	return unfitInvalid
}
