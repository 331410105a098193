package integration_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	collect "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/trace"
	"github.com/comfyherd/comfyherd/jetstream"
)

// tracing receives spans as a collector of OpenTelemetry does.
type tracing struct {
	*httptest.Server

	got  chan *tracev1.Span
	away atomic.Bool // requests are refused
	from atomic.Pointer[trace.Traces]
	asks atomic.Int32 // requests that were refused
}

func receiveTraces(t *testing.T) *tracing {
	t.Helper()
	r := &tracing{got: make(chan *tracev1.Span, 256)}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if r.away.Load() {
			r.asks.Add(1)
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		var request collect.ExportTraceServiceRequest
		body, err := io.ReadAll(req.Body)
		if err == nil {
			err = proto.Unmarshal(body, &request)
		}
		if err != nil || req.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", req.URL.Path, err)
		}
		for _, of := range request.GetResourceSpans() {
			for _, scope := range of.GetScopeSpans() {
				for _, span := range scope.GetSpans() {
					r.got <- span
				}
			}
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// trace waits for the trace of a job: its spans in the order of their starts, the whole job's first.
func (r *tracing) trace(f *fleet, id job.ID) []*tracev1.Span {
	f.t.Helper()
	var spans []*tracev1.Span
	for {
		select {
		case span := <-r.got:
			spans = append(spans, span)
			if text(span, "comfyherd.job") != string(id) { // that of the whole job comes last
				continue
			}
			slices.SortStableFunc(spans, func(a, b *tracev1.Span) int {
				if a == span || b == span {
					return map[bool]int{true: -1, false: 1}[a == span]
				}
				return int(int64(a.GetStartTimeUnixNano()) - int64(b.GetStartTimeUnixNano()))
			})
			return spans
		case <-f.context().Done():
			f.t.Fatalf("job %s has no trace", id)
		}
	}
}

func text(span *tracev1.Span, key string) string {
	for _, a := range span.GetAttributes() {
		if a.GetKey() == key {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}

// jobEnded is for the Config of dispatchers; no job may end before exportsTraces.
func (r *tracing) jobEnded(end queue.JobEnd) { r.from.Load().JobEnded(end) }

func (f *fleet) exportsTraces(r *tracing, ratio float64) {
	f.t.Helper()
	f.actor(func(q *queue.Queue) func(stop, kill context.Context) error {
		traces, err := trace.New(f.context(), q, trace.Config{Endpoint: r.URL + "/v1/traces", Ratio: ratio, Logger: f.logger()})
		if err != nil {
			f.t.Fatal(err)
		}
		r.from.Store(traces)
		return func(stop, _ context.Context) error {
			_ = traces.Run(stop) // it ends with its context only
			return nil
		}
	})
}

const (
	theirTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	theirSpan  = "00f067aa0ba902b7"
)

func TestTheTraceOfAJobHasItsWaitsAndAttempts(t *testing.T) {
	t.Parallel()
	r := receiveTraces(t)
	r.away.Store(true)
	f := start(t, setup{dispatchers: 2, config: dispatcher.Config{Policy: quick(), JobEnded: r.jobEnded}, hosts: []comfysim.Config{
		{Name: "a", Faults: []comfysim.Fault{{Kind: comfysim.FaultRaise, Class: "SaveImage", Exception: "ValueError"}}}, {Name: "b"},
	}})
	f.exportsTraces(r, 1)
	client := jetstream.NewClient(f.nc, "acme")
	receipt, err := client.Submit(f.context(), 5, jetstream.Spec{
		ID: "j", Workflow: picture(0x112233), PreferHosts: []string{"a"}, Traceparent: "00-" + theirTrace + "-" + theirSpan + "-01",
	})
	if err != nil {
		t.Fatal(err)
	}
	if e := f.end(receipt); e.EventKind != job.Completed || e.Host != "b" {
		t.Fatalf("the job has ended %s on %s", e.EventKind, e.Host)
	}
	f.eventually("an export that is refused", func() bool { return r.asks.Load() > 0 })
	r.away.Store(false)

	spans := r.trace(f, "j")
	whole := spans[0]
	var names, hosts []string
	for _, span := range spans {
		names = append(names, span.GetName())
		hosts = append(hosts, text(span, "comfyherd.host"))
		if hex.EncodeToString(span.GetTraceId()) != theirTrace || span.GetEndTimeUnixNano() < span.GetStartTimeUnixNano() {
			t.Errorf("%s is of trace %x, from %d to %d", span.GetName(), span.GetTraceId(), span.GetStartTimeUnixNano(), span.GetEndTimeUnixNano())
		}
		if span != whole && string(span.GetParentSpanId()) != string(whole.GetSpanId()) {
			t.Errorf("the parent of %s is %x", span.GetName(), span.GetParentSpanId())
		}
	}
	if diff := cmp.Diff([]string{"process comfy.jobs.acme.5", "wait", "attempt", "wait", "attempt"}, names); diff != "" {
		t.Fatal(diff)
	}
	if diff := cmp.Diff([]string{"", "", "a", "", "b"}, hosts); diff != "" {
		t.Error(diff)
	}
	if hex.EncodeToString(whole.GetParentSpanId()) != theirSpan || len(whole.GetLinks()) != 1 || whole.GetKind() != tracev1.Span_SPAN_KIND_CONSUMER ||
		text(whole, "messaging.system") != "nats" || text(whole, "messaging.destination.name") != "comfy.jobs.acme.5" || text(whole, "comfyherd.outcome") != "completed" {
		t.Errorf("the job's span is %v", whole)
	}
	if failed := spans[2]; failed.GetStatus().GetCode() != tracev1.Status_STATUS_CODE_ERROR || text(failed, "error.type") != "execution_error" || text(failed, "comfyherd.node") != "9" {
		t.Errorf("the failed attempt is %v", failed)
	}
	if done := spans[4]; done.GetStatus().GetCode() == tracev1.Status_STATUS_CODE_ERROR || text(done, "error.type") != "" {
		t.Errorf("the attempt that completed is %v", done)
	}
}

func TestTracesOfDeadJobsAndOfPublishersThatExportAreAlwaysExported(t *testing.T) {
	t.Parallel()
	r := receiveTraces(t)
	f := start(t, setup{dispatchers: 1, config: dispatcher.Config{JobEnded: r.jobEnded}, hosts: names("a")})
	f.exportsTraces(r, 0)
	f.end(f.submit("acme", job.Spec{ID: "good", Workflow: picture(0x112234)}))
	f.end(f.submit("acme", job.Spec{ID: "unsampled", Workflow: picture(0x112236), Traceparent: "00-" + theirTrace + "-" + theirSpan + "-00"}))
	f.end(f.submit("acme", job.Spec{ID: "sampled", Workflow: picture(0x112235), Traceparent: "00-" + theirTrace + "-" + theirSpan + "-01"}))
	if whole := r.trace(f, "sampled")[0]; hex.EncodeToString(whole.GetParentSpanId()) != theirSpan {
		t.Errorf("the trace that the publisher exports does not continue: %v", whole)
	}
	bad := graph(map[string]any{"1": node("NoSuchNode"), "9": node("SaveImage", "images", link("1"), "filename_prefix", "out")})
	dead := f.submit("acme", job.Spec{ID: "bad", Workflow: bad, ExpiresIn: job.Duration(1e9)})
	if e := f.end(dead); e.EventKind != job.Dead {
		t.Fatalf("the job has ended %s", e.EventKind)
	}
	spans := r.trace(f, "bad")
	if whole := spans[0]; whole.GetStatus().GetCode() != tracev1.Status_STATUS_CODE_ERROR || text(whole, "error.type") != "expired" || len(whole.GetParentSpanId()) != 0 ||
		hex.EncodeToString(whole.GetTraceId()) != fmt.Sprintf("%x", job.DerivedTraceID("acme", "bad", f.q.Created())) {
		t.Errorf("the job's span is %v", whole)
	}
	if slices.ContainsFunc(spans, func(s *tracev1.Span) bool { return text(s, "comfyherd.job") != "" && text(s, "comfyherd.job") != "bad" }) {
		t.Error("the trace of a job that completed is exported too")
	}
}
