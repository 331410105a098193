package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

// display shows what happens to jobs, live on a terminal and in plain lines elsewhere. Its methods may be called from
// any goroutine.
type display interface {
	event(e *jetstream.Event)
	progress(id jetstream.ID, p jetstream.Progress)
	say(text string)
	result(line string) // to standard output
	close()
}

// newDisplay chooses by whether standard error is a terminal; plainProgress has plain lines tell the progress too.
func newDisplay(c *daemon.Console, plainProgress bool, now func() time.Time) display {
	if daemon.IsTerminal(c.Err) {
		return &liveDisplay{c: c, lines: daemon.NewProgress(c.Err), now: now}
	}
	return &plainDisplay{c: c, withProgress: plainProgress, now: now}
}

// plainDisplay writes plain lines, for files and pipes.
type plainDisplay struct {
	c            *daemon.Console
	withProgress bool
	now          func() time.Time // NATS'

	mu    sync.Mutex              // guards the line being written and the field below
	shown map[jetstream.ID]string // the last progress of each job
}

func (d *plainDisplay) event(e *jetstream.Event) {
	d.say(string(e.Job) + ": " + daemon.EventText(e, d.now()))
}

// progress writes a line for each new node and for each tenth of the job.
func (d *plainDisplay) progress(id jetstream.ID, p jetstream.Progress) {
	if !d.withProgress {
		return
	}
	tenth := fmt.Sprintf("%s %s %d", p.Node, p.Class, int(10*share(p)))
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shown == nil {
		d.shown = map[jetstream.ID]string{}
	}
	if d.shown[id] != tenth {
		d.shown[id] = tenth
		d.c.Say("%s: %s", id, progressText(p))
	}
}

func (d *plainDisplay) say(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.c.Say("%s", text)
}

func (d *plainDisplay) result(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.c.Print("%s", line)
}

func (d *plainDisplay) close() {}

// liveDisplay has a live line for every job under way, and leaves a plain one for every job that has ended.
type liveDisplay struct {
	c     *daemon.Console
	lines *daemon.Progress
	now   func() time.Time // NATS'
}

func (d *liveDisplay) event(e *jetstream.Event) {
	text := daemon.EventText(e, d.now())
	switch id := string(e.Job); {
	case e.EventKind.Terminal():
		d.lines.Remove(id)
		d.leave(e, text)
	case e.EventKind == job.Started || e.EventKind == job.Queued || e.EventKind == job.Waiting:
		d.lines.Show(id, 0, text)
	default: // a failure is to be read afterwards too
		d.lines.Remark(id, text)
		d.leave(e, text)
	}
}

// leave writes a line that stays.
func (d *liveDisplay) leave(e *jetstream.Event, text string) {
	d.lines.WriteLine(daemon.Plain(string(e.Job)+": ") + daemon.Paint(daemon.Colourful(d.c.Err), daemon.EventColour(string(e.EventKind)), text))
}

func (d *liveDisplay) progress(id jetstream.ID, p jetstream.Progress) {
	d.lines.Show(string(id), share(p), progressText(p))
}

func (d *liveDisplay) say(text string) { d.lines.WriteLine(daemon.Plain(text)) }

// result keeps a line for standard output apart from the live ones when both are on one terminal.
func (d *liveDisplay) result(line string) {
	if daemon.IsTerminal(d.c.Out) {
		d.say(line)
		return
	}
	d.c.Print("%s", line)
}

func (d *liveDisplay) close() { d.lines.Close() }

// progressText is a moment of a run: "KSampler 12/20, 3 of 7 nodes".
func progressText(p jetstream.Progress) string {
	text := p.Class
	if text == "" {
		text = "node " + p.Node
	}
	if p.Max > 1 {
		text += fmt.Sprintf(" %.0f/%.0f", p.Value, p.Max)
	}
	if p.NodesTotal > 0 {
		text += fmt.Sprintf(", %d of %d nodes", p.NodesDone, p.NodesTotal)
	}
	return text
}

// share is how much of a run is done, 0 to 1: whole nodes, and the running one in part.
func share(p jetstream.Progress) float64 {
	part := 0.0
	if p.Max > 0 {
		part = min(max(p.Value/p.Max, 0), 1)
	}
	if p.NodesTotal <= 0 {
		return part
	}
	return min((float64(p.NodesDone)+part)/float64(p.NodesTotal), 1)
}
