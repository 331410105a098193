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
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

// watchCmd shows stored events as they come.
type watchCmd struct {
	client
	Tenant string        `placeholder:"NAME" unset:"the tenant of the credentials, else all" help:"Only events of this tenant's jobs."`
	Since  time.Duration `placeholder:"DURATION" unset:"now" range:"0s.." help:"Begin with the events of this long ago."`
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
func (w *watchCmd) Run(ctx context.Context, c *daemon.Console) error {
	tenant := job.Tenant("")
	if w.Tenant != "" || w.OwnTenant() != "" {
		var err error
		if tenant, err = w.named(w.Tenant); err != nil {
			return err
		}
	}
	if tenant != "" && w.Blocks {
		return fmt.Errorf("--blocks is about hosts, which no tenant has; leave it out, or tenant %s", tenant)
	}
	a, err := w.connect(ctx, c)
	if err != nil {
		return err
	}
	defer a.close()
	stop, _, release := daemon.Signals(ctx)
	defer release()
	p := printer{c: c, colours: daemon.Colourful(c.Out), json: w.JSON}
	if tenant == "" {
		err = w.everything(stop, c, a, &p)
	} else {
		err = w.jobsOf(stop, c, a, tenant, &p)
	}
	return stopped(stop, err)
}

// jobsOf shows events of a tenant's jobs: those that are stored by the dispatchers, who know where a moment is in the
// stream, then live ones.
func (w *watchCmd) jobsOf(ctx context.Context, c *daemon.Console, a *asker, tenant job.Tenant, p *printer) error {
	client := a.of(tenant)
	chains := "comfy.events.jobs." + string(tenant) + ".>"
	if w.NoConsumers() { // a watcher may read, and not ask
		if _, err := a.queue(ctx); err != nil {
			return err
		}
		return w.show(ctx, c, a, chains, p)
	}
	after, err := w.from(ctx, client)
	if err != nil {
		if _, err := a.instead(ctx, err); err != nil {
			return err
		}
		return w.show(ctx, c, a, chains, p)
	}
	for note, err := range client.Follow(ctx, after) {
		if err != nil {
			return err
		}
		if err := p.print(&note); err != nil {
			return err
		}
	}
	return nil
}

// from is the sequence behind which the events that are asked for begin.
func (w *watchCmd) from(ctx context.Context, client *jetstream.Client) (uint64, error) {
	if w.All {
		_, err := client.Queue(ctx) // whether anybody is there
		return 0, err
	}
	newest, err := client.Jobs(ctx, jetstream.JobsRequest{Limit: 1})
	if err != nil || len(newest.Jobs) == 0 {
		return 0, err
	}
	low, high := uint64(0), newest.Jobs[0].Last.Sequence
	for since := client.Now().Add(-w.Since); w.Since > 0 && low < high; {
		middle := low + (high-low)/2
		page, err := client.Events(ctx, jetstream.EventsRequest{After: middle, Limit: 1})
		if err != nil {
			return 0, err
		}
		if len(page.Events) > 0 && page.Events[0].Time.Before(since) {
			low = page.Events[0].Sequence
		} else {
			high = middle
		}
	}
	return high, nil
}

// everything shows events of all jobs, blocks and hosts.
func (w *watchCmd) everything(ctx context.Context, c *daemon.Console, a *asker, p *printer) error {
	if _, err := a.queue(ctx); err != nil {
		return err
	}
	return w.show(ctx, c, a, "", p)
}

// show reads the stream, and goes on after a lost connection with the event behind the last one.
func (w *watchCmd) show(ctx context.Context, c *daemon.Console, a *asker, subject string, p *printer) error {
	since := a.q.Now().Add(-w.Since)
	if w.All {
		since = time.Time{}
	}
	for last := uint64(0); ctx.Err() == nil; {
		for note, err := range a.q.Notes(ctx, subject, since) {
			if ctx.Err() != nil {
				break
			}
			if err != nil {
				c.Say("dispatcher: %v; looking again", err)
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

func (w *watchCmd) wanted(subject string) bool {
	return !w.Blocks || strings.HasPrefix(subject, "comfy.events.blocks.") || strings.HasPrefix(subject, "comfy.events.hosts.")
}

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
		var e queue.HostEvent
		_ = json.Unmarshal(note.Body, &e) // a foreign body has nothing to add
		return line{who: "host", host: tokens[3], why: daemon.FirstLine(e.Reason)}
	case len(tokens) == 4 && tokens[2] == "operator":
		return actLine(note.Body)
	}
	return line{who: note.Subject}
}

// actLine says who has changed something by a call, and what.
func actLine(body []byte) line {
	var a queue.Act
	var conditions map[string]any
	if json.Unmarshal(body, &a) != nil || json.Unmarshal(a.Request, &conditions) != nil {
		return line{who: "operator"} // a foreign body has nothing to add
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
	_ = json.Unmarshal(body, &e) // a foreign body has nothing to add
	l := line{who: "workflow " + workflow.Hash(hash).Short(), host: host, why: daemon.Spaces(e.Cause)}
	if e.Kind != "" {
		l.why = fmt.Sprintf("until %s: %s: %s", e.Until.Local().Format("15:04:05"), daemon.Spaces(e.Kind), daemon.FirstLine(e.Message))
		if len(e.Tenants) > 0 && e.Tenants[0] != "*" {
			l.why += " (for " + strings.Join(e.Tenants, ", ") + ")"
		}
	}
	return l
}
