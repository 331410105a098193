package job

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/comfyherd/comfyherd/internal/failure"
)

const (
	leanOutputs = 4   // of a completed job
	leanMessage = 300 // bytes
)

// Lean leaves out what a list of events has no room for: metadata, what each host, node and attempt did, texts that the job made, and all
// but the first of its files. A long message is cut.
func (e *Event) Lean() {
	e.Metadata, e.Hosts, e.CachedNodes, e.Attempts, e.NodeTimes, e.Seeds = nil, nil, nil, nil, nil, nil
	e.Outputs = e.Outputs[:min(len(e.Outputs), leanOutputs)]
	for i := range e.Outputs {
		e.Outputs[i].Text = ""
	}
	if len(e.Message) > leanMessage {
		e.Message = strings.ToValidUTF8(e.Message[:leanMessage], "") + "…"
	}
}

// AppendLean appends the JSON of an event that is stored for a job, without what Lean leaves out. Fields of a usual body are copied as
// they are, without reflection; unusual bodies are decoded. False means that the body does not name the job: nothing is appended then.
func AppendLean(b []byte, tenant Tenant, id ID, kind EventKind, body []byte) (_ []byte, named bool) {
	if lean, plain := appendPlainLean(b, tenant, id, body); plain {
		return lean, true
	}
	e, named, _ := DecodeStored(tenant, id, kind, body) // with an impossible value it has its tenant and job alone
	if !named {
		return b, false
	}
	e.Lean()
	text, err := e.Encode()
	return append(b, text...), err == nil
}

// appendPlainLean gives false for an unusual body: unknown names, values of another type or out of range, or what would have to be changed.
func appendPlainLean(b []byte, tenant Tenant, id ID, body []byte) ([]byte, bool) {
	if len(body) == 0 || body[0] != '{' || !utf8.Valid(body) || !json.Valid(body) {
		return b, false
	}
	lean, first := append(b, '{'), len(b)+1
	var checked Brief
	ofTenant, ofJob, hasPriority := false, false, false
	for walk := (members{body: body, pos: 1}); walk.next(); {
		name, value := string(walk.key), walk.value.of(body)
		keep, plain := leanMember(name, value)
		if !plain || !checked.take(name, value) {
			return b, false
		}
		switch name {
		case `"tenant"`:
			ofTenant = plainValue(value) == string(tenant)
		case `"job"`:
			ofJob = plainValue(value) == string(id)
		case `"priority"`:
			hasPriority = true
		}
		if !keep {
			continue
		}
		if len(lean) > first {
			lean = append(lean, ',')
		}
		lean = append(append(append(lean, name...), ':'), value...)
	}
	if !ofTenant || !ofJob || !hasPriority {
		return b, false
	}
	return append(lean, '}'), true
}

// leanMember reports whether a member of an event is kept, and whether it has the type that it must have; of the fields of a Brief, their
// take reports that.
func leanMember(name string, value []byte) (keep, plain bool) {
	switch name {
	case `"metadata"`, `"hosts"`, `"cached_nodes"`, `"attempts"`, `"node_times"`, `"seeds"`:
		return false, true
	case `"tenant"`, `"job"`, `"prompt_id"`, `"node"`, `"class_type"`, `"exception_type"`, `"cause"`, `"by"`, `"webhook"`, `"traceparent"`:
		return true, value[0] == '"'
	case `"message"`:
		return true, value[0] == '"' && len(value) <= leanMessage
	case `"kind"`:
		return true, failure.Kind(plainValue(value)).Valid()
	case `"time"`, `"until"`, `"not_before"`, `"avoid_until"`:
		return true, plainTime(value)
	case `"sequence"`, `"position"`, `"size"`, `"progress"`:
		return true, value[0] >= '0' && value[0] <= '9'
	case `"waited"`, `"proven"`, `"outputs_reused"`, `"outputs_missing"`:
		return true, value[0] == 't' || value[0] == 'f'
	case `"node_ran"`:
		var d Duration
		return true, readDuration(&d, value)
	case `"avoided_hosts"`:
		return true, value[0] == '[' && !bytes.ContainsAny(value, "\r\n")
	case `"outputs"`:
		return true, plainOutputs(value)
	}
	return true, true
}

// plainTime reports whether a value is a time between 1970 and 2300.
func plainTime(value []byte) bool {
	t, err := time.Parse(time.RFC3339, plainValue(value))
	return err == nil && t.Year() >= 1970 && t.Year() < 2300
}

// plainOutputs reports whether outputs can be shown as they are: a list of a few objects without texts, in one line.
func plainOutputs(value []byte) bool {
	if value[0] != '[' || bytes.ContainsAny(value, "\r\n\\") || namesText(value) { // a name may be written with escapes
		return false
	}
	rest := bytes.TrimLeft(value[1:], space)
	for n := 0; rest[0] != ']'; n++ {
		if rest[0] != '{' || n == leanOutputs {
			return false
		}
		rest = bytes.TrimLeft(rest[valueLen(rest):], space+",")
	}
	return true
}

// namesText reports whether a member may be named text, in whatever case, since the library reads it in any.
func namesText(value []byte) bool {
	const name = `"text"`
	for rest := value; ; rest = rest[1:] {
		at := bytes.IndexByte(rest, name[0])
		if at < 0 || len(rest) < at+len(name) {
			return false
		}
		if rest = rest[at:]; bytes.EqualFold(rest[:len(name)], []byte(name)) {
			return true
		}
	}
}
