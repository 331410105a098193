package job

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"time"
)

// TraceID is the id of the trace of a job: that of its publisher's traceparent, or, when that is empty, the first 16 bytes of SHA-256 over
// its tenant, its id and the time at which COMFY_JOBS was made.
func TraceID(tenant Tenant, id ID, created time.Time, traceparent string) string {
	if parts := strings.Split(traceparent, "-"); validTraceparent(traceparent) {
		return parts[1]
	}
	return fmt.Sprintf("%x", DerivedTraceID(tenant, id, created))
}

// DerivedTraceID is the id of the trace of a job whose publisher gave none.
func DerivedTraceID(tenant Tenant, id ID, created time.Time) [16]byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%d", tenant, id, created.UnixNano()))
	return [16]byte(sum[:16])
}

// validTraceparent reports whether text is a traceparent of W3C Trace Context, version 00: version, trace, span and flags in lower-case
// hexadecimal, of which trace and span are not zero.
func validTraceparent(text string) bool {
	parts := strings.Split(text, "-")
	if len(parts) != 4 || parts[0] != "00" || len(parts[1]) != 32 || len(parts[2]) != 16 || len(parts[3]) != 2 {
		return false
	}
	for _, part := range parts {
		if strings.Trim(part, "0123456789abcdef") != "" {
			return false
		}
	}
	return strings.Trim(parts[1], "0") != "" && strings.Trim(parts[2], "0") != ""
}
