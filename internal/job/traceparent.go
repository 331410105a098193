package job

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// Traceparent is a publisher's span, by W3C Trace Context.
type Traceparent struct {
	Trace   [16]byte
	Span    [8]byte
	Sampled bool // the publisher exports the trace
}

// ParseTraceparent reads a traceparent of version 00: version, trace, span and flags in lower-case hexadecimal, of which trace and span are
// not zero.
func ParseTraceparent(text string) (t Traceparent, valid bool) {
	parts := strings.Split(text, "-")
	if len(parts) != 4 || parts[0] != "00" || strings.ToLower(text) != text {
		return Traceparent{}, false
	}
	var flags [1]byte
	for i, to := range [][]byte{t.Trace[:], t.Span[:], flags[:]} {
		if len(parts[i+1]) != hex.EncodedLen(len(to)) {
			return Traceparent{}, false
		}
		if _, err := hex.Decode(to, []byte(parts[i+1])); err != nil {
			return Traceparent{}, false
		}
	}
	t.Sampled = flags[0]&1 != 0
	return t, t.Trace != [16]byte{} && t.Span != [8]byte{}
}

// TraceID is the id of the trace of a job, in hexadecimal: that of its publisher's traceparent, or, when there is no valid one, the first 16 bytes of
// SHA-256 over its tenant, its id and the time at which COMFY_JOBS was made.
func TraceID(tenant Tenant, id ID, created time.Time, traceparent string) string {
	trace := DerivedTraceID(tenant, id, created)
	if t, valid := ParseTraceparent(traceparent); valid {
		trace = t.Trace
	}
	return hex.EncodeToString(trace[:])
}

// DerivedTraceID is the id of the trace of a job whose publisher gave none.
func DerivedTraceID(tenant Tenant, id ID, created time.Time) [16]byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%d", tenant, id, created.UnixNano()))
	return [16]byte(sum[:16])
}
