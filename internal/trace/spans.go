package trace

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// recorder makes the spans of one job from its events, which come in their order.
type recorder struct {
	ids ids

	spans   []*otlp.Span // that have ended
	waits   int
	attempt *otlp.Span // under way; nil: the job waits
	wait    *otlp.Span // under way, when attempt is nil
}

// spansOf are the spans of a job: one of each wait and each attempt, in the order in which they ended, and last one of the job, above all
// others.
func spansOf(chain []queue.Link, created time.Time) []*otlp.Span {
	first, last := &chain[0].Event, &chain[len(chain)-1].Event
	r := &recorder{ids: idsOf(first, created)}
	lane := names.LaneSubject(job.Lane{Tenant: first.Tenant, Priority: first.Priority})
	whole := r.ids.span(wholeKey, "process "+lane, first.Time)
	whole.Kind, whole.Attributes = otlp.Span_SPAN_KIND_CONSUMER, attributesOf(first, last, lane)
	if parent, valid := job.ParseTraceparent(first.Traceparent); valid {
		whole.ParentSpanId = parent.Span[:]
		whole.Links = []*otlp.Span_Link{{TraceId: parent.Trace[:], SpanId: parent.Span[:]}}
	}
	r.begin(first.Time)
	for i := range chain {
		r.event(&chain[i].Event)
	}
	r.close(last.Time)
	if last.EventKind == job.Dead {
		failed(whole, last.Message, last.Reason)
	}
	return append(r.spans, ended(whole, last.Time))
}

// attributesOf are those of the job's span.
func attributesOf(first, last *job.Event, lane string) []*common.KeyValue {
	all := []*common.KeyValue{
		text("messaging.system", "nats"),
		text("messaging.operation.name", "process"),
		text("messaging.operation.type", "process"),
		text("messaging.destination.name", lane),
		text("messaging.destination.template", "comfy.jobs.{tenant}.{priority}"),
		text("messaging.consumer.group.name", names.DispatchConsumer(first.Priority)),
		text("messaging.message.id", strconv.FormatUint(first.Sequence, 10)),
		text("messaging.message.conversation_id", string(first.Job)),
		text("comfyherd.tenant", string(first.Tenant)),
		text("comfyherd.job", string(first.Job)),
		text("comfyherd.workflow", string(first.Hash)),
		text("comfyherd.outcome", string(last.EventKind)),
	}
	if first.Name != "" {
		all = append(all, text("comfyherd.name", first.Name))
	}
	if first.Title != "" {
		all = append(all, text("comfyherd.title", first.Title))
	}
	return all
}

// begin starts a wait.
func (r *recorder) begin(at time.Time) {
	r.waits++
	r.wait = r.ids.below("wait "+strconv.Itoa(r.waits), "wait", at)
}

// close ends what is under way.
func (r *recorder) close(at time.Time) {
	for _, span := range []**otlp.Span{&r.attempt, &r.wait} {
		if *span != nil {
			r.spans = append(r.spans, ended(*span, at))
			*span = nil
		}
	}
}

func (r *recorder) event(e *job.Event) {
	switch e.EventKind {
	case job.Waiting:
		if r.wait != nil {
			r.wait.Events = append(r.wait.Events, &otlp.Span_Event{Name: e.Reason, TimeUnixNano: nanos(e.Time)})
			r.wait.Attributes = []*common.KeyValue{text("comfyherd.reason", e.Reason)}
		}
	case job.Started:
		r.close(e.Time)
		r.attempt = r.ids.below(fmt.Sprintf("attempt %d", e.Attempt), "attempt", e.Time)
		r.attempt.Attributes = []*common.KeyValue{
			text("comfyherd.host", e.Host), number("comfyherd.attempt", e.Attempt), text("comfyherd.prompt_id", e.PromptID),
		}
	case job.Failed:
		if r.attempt != nil {
			failed(r.attempt, e.Message, string(e.Kind))
			r.attempt.Attributes = append(r.attempt.Attributes, text("comfyherd.node", e.Node), text("comfyherd.class_type", e.Class))
		}
		r.close(e.Time)
		r.begin(e.Time)
	case job.Completed:
		if r.attempt != nil {
			r.attempt.Attributes = append(r.attempt.Attributes, texts("comfyherd.node_times", nodeTimes(e)), number("comfyherd.outputs", len(e.Outputs)))
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

func ended(s *otlp.Span, at time.Time) *otlp.Span {
	s.EndTimeUnixNano = max(nanos(at), s.GetStartTimeUnixNano()) // clocks of two machines may differ
	return s
}

func failed(s *otlp.Span, message, kind string) {
	s.Status = &otlp.Status{Code: otlp.Status_STATUS_CODE_ERROR, Message: message}
	s.Attributes = append(s.Attributes, text("error.type", kind))
}

func nanos(t time.Time) uint64 { return uint64(t.UnixNano()) }

func text(key, value string) *common.KeyValue {
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: value}}}
}

func number(key string, value int) *common.KeyValue {
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: int64(value)}}}
}

func texts(key string, values []string) *common.KeyValue {
	list := &common.ArrayValue{}
	for _, value := range values {
		list.Values = append(list.Values, &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: value}})
	}
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_ArrayValue{ArrayValue: list}}}
}
