package trace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"

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
)

// outcomeKey is the attribute with the kind of the event that ended the job.
const outcomeKey = attribute.Key("comfyherd.outcome")

// Traces exports traces.
type Traces struct {
	q        *queue.Queue
	log      *slog.Logger
	exporter sdk.SpanExporter
	sampler  sdk.Sampler
	resource *resource.Resource

	mu     sync.Mutex // guards all below
	next   *batch
	warned time.Time
}

// batch is a number of spans that are exported together.
type batch struct {
	spans []sdk.ReadOnlySpan
	full  chan struct{} // closed when no more are collected
	done  chan struct{} // closed when err is set
	err   error
}

// New makes it; Run makes it work. It does not look whether the receiver can be reached.
func New(ctx context.Context, q *queue.Queue, cfg Config) (*Traces, error) {
	options := []otlptracehttp.Option{otlptracehttp.WithTimeout(exportTimeout), otlptracehttp.WithRetry(retries())}
	if cfg.Endpoint != "" {
		options = append(options, otlptracehttp.WithEndpointURL(cfg.Endpoint))
	}
	exporter, err := otlptracehttp.New(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("prepare the export of traces: %w", err)
	}
	name := attribute.String("service.name", "comfyherd")
	of, err := resource.New(ctx, resource.WithAttributes(name, attribute.String("service.version", cfg.Version)), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, fmt.Errorf("read OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	t := &Traces{q: q, log: cfg.Logger, exporter: exporter, sampler: sampler{sdk.ParentBased(sdk.TraceIDRatioBased(cfg.Ratio))}, resource: of}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	return t, nil
}

// retries are those of one export. When all have failed the jobs come again from NATS.
func retries() otlptracehttp.RetryConfig {
	return otlptracehttp.RetryConfig{Enabled: true, InitialInterval: exportPause, MaxInterval: 4 * exportPause, MaxElapsedTime: exportTimeout}
}

// sampler takes the traces of all dead jobs, and of the others those that another one takes.
type sampler struct{ others sdk.Sampler }

// ShouldSample decides for a span.
func (s sampler) ShouldSample(p sdk.SamplingParameters) sdk.SamplingResult {
	for _, a := range p.Attributes {
		if a.Key == outcomeKey && a.Value.AsString() == string(job.Dead) {
			return sdk.AlwaysSample().ShouldSample(p)
		}
	}
	return s.others.ShouldSample(p)
}

// Description names it.
func (s sampler) Description() string { return "dead jobs, and " + s.others.Description() }

// Run works until ctx ends.
func (t *Traces) Run(ctx context.Context) error {
	err := t.q.EndedJobs(ctx, jobsAtOnce, t.export, func(err error) {
		if !errors.Is(err, errNotExported) { // which is logged once a minute
			t.log.Warn("the trace of a job could not be made; it is tried again", "error", err)
		}
	})
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), exportTimeout)
	defer cancel()
	return errors.Join(err, t.exporter.Shutdown(ctx))
}

var errNotExported = errors.New("the receiver of traces did not take them")

// export makes the trace of a job that has ended, and returns when the receiver has it.
func (t *Traces) export(ctx context.Context, tenant job.Tenant, id job.ID) error {
	chain, err := t.q.Chain(ctx, tenant, id)
	if err != nil || len(chain) == 0 {
		return err
	}
	events := make([]job.Event, len(chain))
	for i := range chain {
		events[i] = chain[i].Event
	}
	var c collector
	provider := sdk.NewTracerProvider(sdk.WithIDGenerator(derived{}), sdk.WithSampler(t.sampler), sdk.WithResource(t.resource), sdk.WithSpanProcessor(&c))
	record(ctx, provider.Tracer("github.com/comfyherd/comfyherd/internal/trace"), events, t.q.Created())
	if len(c.spans) == 0 {
		return nil
	}
	b := t.add(ctx, c.spans)
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// add collects spans for the next export, of which the first caller takes care.
func (t *Traces) add(ctx context.Context, spans []sdk.ReadOnlySpan) *batch {
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
	if err := t.exporter.ExportSpans(ctx, b.spans); err != nil {
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

// collector keeps the spans of one job.
type collector struct{ spans []sdk.ReadOnlySpan }

// OnStart does nothing.
func (*collector) OnStart(context.Context, sdk.ReadWriteSpan) {}

// OnEnd keeps the span.
func (c *collector) OnEnd(s sdk.ReadOnlySpan) { c.spans = append(c.spans, s) }

// Shutdown does nothing.
func (*collector) Shutdown(context.Context) error { return nil }

// ForceFlush does nothing.
func (*collector) ForceFlush(context.Context) error { return nil }
