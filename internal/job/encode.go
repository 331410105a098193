package job

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Encode gives the JSON body.
func (e *Event) Encode() ([]byte, error) {
	body, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode %s event of job %s: %w", e.EventKind, e.Job, err)
	}
	return body, nil
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
	before, after, _ := bytes.Cut(body, []byte(`"workflow":`+stub)) // an id has no quotes, and nothing else is before it
	return slices.Concat(before, []byte(`"workflow":`), graph, after), nil
}

// AppendText appends s in JSON, as encoding/json writes it.
func AppendText(b []byte, s string) []byte {
	from := len(b)
	b = append(append(append(b, '"'), s...), '"')
	if plainText(b[from+1 : len(b)-1]) {
		return b
	}
	text, _ := json.Marshal(strings.Clone(s)) // a string has always a form in JSON; cloned, so that s is not on the heap
	return append(b[:from], text...)
}

// plainText reports whether encoding/json writes s as it is: it is ASCII without control characters and "\\<>&. Eight
// bytes at a time, the terms have a byte's highest bit set for " and &, for < and >, for \, for what is below a space, and
// for what is above ASCII.
func plainText(s []byte) bool {
	const each, high = 0x0101010101010101, 0x8080808080808080
	for ; len(s) >= 8; s = s[8:] {
		w := binary.LittleEndian.Uint64(s)
		if ((w|each*4^each*'&'-each)|(w|each*2^each*'>'-each)|(w^each*'\\'-each)|(w-each*' ')|w)&high != 0 {
			return false
		}
	}
	for _, c := range s {
		if c < ' ' || c >= 0x80 || c == '"' || c == '&' || c == '<' || c == '>' || c == '\\' {
			return false
		}
	}
	return true
}

// AppendTime appends t in JSON, as encoding/json writes it; a time that has no form in JSON becomes the zero time.
func AppendTime(b []byte, t time.Time) []byte {
	if !hasJSON(t) {
		t = time.Time{}
	}
	return append(t.AppendFormat(append(b, '"'), time.RFC3339Nano), '"')
}

// hasJSON reports whether encoding/json takes the time: RFC 3339 has years of four digits, and zones of less than a day.
func hasJSON(t time.Time) bool {
	year := t.Year()
	_, offset := t.Zone()
	return year >= 0 && year <= 9999 && offset > -86400 && offset < 86400
}
