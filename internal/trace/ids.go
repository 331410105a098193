package trace

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	otlp "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// sampled decides as OpenTelemetry's samplers parentbased and traceidratio do: as the publisher has decided, and otherwise by the id of the
// trace, of which the last eight bytes count.
func sampled(e queue.JobEnd, created time.Time, ratio float64) bool {
	if p, valid := job.ParseTraceparent(e.Traceparent); valid {
		return p.Sampled
	}
	id := job.DerivedTraceID(e.Tenant, e.Job, created)
	return float64(binary.BigEndian.Uint64(id[8:])>>1) < ratio*(1<<63)
}

// ids makes the ids of the spans of one job, so that the same span has the same id whoever exports it.
type ids struct {
	trace   [16]byte
	derived [16]byte // job.DerivedTraceID
}

func idsOf(first *job.Event, created time.Time) ids {
	derived := job.DerivedTraceID(first.Tenant, first.Job, created)
	if parent, valid := job.ParseTraceparent(first.Traceparent); valid {
		return ids{parent.Trace, derived}
	}
	return ids{derived, derived}
}

func (i ids) of(span string) []byte {
	sum := sha256.Sum256(append(i.derived[:], span...))
	return sum[:8]
}

// span makes a span that begins at a time. Its caller sets the parent.
func (i ids) span(key, name string, begin time.Time) *otlp.Span {
	return &otlp.Span{TraceId: i.trace[:], SpanId: i.of(key), Name: name, Kind: otlp.Span_SPAN_KIND_INTERNAL, StartTimeUnixNano: nanos(begin)}
}

// below is a span below the job's.
func (i ids) below(key, name string, begin time.Time) *otlp.Span {
	s := i.span(key, name, begin)
	s.ParentSpanId = i.of(wholeKey)
	return s
}

// wholeKey is the key of the job's span.
const wholeKey = "job"
