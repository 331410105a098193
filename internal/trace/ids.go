package trace

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/comfyherd/comfyherd/internal/job"
)

// ID is the id of the trace of a job whose publisher gave none: the first 16 bytes of SHA-256 over its tenant, its id and the time at which
// COMFY_JOBS was made.
func ID(tenant job.Tenant, id job.ID, created time.Time) trace.TraceID {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%d", tenant, id, created.UnixNano()))
	return trace.TraceID(sum[:16])
}

// naming is from what the ids of a job's spans are made.
type naming struct {
	of   trace.TraceID // ID of the job
	span string
}

type namingKey struct{}

// named is a context in which the next span has the id of this name.
func (n naming) named(ctx context.Context, span string) context.Context {
	n.span = span
	return context.WithValue(ctx, namingKey{}, n)
}

// derived makes ids of the naming in the context, so that the same span has the same id whoever exports it.
type derived struct{}

// NewIDs gives the ids of a span without a parent.
func (d derived) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	n, _ := ctx.Value(namingKey{}).(naming)
	return n.of, d.NewSpanID(ctx, n.of)
}

// NewSpanID gives the id of a span within a trace.
func (derived) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	n, _ := ctx.Value(namingKey{}).(naming)
	sum := sha256.Sum256(append(n.of[:], n.span...))
	return trace.SpanID(sum[:8])
}
