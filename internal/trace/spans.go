package trace

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
)

// recorder makes the spans of one job from its events, which come in their order.
type recorder struct {
	tracer trace.Tracer
	naming naming

	job     trace.Span
	waits   int
	attempt trace.Span // under way; nil: the job waits
	wait    trace.Span // under way, when attempt is nil
}

// record makes the spans of a job: one of the job, and below it one of each wait and each attempt.
func record(ctx context.Context, tracer trace.Tracer, events []job.Event, created time.Time) {
	first, last := &events[0], &events[len(events)-1]
	r := &recorder{tracer: tracer, naming: naming{of: ID(first.Tenant, first.Job, created)}}
	var options []trace.SpanStartOption
	if first.Traceparent != "" {
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{names.TraceparentHeader: first.Traceparent})
		options = append(options, trace.WithLinks(trace.LinkFromContext(ctx)))
	}
	lane := names.LaneSubject(job.Lane{Tenant: first.Tenant, Priority: first.Priority})
	options = append(options, trace.WithSpanKind(trace.SpanKindConsumer), trace.WithTimestamp(first.Time), trace.WithAttributes(attributesOf(first, last, lane)...))
	ctx, r.job = tracer.Start(r.naming.named(ctx, "job"), "process "+lane, options...)
	r.begin(ctx, first.Time)
	for i := range events {
		r.event(ctx, &events[i])
	}
	r.close(last.Time)
	if last.EventKind == job.Dead {
		r.job.SetStatus(codes.Error, last.Message)
		r.job.SetAttributes(attribute.String("error.type", last.Reason))
	}
	r.job.End(trace.WithTimestamp(last.Time))
}

// attributesOf are those of the job's span, all of them at its start, so that a sampler can use them.
func attributesOf(first, last *job.Event, lane string) []attribute.KeyValue {
	all := []attribute.KeyValue{
		attribute.String("messaging.system", "nats"),
		attribute.String("messaging.operation.name", "process"),
		attribute.String("messaging.operation.type", "process"),
		attribute.String("messaging.destination.name", lane),
		attribute.String("messaging.destination.template", "comfy.jobs.{tenant}.{priority}"),
		attribute.String("messaging.consumer.group.name", names.DispatchConsumer(first.Priority)),
		attribute.String("messaging.message.id", strconv.FormatUint(first.Sequence, 10)),
		attribute.String("messaging.message.conversation_id", string(first.Job)),
		attribute.String("comfyherd.tenant", string(first.Tenant)),
		attribute.String("comfyherd.job", string(first.Job)),
		attribute.String("comfyherd.workflow", string(first.Hash)),
		outcomeKey.String(string(last.EventKind)),
	}
	if first.Name != "" {
		all = append(all, attribute.String("comfyherd.name", first.Name))
	}
	if first.Title != "" {
		all = append(all, attribute.String("comfyherd.title", first.Title))
	}
	return all
}

// begin starts a wait, in a context with the job's span.
func (r *recorder) begin(ctx context.Context, at time.Time) {
	r.waits++
	_, r.wait = r.tracer.Start(r.naming.named(ctx, "wait "+strconv.Itoa(r.waits)), "wait", trace.WithTimestamp(at))
}

// close ends what is under way.
func (r *recorder) close(at time.Time) {
	for _, span := range []*trace.Span{&r.attempt, &r.wait} {
		if *span != nil {
			(*span).End(trace.WithTimestamp(at))
			*span = nil
		}
	}
}

func (r *recorder) event(ctx context.Context, e *job.Event) {
	switch e.EventKind {
	case job.Waiting:
		if r.wait != nil {
			r.wait.AddEvent(e.Reason, trace.WithTimestamp(e.Time))
			r.wait.SetAttributes(attribute.String("comfyherd.reason", e.Reason))
		}
	case job.Started:
		r.close(e.Time)
		_, r.attempt = r.tracer.Start(r.naming.named(ctx, fmt.Sprintf("attempt %d", e.Attempt)), "attempt", trace.WithTimestamp(e.Time), trace.WithAttributes(
			attribute.String("comfyherd.host", e.Host), attribute.Int("comfyherd.attempt", e.Attempt), attribute.String("comfyherd.prompt_id", e.PromptID)))
	case job.Failed:
		if r.attempt != nil {
			r.attempt.SetStatus(codes.Error, e.Message)
			r.attempt.SetAttributes(attribute.String("error.type", string(e.Kind)), attribute.String("comfyherd.node", e.Node), attribute.String("comfyherd.class_type", e.Class))
		}
		r.close(e.Time)
		r.begin(ctx, e.Time)
	case job.Completed:
		if r.attempt != nil {
			r.attempt.SetAttributes(attribute.StringSlice("comfyherd.node_times", nodeTimes(e)), attribute.Int("comfyherd.outputs", len(e.Outputs)))
		}
	case job.Queued, job.Retrying, job.Dead, job.Cancelled:
	}
}

// nodeTimes say how long each node ran, the longest first. When each began is not in the events, so nodes have no spans.
func nodeTimes(e *job.Event) []string {
	nodes := make([]string, 0, len(e.NodeTimes))
	for node := range e.NodeTimes {
		nodes = append(nodes, node)
	}
	slices.SortFunc(nodes, func(a, b string) int { return int(e.NodeTimes[b] - e.NodeTimes[a]) })
	for i, node := range nodes {
		nodes[i] = node + " " + time.Duration(e.NodeTimes[node]).String()
	}
	return nodes
}
