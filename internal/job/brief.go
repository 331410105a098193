package job

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// Brief is what a list of jobs tells of an event. Its job, tenant and kind are in the event's subject.
type Brief struct {
	Priority    Priority
	Hash        workflow.Hash
	Host        string
	Attempt     int
	RequeueOf   ID
	Reason      string       // of waiting and dead, or Unseen
	Kind        failure.Kind // of failed and dead
	Bytes       int64        // of queued
	Name        string
	Title       string   // of queued
	MaxAttempts int      // of queued
	QueuedFor   Duration // of completed
	RanFor      Duration // of completed
	Counted     bool     // of failed
	Metadata    []byte   // a part of the body
}

// ReadBrief reads these fields from the body of an event, without reflection and without decoding the other fields, since
// every event of a fleet is read by it. Bodies that are unusual in any way are read by encoding/json. False means that the
// body is not that of an event.
func ReadBrief(kind EventKind, body []byte) (Brief, bool) {
	b, plain := plainBrief(body)
	if plain {
		return b, true
	}
	e, err := DecodeEvent(kind, body)
	if err != nil {
		return Brief{}, false
	}
	return Brief{
		Priority: e.Priority, Hash: e.Hash, Host: e.Host, Attempt: e.Attempt, RequeueOf: e.RequeueOf, Reason: e.Reason, Kind: e.Kind,
		Bytes: e.Bytes, Name: e.Name, Title: e.Title, MaxAttempts: e.MaxAttempts, QueuedFor: e.QueuedFor, RanFor: e.RanFor, Metadata: e.Metadata, Counted: e.Counted != nil && *e.Counted,
	}, true
}

// plainBrief gives false for an unusual body: unknown names, escapes in a field that is read, values out of range, or
// anything between the fields that is not JSON.
func plainBrief(body []byte) (Brief, bool) {
	var b Brief
	if len(body) == 0 || body[0] != '{' {
		return Brief{}, false
	}
	walk := members{body: body, pos: 1}
	for walk.next() {
		if !b.take(string(walk.key), walk.value.of(body)) {
			return Brief{}, false
		}
	}
	return b, walk.ended && walk.pos == len(body)
}

// take sets one field, or ignores one that a Brief does not have. It gives false for an unknown one.
func (b *Brief) take(key string, value []byte) bool {
	switch key {
	case `"priority"`:
		n, ok := number(value)
		b.Priority = Priority(n)
		return ok && b.Priority.Valid()
	case `"attempt"`:
		n, ok := number(value)
		b.Attempt = n
		return ok && n <= maxCount
	case `"max_attempts"`:
		n, ok := number(value)
		b.MaxAttempts = n
		return ok && n <= maxAttempts
	case `"hash"`:
		b.Hash = workflow.Hash(plainValue(value))
		return b.Hash.Valid()
	case `"host"`:
		b.Host = plainValue(value)
		return ValidHost(b.Host)
	case `"requeue_of"`:
		b.RequeueOf = ID(plainValue(value))
		return b.RequeueOf.Valid()
	case `"reason"`:
		b.Reason = plainValue(value)
		return b.Reason != ""
	case `"kind"`:
		b.Kind = failure.Kind(plainValue(value))
		return b.Kind != ""
	case `"bytes"`:
		n, ok := number(value)
		b.Bytes = int64(n)
		return ok
	case `"name"`:
		b.Name = textValue(value)
		return b.Name != ""
	case `"title"`:
		b.Title = textValue(value)
		return b.Title != ""
	case `"metadata"`:
		b.Metadata = value
		return true
	case `"counted"`:
		b.Counted = string(value) == "true"
		return b.Counted || string(value) == "false"
	case `"queued_for"`:
		return readDuration(&b.QueuedFor, value)
	case `"ran_for"`:
		return readDuration(&b.RanFor, value)
	case `"job"`, `"tenant"`, `"time"`, `"sequence"`, `"position"`, `"until"`, `"hosts"`, `"prompt_id"`, `"message"`, `"node"`, `"class_type"`,
		`"exception_type"`, `"size"`, `"cause"`, `"progress"`, `"node_ran"`, `"waited"`, `"proven"`, `"not_before"`, `"avoided_hosts"`, `"avoid_until"`,
		`"outputs"`, `"cached_nodes"`, `"outputs_reused"`, `"outputs_missing"`, `"seeds"`, `"node_times"`, `"attempts"`, `"by"`, `"webhook"`, `"traceparent"`:
		return true
	}
	return false
}

// plainValue is a text without escapes, and empty when it is no such text.
func plainValue(value []byte) string {
	n := stringLen(value)
	if n == 0 || !plainText(value[1:n-1]) {
		return ""
	}
	return string(value[1 : n-1])
}

// textValue is a text; it is empty when it is none, or has no form in JSON.
func textValue(value []byte) string {
	if plain := plainValue(value); plain != "" {
		return plain
	}
	var text string
	if json.Unmarshal(value, &text) != nil {
		return ""
	}
	return text
}

func readDuration(d *Duration, value []byte) bool {
	parsed, err := time.ParseDuration(plainValue(value))
	*d = Duration(parsed)
	return err == nil && parsed >= 0
}

// number reads digits as JSON allows them: without a sign, and none but 0 begins with 0.
func number(value []byte) (int, bool) {
	n, err := strconv.Atoi(string(value))
	return n, err == nil && value[0] >= '0' && (value[0] != '0' || len(value) == 1)
}
