package job

import (
	"bytes"
	"strconv"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// Brief is what a list of jobs tells of an event. Its job, tenant and kind stand in the event's subject.
type Brief struct {
	Priority  Priority
	Hash      workflow.Hash
	Host      string
	Attempt   int
	RequeueOf ID
	Reason    string       // of waiting and dead, or Unseen
	Kind      failure.Kind // of failed and dead
	Bytes     int64        // of queued
}

// ReadBrief reads those fields out of an event's body, without reflection and without a look into the others: every
// event of a fleet is read by it. Wherever encoding/json would do something else than look for the next comma, it is
// asked. False means that the body says nothing that can be.
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
		Bytes: e.Bytes,
	}, true
}

// plainBrief gives false for whatever is unusual: names that no event of ours has, escapes in a field that is read, values
// out of range, junk between the fields.
func plainBrief(body []byte) (Brief, bool) {
	var b Brief
	rest, opened := bytes.CutPrefix(body, []byte{'{'})
	if !opened {
		return b, false
	}
	for n := 0; ; n++ {
		if n > 0 {
			if len(rest) == 1 && rest[0] == '}' {
				return b, true
			}
			if len(rest) == 0 || rest[0] != ',' {
				return b, false
			}
			rest = rest[1:]
		}
		name, after, named := cutText(rest)
		if !named || len(after) == 0 || after[0] != ':' {
			return b, false
		}
		value, left, whole := cutValue(after[1:])
		if !whole || !b.take(string(name), value) {
			return b, false
		}
		rest = left
	}
}

// take sets a field that is read, and leaves out those that events have besides.
func (b *Brief) take(name string, value []byte) bool {
	switch name {
	case "priority":
		n, ok := smallNumber(value)
		b.Priority = Priority(n)
		return ok && b.Priority.Valid()
	case "attempt":
		n, ok := smallNumber(value)
		b.Attempt = n
		return ok && n <= maxCount
	case "hash":
		b.Hash = workflow.Hash(plainValue(value))
		return b.Hash.Valid()
	case "host":
		b.Host = plainValue(value)
		return ValidHost(b.Host)
	case "requeue_of":
		b.RequeueOf = ID(plainValue(value))
		return b.RequeueOf.Valid()
	case "reason":
		b.Reason = plainValue(value)
		return b.Reason != ""
	case "kind":
		b.Kind = failure.Kind(plainValue(value))
		return b.Kind != ""
	case "bytes":
		n, ok := smallNumber(value)
		b.Bytes = int64(n)
		return ok
	case "job", "tenant", "time", "metadata", "sequence", "position", "until", "hosts", "prompt_id", "message", "node", "class_type",
		"exception_type", "counted", "size", "cause", "progress", "node_ran", "proven", "not_before", "avoided_hosts", "avoid_until",
		"outputs", "cached_nodes", "outputs_reused", "outputs_missing", "seeds", "queued_for", "ran_for", "node_times", "attempts", "by":
		return true
	}
	return false
}

// plainValue is a text without escapes, and empty when it is no such text.
func plainValue(value []byte) string {
	text, rest, ok := cutText(value)
	if !ok || len(rest) > 0 || !plainText(text) {
		return ""
	}
	return string(text)
}

func smallNumber(value []byte) (int, bool) {
	if len(value) == 0 || len(value) > 9 || value[0] < '0' || value[0] > '9' || value[0] == '0' && len(value) > 1 {
		return 0, false
	}
	n, err := strconv.Atoi(string(value))
	return n, err == nil
}

// cutText takes a text off the front, escapes and all.
func cutText(b []byte) (text, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != '"' {
		return nil, nil, false
	}
	for at := 1; ; {
		n := bytes.IndexByte(b[at:], '"')
		if n < 0 {
			return nil, nil, false
		}
		at += n + 1
		slashes := at - 2
		for b[slashes] == '\\' {
			slashes--
		}
		if (at-2-slashes)%2 == 0 {
			return b[1 : at-1], b[at:], true
		}
	}
}

// cutValue takes a value off the front: a text, what stands between brackets that match, or all up to the next comma or
// bracket.
func cutValue(b []byte) (value, rest []byte, ok bool) {
	depth := 0
	for at := 0; at < len(b); {
		switch b[at] {
		case '"':
			_, after, whole := cutText(b[at:])
			if !whole {
				return nil, nil, false
			}
			at = len(b) - len(after)
		case '{', '[':
			depth++
			at++
		case '}', ']':
			if depth == 0 {
				return b[:at], b[at:], at > 0
			}
			depth--
			at++
		case ',':
			if depth == 0 {
				return b[:at], b[at:], at > 0
			}
			at++
		default:
			at++
		}
	}
	return nil, nil, false
}
