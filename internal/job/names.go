package job

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
)

// ID names a job within its tenant: [A-Za-z0-9_-]{1,120}. Ids that begin with "j-" are given by the system.
type ID string

// Tenant owns jobs and shares hosts with other tenants: [A-Za-z0-9_-]{1,64}.
type Tenant string

// Priority is one digit: 9 first, 0 last, 5 usual.
type Priority int

// Usual is the priority of a job that asks for none in particular.
const Usual Priority = 5

// Lane is the unit of caps and fair shares.
type Lane struct {
	Tenant   Tenant
	Priority Priority
}

const (
	maxID           = 120
	maxName         = 64
	generatedPrefix = "j-"
)

// Valid reports whether p is one of the ten priorities.
func (p Priority) Valid() bool { return p >= 0 && p <= 9 }

// Valid reports whether t has the form of a tenant name.
func (t Tenant) Valid() bool { return nameLike(string(t), maxName) }

// ValidHost reports whether name has the form of a host name.
func ValidHost(name string) bool { return nameLike(name, maxName) }

// Valid reports whether id has the form of a job id.
func (id ID) Valid() bool { return nameLike(string(id), maxID) }

// Ours reports whether id has the form of ids that only the system gives.
func (id ID) Ours() bool { return strings.HasPrefix(string(id), generatedPrefix) }

// GeneratedID is the id of a job that came without one: j-<creation of the stream in Unix seconds, base 36>-<sequence>.
// A stream that was deleted and made again never repeats an id.
func GeneratedID(streamCreated time.Time, sequence uint64) ID {
	room := [40]byte{}
	b := strconv.AppendInt(append(room[:0], generatedPrefix...), streamCreated.Unix(), 36)
	return ID(strconv.AppendUint(append(b, '-'), sequence, 10))
}

// RequeueID is the id of the n-th requeue of root. The end of a root that is too long for a suffix is replaced by a hash of
// the whole root.
func RequeueID(root ID, n int) ID {
	const room, short = 8, 16 // for the suffix, and for the hash
	if len(root) > maxID-room {
		h := fnv.New64a()
		_, _ = h.Write([]byte(root)) // never fails
		kept := maxID - room - short - 1
		root = ID(fmt.Sprintf("%s-%016x", root[:kept], h.Sum64()))
	}
	return ID(string(root) + "-r" + strconv.Itoa(n))
}

// RootID is an id without its requeue suffix.
func RootID(id ID) ID {
	i := strings.LastIndex(string(id), "-r")
	if i <= 0 || i+2 == len(id) {
		return id
	}
	for _, c := range id[i+2:] {
		if c < '0' || c > '9' {
			return id
		}
	}
	return id[:i]
}

func nameLike(s string, limit int) bool {
	if len(s) == 0 || len(s) > limit {
		return false
	}
	for i := range len(s) {
		if !nameByte(s[i]) {
			return false
		}
	}
	return true
}

func nameByte(c byte) bool {
	return (c|0x20)-'a' < 26 || c-'0' < 10 || c == '_' || c == '-'
}

// Invalid is a message that is no job, and what its publisher can do about it.
type Invalid struct {
	Reason  failure.Reason // invalid_job; not_retryable when only the workflow is at fault
	Message string
}

func (e *Invalid) Error() string { return e.Message }

func invalidf(format string, args ...any) *Invalid {
	return &Invalid{Reason: failure.InvalidJob, Message: fmt.Sprintf(format, args...)}
}

// Duration is a time.Duration that is a Go string ("90s") in JSON.
type Duration time.Duration

// MarshalText gives the Go form, such as "1m30s". A negative one, as two clocks that differ may give, is written as
// "0s", since UnmarshalText refuses it.
func (d Duration) MarshalText() ([]byte, error) {
	return []byte(time.Duration(max(d, 0)).String()), nil
}

// UnmarshalText takes the Go form and refuses negative durations.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is no duration: write it like \"90s\", \"5m\" or \"1h30m\"", text)
	}
	if parsed < 0 {
		return fmt.Errorf("duration %q is negative", text)
	}
	*d = Duration(parsed)
	return nil
}
