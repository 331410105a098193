package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

// watchCmd shows stored events as they come.
type watchCmd struct {
	client
	Tenant string        `placeholder:"NAME" help:"Only events of this tenant's jobs (all)."`
	Since  time.Duration `placeholder:"DURATION" help:"Begin with the events of this time back (now)."`
	All    bool          `help:"Begin with the oldest event that is kept."`
	Blocks bool          `help:"Only events of blocks and hosts."`
	JSON   bool          `help:"One JSON object a line: subject, event, and the event's own fields."`
}

// Help is shown after the flags.
func (*watchCmd) Help() string {
	return `A line has the time, the job (or the workflow's hash), what happened, on which host, and why.

Examples:
  dispatcher watch
  dispatcher watch --tenant acme --since 10m
  dispatcher watch --blocks
  dispatcher watch --json | jq -r 'select(.event == "dead") | .job'`
}

// Run shows events until it is stopped.
func (w *watchCmd) Run(ctx context.Context, c *console) error {
	if w.Tenant != "" && (w.Blocks || !job.Tenant(w.Tenant).Valid()) {
		return fmt.Errorf("--tenant %q: give the name of one tenant, and no --blocks, which belong to hosts", w.Tenant)
	}
	q, done, err := w.open(ctx, c)
	if err != nil {
		return err
	}
	defer done()
	stop, _, release := daemon.Signals(ctx)
	defer release()
	p := printer{c: c, colours: colourful(c.out), json: w.JSON}
	return stopped(stop, w.show(stop, c, q, &p))
}

// show goes on after a lost connection with the event behind the last one.
func (w *watchCmd) show(ctx context.Context, c *console, q *jetstream.Queue, p *printer) error {
	since := q.Now().Add(-w.Since)
	if w.All {
		since = time.Time{}
	}
	for last := uint64(0); ctx.Err() == nil; {
		for note, err := range q.Notes(ctx, w.subject(), since) {
			if ctx.Err() != nil {
				break
			}
			if err != nil {
				c.say("dispatcher: %v; looking again", err)
				break
			}
			if note.Sequence <= last || !w.wanted(note.Subject) {
				continue
			}
			last, since = note.Sequence, note.Time
			if err := p.print(&note); err != nil {
				return err
			}
		}
		pause(ctx, time.Second)
	}
	return nil
}

// subject is what a tenant may see with permissions for its own jobs alone.
func (w *watchCmd) subject() string {
	if w.Tenant == "" {
		return ""
	}
	return "comfy.events.jobs." + w.Tenant + ".>"
}

func (w *watchCmd) wanted(subject string) bool {
	return !w.Blocks || strings.HasPrefix(subject, "comfy.events.blocks.") || strings.HasPrefix(subject, "comfy.events.hosts.")
}

// printer writes events, one a line.
type printer struct {
	c       *console
	colours bool
	json    bool
}

func (p *printer) print(note *jetstream.Note) error {
	what := note.Subject[strings.LastIndexByte(note.Subject, '.')+1:]
	if p.json {
		_, err := p.c.out.Write(jsonLine(note, what))
		return err
	}
	l := lineOf(note, what)
	text := fmt.Sprintf("%s  %-28s  %s  %-16s  %s", note.Time.Local().Format("15:04:05.000"), short(l.who, 28),
		paint(p.colours, hue(what), fmt.Sprintf("%-9s", what)), short(l.host, 16), l.why)
	_, err := fmt.Fprintln(p.c.out, strings.TrimRight(text, " "))
	return err
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
		return append(head, '\n') // somebody else wrote what is no event of ours
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
		var e jetstream.HostEvent
		_ = json.Unmarshal(note.Body, &e) // a foreign body has nothing to add
		return line{who: "host", host: clean(tokens[3]), why: clean(firstLine(e.Reason))}
	case len(tokens) == 4 && tokens[2] == "operator":
		return actLine(note.Body)
	}
	return line{who: clean(note.Subject)}
}

// actLine says who has changed something by a call, and what.
func actLine(body []byte) line {
	var a jetstream.Act
	var conditions map[string]any
	if json.Unmarshal(body, &a) != nil || json.Unmarshal(a.Request, &conditions) != nil {
		return line{who: "operator"} // a foreign body has nothing to add
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(conditions)) {
		if conditions[name] == true {
			parts = append(parts, spaces(name))
			continue
		}
		parts = append(parts, fmt.Sprint(spaces(name), " ", conditions[name]))
	}
	why := fmt.Sprintf("%d changed: %s", a.Count, strings.Join(parts, ", "))
	if a.Error != "" {
		why += "; ended early: " + firstLine(a.Error)
	}
	return line{who: clean(a.By), why: clean(why)}
}

func jobLine(tenant, id, what string, note *jetstream.Note) line {
	who := jobRef{tenant: job.Tenant(tenant), id: job.ID(id)}.word()
	e, err := job.DecodeEvent(job.EventKind(what), note.Body)
	if err != nil {
		return line{who: clean(who)}
	}
	why := story(&e, note.Time)
	if e.EventKind == job.Queued && e.Hash != "" {
		why = strings.TrimPrefix(why+", workflow "+e.Hash.Short(), ", ")
	}
	return line{who: clean(who), host: clean(e.Host), why: why}
}

func blockLine(host, hash string, body []byte) line {
	var e struct {
		Kind    string    `json:"kind"`
		Message string    `json:"message"`
		Until   time.Time `json:"until"`
		Tenants []string  `json:"tenants"`
		Cause   string    `json:"cause"`
	}
	_ = json.Unmarshal(body, &e) // a foreign body has nothing to add
	l := line{who: "workflow " + workflow.Hash(clean(hash)).Short(), host: clean(host), why: spaces(e.Cause)}
	if e.Kind != "" {
		l.why = fmt.Sprintf("until %s: %s: %s", e.Until.Local().Format("15:04:05"), spaces(e.Kind), firstLine(e.Message))
		if len(e.Tenants) > 0 && e.Tenants[0] != "*" {
			l.why += " (for " + strings.Join(e.Tenants, ", ") + ")"
		}
	}
	l.why = clean(l.why)
	return l
}

// spaces makes a word of the contract, as out_of_memory, one for people.
func spaces(word string) string { return strings.ReplaceAll(word, "_", " ") }
