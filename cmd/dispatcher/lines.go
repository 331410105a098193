package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

// lines shows what happens in plain lines, for files and pipes.
type lines struct {
	c        *console
	progress bool
	now      func() time.Time // NATS'

	mu   sync.Mutex              // guards the line being written and the field below
	told map[jetstream.ID]string // the last progress that was told
}

func (l *lines) happened(e *jetstream.Event) { l.say(string(e.Job) + ": " + happening(e, l.now())) }

// progressed tells a new node, or another tenth of the running one.
func (l *lines) progressed(id jetstream.ID, p jetstream.Progress) {
	if !l.progress {
		return
	}
	what := progressText(p)
	tenth := fmt.Sprintf("%s %s %d", p.Node, p.Class, int(10*share(p)))
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.told == nil {
		l.told = map[jetstream.ID]string{}
	}
	if l.told[id] != tenth {
		l.told[id] = tenth
		l.c.say("%s: %s", id, what)
	}
}

func (l *lines) say(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.c.say("%s", text)
}

func (l *lines) result(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.c.print("%s", line)
}

func (l *lines) close() {}

// happening is an event as the rest of a sentence about its job: "started on gpu-1, attempt 2".
func happening(e *jetstream.Event, now time.Time) string {
	text := string(e.EventKind)
	if e.Host != "" {
		text += " on " + e.Host
	}
	if why := story(e, now); why != "" {
		separator := ", "
		switch e.EventKind {
		case job.Failed, job.Dead, job.Waiting:
			separator = ": "
		case job.Cancelled:
			separator = " "
		case job.Queued, job.Started, job.Retrying, job.Completed:
		}
		text += separator + why
	}
	return text
}

// progressText is a moment of a run: "KSampler 12/20, node 3 of 7".
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
