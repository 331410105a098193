package trace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlpresource "go.opentelemetry.io/proto/otlp/resource/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"golang.org/x/sync/errgroup"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// Config says where traces go. Everything that it leaves out is read from the environment variables of OpenTelemetry's
// specification, such as OTEL_EXPORTER_OTLP_HEADERS and OTEL_SERVICE_NAME.
type Config struct {
	Endpoint   string  // URL of a receiver of OTLP over HTTP; empty: OTEL_EXPORTER_OTLP_ENDPOINT
	Ratio      float64 // of the traces that are exported, 0 to 1; those of dead jobs always are
	Version    string
	Logger     *slog.Logger // default discards
	Registerer prometheus.Registerer
}

const (
	exportTimeout = 10 * time.Second
	exportPause   = 500 * time.Millisecond // in which jobs are collected for one export
	mostJobs      = 256                    // of one export
	mostPending   = 10_000                 // jobs whose traces are not exported yet, some 200 bytes each
	readsAtOnce   = 8                      // jobs whose events are read side by side
	retryPause    = time.Second            // before the first retry of an export or a read; it doubles
	longestPause  = 30 * time.Second
	retryFor      = 10 * time.Minute // then the traces of an export are given up
	readTries     = 5                // of the events of a job; when all fail it has no trace
	lastTimeout   = 3 * time.Second  // of the last export, when Run ends
	logPause      = time.Minute      // between two warnings that the receiver cannot be reached
	scope         = "github.com/comfyherd/comfyherd/internal/trace"
)

// chains is where the events of jobs are read, a *queue.Queue.
type chains interface {
	EndedChains(ctx context.Context, jobs []queue.JobEnd) [][]queue.Link
	Chain(ctx context.Context, tenant job.Tenant, id job.ID) ([]queue.Link, error)
	Created() time.Time
}

// Traces exports traces.
type Traces struct {
	from     chains
	log      *slog.Logger
	client   otlptrace.Client
	ratio    float64
	resource *otlpresource.Resource
	schema   string // URL of the names in resource
	metrics  *metrics
	waiting  chan queue.JobEnd
	pending  atomic.Int64 // jobs whose trace is neither exported nor given up yet
	warned   time.Time    // only Run uses it
}

