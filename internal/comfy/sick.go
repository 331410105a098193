package comfy

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
)

const (
	// idleTime is for how long, and idleLooks in how many looks, prompts must wait beside an idle worker thread.
	idleTime  = 10 * time.Second
	idleLooks = 3
)

const workerDied = "ComfyUI's worker thread has died and nothing runs until ComfyUI is restarted"

// Sick finds out whether ComfyUI can run prompts; cause is empty when it can, and the reason is for people. The worker
// thread has ended (failure.WorkerGone) when ComfyUI's log has the exception that ended it, when its process lacks the
// thread (ProcessReader), or when prompts have waited for idleTime while none ran. The host is failure.Stuck while a prompt goes on
// for longer than StuckTime after a request to stop. What a prompt contains or prints has no influence.
func (h *Host) Sick(ctx context.Context) (reason string, cause failure.Cause, err error) {
	reason, err = h.workerLog(ctx)
	if err != nil {
		return "", "", fmt.Errorf("read the log of %s: %w", h, err)
	}
	if reason != "" {
		return reason, failure.WorkerGone, nil
	}
	probe, err := h.Probe(ctx)
	if err != nil || probe.QueueRemaining == 0 {
		h.allStopsDone()
		return "", "", err
	}
	line, err := h.backlog(ctx)
	if err != nil {
		return "", "", fmt.Errorf("read the backlog of %s: %w", h, err)
	}
	if len(line.running) > 0 && h.threads.gone(ctx) {
		return workerDied + ": its log says nothing of it (a node raised SystemExit, or its code ended the thread)", failure.WorkerGone, nil
	}
	if h.idles() {
		return fmt.Sprintf("%s: none has run for %v, and %d wait", workerDied, h.options.idleTime, len(line.pending)), failure.WorkerGone, nil
	}
	if id := h.ignoresStop(line); id != "" {
		return "prompt " + id + " does not stop although it was asked to, and nothing else can run; restart ComfyUI if it never ends", failure.Stuck, nil
	}
	return "", "", nil
}

// logEntry is one write to ComfyUI's output: when, and what.
type logEntry struct {
	Time text `json:"t"`
	Text text `json:"m"`
}

// workerLog looks for the exception that ended the worker thread; empty when there is none, or no log. The log is in
// the memory of the process, so that it is always that of this process.
func (h *Host) workerLog(ctx context.Context) (reason string, err error) {
	got, err := h.get(ctx, "/internal/logs/raw", nil, largeAnswer)
	if err != nil {
		return "", err
	}
	if got.status == http.StatusOK {
		var d struct {
			Entries []logEntry `json:"entries"`
		}
		_ = decode(got.body, &d) // what has no entries says nothing
		return workerTraceback(d.Entries), nil
	}
	got, err = h.get(ctx, "/internal/logs", nil, largeAnswer)
	switch {
	case err != nil:
		return "", err
	case got.status == http.StatusNotFound:
		return "", nil
	case got.status != http.StatusOK:
		return "", &statusError{"/internal/logs", got.status}
	}
	var log string
	_ = decode(got.body, &log) // what is no text says nothing
	return workerTraceback(entriesOf(log)), nil
}

// stamp precedes each write in /internal/logs.
var stamp = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)? - `)

// entriesOf takes the text of /internal/logs apart again.
func entriesOf(log string) []logEntry {
	places := stamp.FindAllStringIndex(log, -1)
	entries := make([]logEntry, 0, len(places))
	for i, at := range places {
		end := len(log)
		if i+1 < len(places) {
			end = places[i+1][0]
		}
		entries = append(entries, logEntry{text(log[at[0] : at[1]-3]), text(log[at[1]:end])})
	}
	return entries
}

var workerThread = regexp.MustCompile(`^Thread-\d+ \(prompt_worker\)$`)

// workerTraceback finds what Python writes when an exception ends a thread: "Exception in thread ", the name of the
// thread and ":\n", in three writes, and the traceback. A text that a node prints or raises is one write, so that it is
// not taken for this. ComfyUI keeps 300 writes, and a traceback of Python 3.12 and older may have more, one for each row
// of carets under a line of code. Then only its last part is left, which goes through ComfyUI's own execution.py.
func workerTraceback(entries []logEntry) (reason string) {
	entries = slices.DeleteFunc(slices.Clone(entries), func(e logEntry) bool { return e.Text == "" })
	for i := range entries {
		if !announces(entries[i:]) && !traces(entries[i:]) {
			continue
		}
		reason = workerDied
		if exception := lastOfTraceback(entries[i+1:]); exception != "" {
			reason += ": " + exception
		}
		return oneLine(reason)
	}
	return ""
}

func announces(e []logEntry) bool {
	return len(e) > 2 && e[0].Text == "Exception in thread " && workerThread.MatchString(string(e[1].Text)) && e[2].Text == ":\n"
}

// executionFrame is a frame of ComfyUI's executor, as Python writes it for an exception that was not caught: line and code in
// writes of their own.
var executionFrame = regexp.MustCompile(`^  File "[^"\n]*[/\\]execution\.py", line \d+, in \w+\n$`)

func traces(e []logEntry) bool {
	return len(e) > 3 && executionFrame.MatchString(string(e[0].Text)) && e[1].Text == "    " && e[3].Text == "\n"
}

// exceptionLine is the end of a traceback: "KeyError: 'inputs'".
var exceptionLine = regexp.MustCompile(`^((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Exit|Interrupt|Warning)\b.*)$`)

func lastOfTraceback(entries []logEntry) string {
	var b strings.Builder
	for _, e := range entries {
		b.WriteString(string(e.Text))
	}
	for line := range strings.Lines(b.String()) {
		line = strings.TrimRight(line, "\r\n")
		if found := exceptionLine.FindStringSubmatch(line); found != nil && len(line) <= 4096 {
			return clip(found[1], 200)
		}
	}
	return ""
}

// noteBacklog counts how long prompts have waited while none ran.
func (h *Host) noteBacklog(line backlog) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(line.running) > 0 || len(line.pending) == 0 {
		h.idleLooks = 0
		return
	}
	if h.idleLooks == 0 {
		h.idleSince = time.Now()
	}
	h.idleLooks++
}

func (h *Host) idles() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.idleLooks >= idleLooks && time.Since(h.idleSince) >= h.options.idleTime
}

// stopAsked records when a prompt was first asked to stop.
func (h *Host) stopAsked(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, known := h.stopping[id]; !known {
		h.stopping[id] = time.Now()
	}
}

func (h *Host) stopDone(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.stopping, id)
}

func (h *Host) allStopsDone() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.stopping)
}

// ignoresStop is a prompt that runs although it was asked to stop StuckTime ago, empty when there is none.
func (h *Host) ignoresStop(line backlog) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, since := range h.stopping {
		state, _ := line.find(id)
		switch {
		case state == Unknown:
			delete(h.stopping, id)
		case state == Running && time.Since(since) >= h.options.StuckTime:
			return id
		}
	}
	return ""
}
