package trace

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"time"

	otlp "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// ID is the id of the trace of a job whose publisher gave none: the first 16 bytes of SHA-256 over its tenant, its id and the time at which
// COMFY_JOBS was made (job.TraceID).
func ID(tenant job.Tenant, id job.ID, created time.Time) [16]byte {
	return job.DerivedTraceID(tenant, id, created)
}

// parent is the publisher's span, of its header traceparent.
type parent struct {
	valid   bool
	trace   [16]byte
	span    [8]byte
	sampled bool
}

// parentOf reads a traceparent that the job's parsing has checked: 00-TRACE-SPAN-FLAGS in lower-case hexadecimal digits.
func parentOf(header string) (p parent) {
	parts := strings.Split(header, "-")
	if len(parts) != 4 {
		return parent{}
	}
	var flags [1]byte
	for i, to := range [][]byte{p.trace[:], p.span[:], flags[:]} {
		if n, err := hex.Decode(to, []byte(parts[i+1])); err != nil || n != len(to) {
			return parent{}
		}
	}
	p.valid, p.sampled = true, flags[0]&1 != 0
	return p
}

// sampled decides as OpenTelemetry's samplers parentbased and traceidratio do: as the publisher has decided, and otherwise by the id of the
// trace, of which the last eight bytes count.
func sampled(e queue.JobEnd, created time.Time, ratio float64) bool {
	if p := parentOf(e.Traceparent); p.valid {
		return p.sampled
	}
	id := ID(e.Tenant, e.Job, created)
	return float64(binary.BigEndian.Uint64(id[8:])>>1) < ratio*(1<<63)
}

// ids makes the ids of the spans of one job, so that the same span has the same id whoever exports it.
type ids struct {
	trace   [16]byte
	derived [16]byte // ID of the job
}

func idsOf(first *job.Event, created time.Time) ids {
	all := ids{derived: ID(first.Tenant, first.Job, created)}
	all.trace = all.derived
	if p := parentOf(first.Traceparent); p.valid {
		all.trace = p.trace
	}
	return all
}

func (i ids) of(span string) []byte {
	sum := sha256.Sum256(append(i.derived[:], span...))
	return sum[:8]
}

// span is one that begins at a time, below the job's.
func (i ids) span(key, name string, begin time.Time) *otlp.Span {
	return &otlp.Span{
		TraceId: i.trace[:], SpanId: i.of(key), ParentSpanId: i.of("job"), Name: name, Kind: otlp.Span_SPAN_KIND_INTERNAL, StartTimeUnixNano: nanos(begin),
	}
}