// New makes a Traces, which exports nothing before Run. It does not look whether the receiver can be reached.
func New(ctx context.Context, from chains, cfg Config) (*Traces, error) {
	options := []otlptracehttp.Option{otlptracehttp.WithTimeout(exportTimeout), otlptracehttp.WithRetry(otlptracehttp.RetryConfig{})} // Run tries again
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
	t := &Traces{
		from: from, log: cfg.Logger, client: client, ratio: cfg.Ratio, resource: &otlpresource.Resource{}, schema: of.SchemaURL(),
		waiting: make(chan queue.JobEnd, mostPending),
	}
	t.metrics = newMetrics(t.Pending)
	for _, a := range of.Attributes() {
		t.resource.Attributes = append(t.resource.Attributes, text(string(a.Key), a.Value.String()))
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	if cfg.Registerer != nil {
		t.metrics.register(cfg.Registerer)
	}
	return t, nil
}

// JobEnded has the trace of a job exported, if it is sampled, and does not wait. While mostPending other jobs wait for their export,
// the job gets no trace.
func (t *Traces) JobEnded(end queue.JobEnd) {
	if end.How != job.Dead && !sampled(end, t.from.Created(), t.ratio) {
		return
	}
	t.pending.Add(1)
	select {
	case t.waiting <- end:
	default:
		t.dropped(1)
	}
}

// Pending is the number of jobs whose trace is neither exported nor given up yet.
func (t *Traces) Pending() int { return int(t.pending.Load()) }

func (t *Traces) exported(jobs int) {
	t.pending.Add(-int64(jobs))
	t.metrics.exported.Add(float64(jobs))
}

func (t *Traces) dropped(jobs int) {
	t.pending.Add(-int64(jobs))
	t.metrics.dropped.Add(float64(jobs))
}

// Run works until ctx ends, and then exports once what is left.
func (t *Traces) Run(ctx context.Context) error {
	for {
		jobs := t.collect(ctx)
		if ctx.Err() != nil {
			return errors.Join(ctx.Err(), t.last(ctx, jobs))
		}
		jobs, spans := t.spans(ctx, jobs)
		if !t.deliver(ctx, spans, len(jobs)) {
			return errors.Join(ctx.Err(), t.last(ctx, jobs))
		}
	}
}

// collect waits for a job, and then for others until there are mostJobs or exportPause has passed.
func (t *Traces) collect(ctx context.Context) (jobs []queue.JobEnd) {
	var full <-chan time.Time
	for len(jobs) < mostJobs {
		select {
		case end := <-t.waiting:
			if jobs = append(jobs, end); full == nil {
				pause := time.NewTimer(exportPause)
				defer pause.Stop()
				full = pause.C
			}
		case <-full:
			return jobs
		case <-ctx.Done():
			return jobs
		}
	}
	return jobs
}

// spans reads the events of jobs, some side by side, and makes their traces of them. It leaves out jobs that have no trace: those whose
// events are not stored any more, and those whose events cannot be read.
func (t *Traces) spans(ctx context.Context, jobs []queue.JobEnd) (left []queue.JobEnd, all []*otlp.Span) {
	var mu sync.Mutex // guards left and all
	var reads errgroup.Group
	reads.SetLimit(readsAtOnce)
	found := t.from.EndedChains(ctx, jobs)
	for i, end := range jobs {
		reads.Go(func() error {
			chain, err := found[i], error(nil)
			if len(chain) == 0 {
				chain, err = t.chain(ctx, end)
			}
			switch {
			case err != nil && ctx.Err() == nil:
				t.dropped(1)
				t.log.Warn("the trace of a job could not be made", "tenant", end.Tenant, "job", end.Job, "error", err)
				return nil
			case err == nil && len(chain) == 0:
				t.pending.Add(-1)
				return nil
			}
			var spans []*otlp.Span
			if err == nil {
				spans = spansOf(chain, t.from.Created())
			}
			mu.Lock()
			defer mu.Unlock()
			left, all = append(left, end), append(all, spans...)
			return nil
		})
	}
	_ = reads.Wait() // no read gives an error
	return left, all
}

// chain reads the events of a job, and again when that fails.
func (t *Traces) chain(ctx context.Context, end queue.JobEnd) ([]queue.Link, error) {
	for try, pause := 1, retryPause; ; try, pause = try+1, 2*pause {
		chain, err := t.from.Chain(ctx, end.Tenant, end.Job)
		if err == nil || try == readTries || !queue.Pause(ctx, pause) {
			return chain, err
		}
	}
}

// deliver exports the traces of jobs, and again when that fails, for retryFor. False means that ctx has ended before.
func (t *Traces) deliver(ctx context.Context, spans []*otlp.Span, jobs int) bool {
	begun := time.Now()
	for pause := retryPause; ; pause = min(2*pause, longestPause) {
		err := t.upload(ctx, spans)
		switch {
		case err == nil:
			t.exported(jobs)
			return true
		case ctx.Err() != nil:
			return false
		case time.Since(begun) > retryFor:
			t.dropped(jobs)
			t.log.Warn("traces were given up", "jobs", jobs, "error", err)
			return true
		}
		t.warn(err, jobs)
		if !queue.Pause(ctx, pause) {
			return false
		}
	}
}

// last exports once what is left when ctx has ended: jobs, and what is pending.
func (t *Traces) last(ctx context.Context, jobs []queue.JobEnd) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastTimeout)
	defer cancel()
	var err error
	for left := len(t.waiting); len(jobs) > 0 || left > 0; jobs = jobs[:0] {
		for ; left > 0 && len(jobs) < mostJobs; left-- {
			jobs = append(jobs, <-t.waiting)
		}
		if err == nil {
			var spans []*otlp.Span
			jobs, spans = t.spans(ctx, jobs)
			err = errors.Join(ctx.Err(), t.upload(ctx, spans))
		}
		if err == nil {
			t.exported(len(jobs))
		} else {
			t.dropped(len(jobs))
		}
	}
	if err != nil {
		err = fmt.Errorf("the last traces were not exported: %w", err)
	}
	return errors.Join(err, t.client.Stop(ctx))
}

func (t *Traces) upload(ctx context.Context, spans []*otlp.Span) error {
	if len(spans) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, exportTimeout)
	defer cancel()
	return t.client.UploadTraces(ctx, []*otlp.ResourceSpans{{ //nolint:wrapcheck // its callers say what has failed
		Resource: t.resource, SchemaUrl: t.schema, ScopeSpans: []*otlp.ScopeSpans{{Scope: &common.InstrumentationScope{Name: scope}, Spans: spans}},
	}})
}

// warn logs at most once a minute, as a receiver that is away fails every export.
func (t *Traces) warn(err error, jobs int) {
	if time.Since(t.warned) < logPause {
		return
	}
	t.warned = time.Now()
	t.log.Warn("traces could not be exported; they are tried again", "jobs", jobs, "pending", t.Pending(), "error", err)
}
