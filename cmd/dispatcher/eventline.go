package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

// printer writes events, one a line.
type printer struct {
	c       *daemon.Console
	colours bool
	json    bool
}

func (p *printer) print(note *jetstream.Note) error {
	kind := note.Subject[strings.LastIndexByte(note.Subject, '.')+1:]
	if p.json {
		return p.c.JSONText(jsonLine(note, kind))
	}
	l := lineOf(note, kind)
	head := fmt.Sprintf("%s  %-28s", note.Time.Local().Format("15:04:05.000"), daemon.Short(l.who, 28))
	tail := strings.TrimRight(fmt.Sprintf("  %-16s  %s", daemon.Short(l.host, 16), l.why), " ")
	what := kind
	if tail != "" {
		what = fmt.Sprintf("%-9s", what)
	}
	return p.c.PrintPainted(daemon.Plain(head+"  "), daemon.Paint(p.colours, daemon.EventColour(kind), what), daemon.Plain(tail))
}

// jsonLine is the event's body with its subject and kind in front.
func jsonLine(note *jetstream.Note, what string) []byte {
	head, err := json.Marshal(struct {
		Subject string `json:"subject"`
		Event   string `json:"event"`
	}{note.Subject, what})
	if err != nil {
		return nil
	}
	var body bytes.Buffer
	if err := json.Compact(&body, note.Body); err != nil || body.Len() == 0 || body.Bytes()[0] != '{' {
		return append(head, '\n') // another program wrote it, and it is no event
	}
	line := head
	if body.Len() > len("{}") {
		line = append(append(head[:len(head)-1], ','), body.Bytes()[1:]...)
	}
	return append(line, '\n')
}

// line is an event for a person.
type line struct{ who, host, why string }

func lineOf(note *jetstream.Note, what string) line {
	tokens := strings.Split(note.Subject, ".")
	switch {
	case len(tokens) == 6 && tokens[2] == "jobs":
		return jobLine(tokens[3], tokens[4], what, note)
	case len(tokens) == 6 && tokens[2] == "blocks":
		return blockLine(tokens[3], tokens[4], note.Body)
	case len(tokens) == 5 && tokens[2] == "hosts":
		var e queue.HostEvent
		_ = json.Unmarshal(note.Body, &e) // a body of another program may have none of the fields
		return line{who: "host", host: tokens[3], why: daemon.FirstLine(e.Reason)}
	case len(tokens) == 4 && tokens[2] == "operator":
		return auditLine(note.Body)
	}
	return line{who: note.Subject}
}

// auditLine says who has changed what by a call.
func auditLine(body []byte) line {
	var a queue.AuditRecord
	var conditions map[string]any
	if json.Unmarshal(body, &a) != nil || json.Unmarshal(a.Request, &conditions) != nil {
		return line{who: "operator"} // another program has written it, and it is no audit record
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(conditions)) {
		if conditions[name] == true {
			parts = append(parts, daemon.Spaces(name))
			continue
		}
		parts = append(parts, fmt.Sprint(daemon.Spaces(name), " ", conditions[name]))
	}
	why := fmt.Sprintf("%d changed: %s", a.Count, strings.Join(parts, ", "))
	if a.Begins {
		why = "begins: " + strings.Join(parts, ", ")
	}
	if a.Error != "" {
		why += "; ended early: " + daemon.FirstLine(a.Error)
	}
	return line{who: a.By, why: why}
}

func jobLine(tenant, id, what string, note *jetstream.Note) line {
	who := jobRef{tenant: job.Tenant(tenant), id: job.ID(id)}.word()
	e, err := job.DecodeEvent(job.EventKind(what), note.Body)
	if err != nil {
		return line{who: who}
	}
	why := daemon.EventDetails(&e, note.Time)
	if e.EventKind == job.Queued && e.Hash != "" {
		why = strings.TrimPrefix(why+", workflow "+e.Hash.Short(), ", ")
	}
	return line{who: who, host: e.Host, why: why}
}

func blockLine(host, hash string, body []byte) line {
	var e struct {
		Kind    string    `json:"kind"`
		Message string    `json:"message"`
		Until   time.Time `json:"until"`
		Tenants []string  `json:"tenants"`
		Cause   string    `json:"cause"`
	}
	_ = json.Unmarshal(body, &e) // a body of another program may have none of the fields
	l := line{who: "workflow " + workflow.Hash(hash).Short(), host: host, why: daemon.Spaces(e.Cause)}
	if e.Kind != "" {
		l.why = fmt.Sprintf("until %s: %s: %s", e.Until.Local().Format("15:04:05"), daemon.Spaces(e.Kind), daemon.FirstLine(e.Message))
		if len(e.Tenants) > 0 && e.Tenants[0] != "*" {
			l.why += " (for " + strings.Join(e.Tenants, ", ") + ")"
		}
	}
	return l
}
