package job

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Encode gives the JSON body, the same bytes as encoding/json. Every job has three events, so those of a job that
// simply ran are written without reflection.
func (e *Event) Encode() ([]byte, error) {
	if e.plain() {
		names := len(e.Job) + len(e.Tenant) + len(e.Hash) + len(e.Host) + len(e.RequeueOf) + len(e.PromptID)
		return e.appendPlain(make([]byte, 0, 192+names)), nil
	}
	copied := *e // so that no caller's event is on the heap
	body, err := json.Marshal(&copied)
	if err != nil {
		return nil, fmt.Errorf("encode %s event of job %s: %w", e.EventKind, e.Job, err)
	}
	return body, nil
}

// plain reports whether only fields are set that appendPlain writes.
func (e *Event) plain() bool {
	return len(e.Metadata) == 0 && e.Until == nil && e.NotBefore == nil && e.AvoidUntil == nil && e.Counted == nil && e.Size == 0 && e.Attempt >= 0 && e.Position >= 0 && e.Bytes >= 0 &&
		e.Reason == "" && e.Kind == "" && e.Message == "" && e.Node == "" && e.Class == "" && e.Exception == "" && e.By == "" &&
		e.Cause == "" && e.Progress == 0 && e.NodeRan == 0 && !e.Proven && !e.OutputsMissing &&
		len(e.Hosts)+len(e.AvoidedHosts)+len(e.Outputs)+len(e.CachedNodes)+len(e.Seeds)+len(e.NodeTimes)+len(e.Attempts) == 0 &&
		plainTime(e.Time)
}

func (e *Event) appendPlain(b []byte) []byte {
	b = AppendText(append(b, `{"job":`...), string(e.Job))
	b = AppendText(append(b, `,"tenant":`...), string(e.Tenant))
	b = strconv.AppendInt(append(b, `,"priority":`...), int64(e.Priority), 10)
	b = appendField(b, `,"hash":`, string(e.Hash))
	b = appendField(b, `,"host":`, e.Host)
	b = appendNumber(b, `,"attempt":`, uint64(e.Attempt))
	b = appendPlainTime(append(b, `,"time":`...), e.Time)
	b = appendField(b, `,"requeue_of":`, string(e.RequeueOf))
	b = appendNumber(b, `,"sequence":`, e.Sequence)
	b = appendNumber(b, `,"position":`, uint64(e.Position))
	b = appendNumber(b, `,"bytes":`, uint64(e.Bytes))
	b = appendField(b, `,"prompt_id":`, e.PromptID)
	if e.OutputsReused {
		b = append(b, `,"outputs_reused":true`...)
	}
	b = appendDuration(b, `,"queued_for":`, e.QueuedFor)
	b = appendDuration(b, `,"ran_for":`, e.RanFor)
	return append(b, '}')
}

func appendField(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return AppendText(append(b, name...), value)
}

func appendNumber(b []byte, name string, value uint64) []byte {
	if value == 0 {
		return b
	}
	return strconv.AppendUint(append(b, name...), value, 10)
}

func appendDuration(b []byte, name string, value Duration) []byte {
	if value == 0 {
		return b
	}
	return append(append(append(append(b, name...), '"'), time.Duration(max(value, 0)).String()...), '"')
}

// Encode gives the envelope, the workflow in it byte for byte: it may have numbers that JSON lacks.
func (s *Spec) Encode() ([]byte, error) {
	const stub = `"the workflow"`
	around, graph := *s, s.Workflow
	if len(graph) == 0 {
		graph = json.RawMessage("null")
	}
	around.Workflow = json.RawMessage(stub)
	body, err := json.Marshal(&around)
	if err != nil {
		return nil, fmt.Errorf("encode the envelope of job %s: %w", s.ID, err)
	}
	before, after, _ := bytes.Cut(body, []byte(`"workflow":`+stub)) // an id has no quotes, and nothing else stands before it
	return slices.Concat(before, []byte(`"workflow":`), graph, after), nil
}

// AppendText appends s in JSON, as encoding/json writes it.
func AppendText(b []byte, s string) []byte {
	from := len(b)
	b = append(append(append(b, '"'), s...), '"')
	if plainText(b[from+1 : len(b)-1]) {
		return b
	}
	text, _ := json.Marshal(strings.Clone(s)) // a string has always a form in JSON; cloned, as above
	return append(b[:from], text...)
}

// plainText reports whether encoding/json writes s as it is: it is ASCII without control characters and "\\<>&. Eight
// bytes at a time, the terms have a byte's highest bit set for " and &, for < and >, for \, for what is below a space,
// for DEL, and for what is above.
func plainText(s []byte) bool {
	const each, high = 0x0101010101010101, 0x8080808080808080
	for ; len(s) >= 8; s = s[8:] {
		w := binary.LittleEndian.Uint64(s)
		if ((w|each*4^each*'&'-each)|(w|each*2^each*'>'-each)|(w^each*'\\'-each)|(w-each*' ')|(w+each)|w)&high != 0 {
			return false
		}
	}
	for _, c := range s {
		if c < ' ' || c >= 0x7f || c == '"' || c == '&' || c == '<' || c == '>' || c == '\\' {
			return false
		}
	}
	return true
}

// AppendTime appends t in JSON, as encoding/json writes it; a time that has no form in JSON becomes the zero time.
func AppendTime(b []byte, t time.Time) []byte {
	if !plainTime(t) {
		if text, err := t.MarshalJSON(); err == nil {
			return append(b, text...)
		}
		t = time.Time{}
	}
	return appendPlainTime(b, t)
}

func appendPlainTime(b []byte, t time.Time) []byte {
	return append(t.AppendFormat(append(b, '"'), time.RFC3339Nano), '"')
}

// plainTime reports whether every layout of the time fits into JSON's; encoding/json refuses some of the others.
func plainTime(t time.Time) bool {
	year := t.Year()
	_, offset := t.Zone()
	return year >= 0 && year <= 9999 && offset%60 == 0 && offset > -86400 && offset < 86400
}
