package trace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlpresource "go.opentelemetry.io/proto/otlp/resource/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// Config says where traces go. Everything that it leaves out is read from the environment variables of OpenTelemetry's
// specification, such as OTEL_EXPORTER_OTLP_HEADERS and OTEL_SERVICE_NAME.
type Config struct {
	Endpoint string  // URL of a receiver of OTLP over HTTP; empty: OTEL_EXPORTER_OTLP_ENDPOINT
	Ratio    float64 // of the traces that are exported, 0 to 1; those of dead jobs always are
	Version  string
	Logger   *slog.Logger // default discards
}

const (
	exportTimeout = 10 * time.Second
	exportPause   = 500 * time.Millisecond // in which spans are collected for one export
	mostSpans     = 2048                   // of one export, about
	jobsAtOnce    = 256
	logPause      = time.Minute // between two warnings that the receiver cannot be reached
	scope         = "github.com/comfyherd/comfyherd/internal/trace"
)

// Traces exports traces.
type Traces struct {
	q        *queue.Queue
	log      *slog.Logger
	client   otlptrace.Client
	ratio    float64
	resource *otlpresource.Resource
	schema   string // URL of the names in resource

	mu     sync.Mutex // guards all below
	next   *batch
	warned time.Time
}

// batch is a number of spans that are exported together.
type batch struct {
	spans []*otlp.Span
	full  chan struct{} // closed when no more are collected
	done  chan struct{} // closed when err is set
	err   error
}

// New makes a Traces, which does nothing before Run. It does not look whether the receiver can be reached.
func New(ctx context.Context, q *queue.Queue, cfg Config) (*Traces, error) {
	options := []otlptracehttp.Option{otlptracehttp.WithTimeout(exportTimeout), otlptracehttp.WithRetry(retries())}
	if cfg.Endpoint != "" {
		options = append(options, otlptracehttp.WithEndpointURL(cfg.Endpoint))
	}
	client := otlptracehttp.NewClient(options...)
	if err := client.Start(ctx); err != nil {
		return nil, fmt.Errorf("prepare the export of traces: %w", err)
	}
	name := attribute.String("service.name", "comfyherd")
	of, err := resource.New(ctx, resource.WithAttributes(name, attribute.String("service.version", cfg.Version)), resource.WithFromEnv())
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, fmt.Errorf("read OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	t := &Traces{q: q, log: cfg.Logger, client: client, ratio: cfg.Ratio, resource: &otlpresource.Resource{}, schema: of.SchemaURL()}
	for _, a := range of.Attributes() {
		t.resource.Attributes = append(t.resource.Attributes, text(string(a.Key), a.Value.String()))
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	return t, nil
}

// retries are those of one export. When all have failed the jobs come again from NATS.
func retries() otlptracehttp.RetryConfig {
	return otlptracehttp.RetryConfig{Enabled: true, InitialInterval: exportPause, MaxInterval: 4 * exportPause, MaxElapsedTime: exportTimeout}
}

// Run works until ctx ends.
func (t *Traces) Run(ctx context.Context) error {
	err := t.q.EndedJobs(ctx, jobsAtOnce, t.export, func(err error) {
		if !errors.Is(err, errNotExported) { // which is logged once a minute
			t.log.Warn("the trace of a job could not be made; it is tried again", "error", err)
		}
	})
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), exportTimeout)
	defer cancel()
	return errors.Join(err, t.client.Stop(ctx))
}

var errNotExported = errors.New("the receiver of traces did not take them")

// export makes the trace of a job that has ended, and returns when the receiver has it. Of a job whose trace is not exported nothing is read.
func (t *Traces) export(ctx context.Context, last queue.JobEnd) error {
	if last.How != job.Dead && !sampled(last, t.q.Created(), t.ratio) {
		return nil
	}
	chain, err := t.q.Chain(ctx, last.Tenant, last.Job)
	if err != nil || len(chain) == 0 {
		return err
	}
	events := make([]job.Event, len(chain))
	for i := range chain {
		events[i] = chain[i].Event
	}
	b := t.add(ctx, spansOf(events, t.q.Created()))
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// add collects spans for the next export, of which the first caller takes care.
func (t *Traces) add(ctx context.Context, spans []*otlp.Span) *batch {
	t.mu.Lock()
	b, first := t.next, false
	if b == nil {
		b, first = &batch{full: make(chan struct{}), done: make(chan struct{})}, true
		t.next = b
	}
	b.spans = append(b.spans, spans...)
	if len(b.spans) >= mostSpans {
		close(b.full)
		t.next = nil
	}
	t.mu.Unlock()
	if first {
		t.send(ctx, b)
	}
	return b
}

// send exports a batch when it is full or has been open for exportPause.
func (t *Traces) send(ctx context.Context, b *batch) {
	pause := time.NewTimer(exportPause)
	defer pause.Stop()
	select {
	case <-b.full:
	case <-pause.C:
	case <-ctx.Done():
	}
	t.mu.Lock()
	if t.next == b {
		t.next = nil
	}
	t.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, exportTimeout)
	defer cancel()
	err := t.client.UploadTraces(ctx, []*otlp.ResourceSpans{{
		Resource: t.resource, SchemaUrl: t.schema, ScopeSpans: []*otlp.ScopeSpans{{Scope: &common.InstrumentationScope{Name: scope}, Spans: b.spans}},
	}})
	if err != nil {
		b.err = fmt.Errorf("%w: %w", errNotExported, err)
		t.warn(err, len(b.spans))
	}
	close(b.done)
}

// warn logs at most once a minute, as a receiver that is away fails every export.
func (t *Traces) warn(err error, spans int) {
	t.mu.Lock()
	due := time.Since(t.warned) >= logPause
	if due {
		t.warned = time.Now()
	}
	t.mu.Unlock()
	if due {
		t.log.Warn("traces could not be exported; they are tried again", "spans", spans, "error", err)
	}
}
