package queue

import (
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// headerOf makes a header of alternating names and values. The values share one allocation, since events and offers have some ten.
func headerOf(pairs ...string) nats.Header {
	values := make([]string, len(pairs)/2)
	h := make(nats.Header, len(values)+2)
	for i := range values {
		values[i] = pairs[2*i+1]
		h[pairs[2*i]] = values[i : i+1 : i+1]
	}
	return h
}

// texts makes the strings of one header. They are parts of one text: the three events and the offer of a job have four strings each.
type texts struct{ all strings.Builder }

// textsOf has room for texts of a length; longer ones take another allocation.
func textsOf(length int) *texts {
	t := new(texts)
	t.all.Grow(length)
	return t
}

func (t *texts) join(parts ...string) string {
	from := t.all.Len()
	for _, part := range parts {
		t.all.WriteString(part)
	}
	return t.all.String()[from:]
}

func (t *texts) number(n uint64) string {
	return t.join(string(strconv.AppendUint(make([]byte, 0, 20), n, 10)))
}

func (t *texts) time(at time.Time) string {
	return t.join(string(at.UTC().AppendFormat(make([]byte, 0, len(time.RFC3339Nano)), time.RFC3339Nano)))
}
