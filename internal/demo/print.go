package demo

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/route"
)

// printer writes the demo to people: one line per event.
type printer struct {
	c       *daemon.Console
	colours bool
	width   int // 0 cuts no line
	host    int // width of the column of hosts
}

// narrow reports whether the terminal has less room than the columns need.
func (t *printer) narrow() bool { return t.width > 0 && t.width < enoughWidth }

const (
	enoughWidth = 80

	textWidth = 100 // of running text
)

func (t *printer) say(format string, args ...any) { t.c.Print(format, args...) }

func (t *printer) paint(parts ...daemon.Painted) {
	_ = t.c.PrintPainted(parts...) // as with print, a reader may have gone
}

// headline names a scenario and says what to look for.
func (t *printer) headline(number, title, look string) {
	if number != "" {
		title = number + "  " + title
	}
	t.say("")
	t.paint(daemon.Paint(t.colours, daemon.Bold, title))
	t.text("   ", look)
	t.say("")
}

// text writes sentences in lines that fit.
func (t *printer) text(margin, sentences string) {
	for _, line := range daemon.Wrap(sentences, cmp.Or(min(t.width, textWidth), textWidth)-len(margin)-1) {
		t.say("%s%s", margin, line)
	}
}

// printHead prints what the demo consists of.
func (d *demo) printHead() {
	for _, h := range d.stage.hosts() {
		d.out.host = max(d.out.host, len(h.Name))
	}
	t := &d.out
	t.paint(daemon.Paint(t.colours, daemon.Bold, "comfyherd demo"))
	t.text("", fmt.Sprintf("Jobs of three tenants, %s, two dispatchers, NATS in a temporary folder.", d.stage.about()))
	t.text("", fmt.Sprintf("Workflows are told apart by their hashes, as %s %s and %s %s. A failure is held against a host and a hash together, and against nothing else.",
		portrait, d.hashes[portrait].Short(), poster, d.hashes[poster].Short()))
	t.say("")
	for _, h := range d.stage.hosts() {
		t.say("   %-*s  %s", t.host, h.Name, h.URL)
	}
	if d.address != "" {
		t.say("")
		t.say("   The same on a page: %s", d.address)
	}
	t.say("")
}

// event prints an observation in columns: time, tenant, job, workflow, host, what happened, and why.
func (t *printer) event(d *demo, s *observation) {
	var tenant, id, host, why string
	switch {
	case s.job != nil:
		tenant, id, host, why = string(s.job.Tenant), string(s.job.Job), s.job.Host, brief(s.job, s.time)
	case s.block != nil:
		tenant, host = holders(s.block), string(s.block.Host)
		why = fmt.Sprintf("for %s, because of %s", daemon.Span(s.block.Until.Sub(s.time)), s.block.Job)
	case s.unblocked != nil:
		host, why = s.unblocked.Host, string(s.unblocked.Cause)
	case s.host != nil:
		host, why = s.host.Host, daemon.FirstLine(s.host.Reason)
	}
	left := fmt.Sprintf("%7s  %-5s  %-9s  %-8s  %-*s  ", d.clock(s), tenant, id, d.workflowOf(s), t.host, host)
	if t.narrow() {
		left = fmt.Sprintf("%6s %-5s %-9s %-8s %-*s ", d.clock(s), tenant, id, d.workflowOf(s), t.host, host)
	}
	what := fmt.Sprintf("%-9s", s.what)
	if room := t.width - len(left) - len(what) - 2; t.width > 0 {
		why = daemon.Short(why, max(room, 10))
	}
	if why != "" {
		why = "  " + why
	} else {
		what = s.what
	}
	t.paint(daemon.Paint(t.colours, daemon.Grey, left), daemon.Paint(t.colours, daemon.EventColour(s.what), what), daemon.Plain(why))
}

// brief is an event in words, with less detail than daemon.EventDetails has.
func brief(e *job.Event, now time.Time) string {
	switch {
	case e.EventKind == job.Failed && e.Exception != "" && e.Class != "":
		return fmt.Sprintf("%s in %s", e.Exception[strings.LastIndexByte(e.Exception, '.')+1:], e.Class)
	case e.EventKind == job.Dead:
		return daemon.Spaces(e.Reason)
	case e.EventKind == job.Waiting && e.Until != nil:
		return fmt.Sprintf("%s, for %s", daemon.Spaces(e.Reason), daemon.Span(e.Until.Sub(now)))
	case e.EventKind == job.Completed && time.Duration(e.QueuedFor) < 100*time.Millisecond:
		return "ran " + daemon.Span(time.Duration(e.RanFor))
	case e.EventKind == job.Completed:
		return fmt.Sprintf("ran %s, waited %s", daemon.Span(time.Duration(e.RanFor)), daemon.Span(time.Duration(e.QueuedFor)))
	}
	return daemon.EventDetails(e, now)
}

func spaced(k failure.Kind) string { return daemon.Spaces(string(k)) }

// claim prints whether something was observed.
func (t *printer) claim(c claim) {
	symbol, colour, how := "✓", daemon.Green, c.how
	if !c.seen {
		symbol, colour, how = "✗ not observed:", daemon.Red, ""
	}
	line := []daemon.Painted{"   ", daemon.Paint(t.colours, colour, symbol), daemon.Plain(" " + c.what)}
	if how != "" && t.narrow() {
		t.paint(line...)
		line = []daemon.Painted{"    "}
	}
	if how != "" {
		line = append(line, daemon.Paint(t.colours, daemon.Grey, " ("+how+")"))
	}
	t.paint(line...)
}

// table writes rows and an empty line.
func (t *printer) table(rows [][]string) error {
	err := t.c.Table(rows)
	t.say("")
	return err
}

// holders are the tenants that a block holds for.
func holders(b *route.Block) string {
	names := make([]string, len(b.Tenants))
	for i, tenant := range b.Tenants {
		names[i] = strings.ReplaceAll(string(tenant), string(route.Everyone), "all")
	}
	return strings.Join(names, " ")
}
