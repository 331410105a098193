package agent

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// probedHost is a ComfyUI that is asked about conditions.
type probedHost struct {
	ComfyUI
	process        string // empty: it cannot be told
	sick           failure.Cause
	unread         error            // of its log
	stays          map[string]error // prompts that do not stop
	full, barred   error
	logs, rooms    int
	freed          int
	submits        int
	cancelled      []string
	stop           func() // called by Cancel
	clearedPrompts []string
}

func (p *probedHost) Process(context.Context) (string, error) {
	if p.process == "" {
		return "what it read", errors.New("no such folder")
	}
	return p.process, nil
}

func (p *probedHost) Sick(context.Context) (string, failure.Cause, error) {
	p.logs++
	return "the log says so", p.sick, p.unread
}

func (p *probedHost) Cancel(_ context.Context, prompt string) error {
	p.cancelled = append(p.cancelled, prompt)
	if p.stop != nil {
		p.stop()
	}
	return p.stays[prompt]
}

func (p *probedHost) Clear(_ context.Context, prompt string) error {
	p.clearedPrompts = append(p.clearedPrompts, prompt)
	return nil
}

func (p *probedHost) ProbeRoom(context.Context) error   { p.rooms++; return p.full }
func (p *probedHost) ProbeSubmit(context.Context) error { p.submits++; return p.barred }

// ailing is a host with conditions. It is stopping, so that none of them is announced.
func ailing(p *probedHost, all ...condition) *host {
	h := &host{comfy: p, log: slog.New(slog.DiscardHandler), admission: newAdmission(queue.HostState{}, nil), beatNow: make(chan struct{}, 1)}
	h.admission.stopping, h.admission.conditions = true, nil
	for _, c := range all {
		h.admission.conditions.put(c)
	}
	return h
}

func TestAnotherProcessIsReadAgainAndHasOtherConditions(t *testing.T) {
	t.Parallel()
	poisoned, gone := condition{cause: failure.Poisoned, process: "1"}, condition{cause: failure.WorkerGone, process: "1"}
	for name, c := range map[string]struct {
		check   probeState
		process string
		sick    failure.Cause
		unread  error
		has     condition
		wanted  bool // the capability is read again
		logs    int
		kept    bool // the condition
		trial   bool
	}{
		"First":         {check: probeState{}, process: "1", wanted: true, logs: 1},
		"Same":          {check: probeState{seen: true, process: "1"}, process: "1", has: poisoned, kept: true},
		"Back":          {check: probeState{process: "1"}, process: "1", has: poisoned, logs: 1, kept: true},
		"Another":       {check: probeState{seen: true, process: "1"}, process: "2", has: poisoned, wanted: true},
		"UnknownBack":   {check: probeState{}, has: poisoned, wanted: true, logs: 1, kept: true, trial: true},
		"Unknown":       {check: probeState{seen: true}, has: poisoned, logs: 1, kept: true},
		"UnknownNow":    {check: probeState{seen: true, process: "1"}, has: poisoned, wanted: true, logs: 1, kept: true},
		"Dead":          {check: probeState{process: "1"}, process: "1", sick: failure.WorkerGone, has: gone, logs: 1, kept: true},
		"AliveUnknown":  {check: probeState{seen: true}, has: condition{cause: failure.WorkerGone}, logs: 1},
		"UnreadUnknown": {check: probeState{seen: true}, unread: errors.New("no log"), has: condition{cause: failure.WorkerGone}, logs: 1, kept: true},
		"AliveAndKnown": {check: probeState{process: "1"}, process: "1", has: gone, logs: 1, kept: true},
	} {
		p := &probedHost{process: c.process, sick: c.sick, unread: c.unread}
		h := ailing(p, c.has)
		check := c.check
		h.identify(t.Context(), &check)
		if check.wanted != c.wanted || !check.seen || check.process != c.process || h.processNow() != c.process || p.logs != c.logs {
			t.Errorf("%s: it is read again: %t, as process %q; the log was read %d times", name, check.wanted, h.processNow(), p.logs)
		}
		if got := h.admission.conditions.of(c.has.cause); (got != nil) != (c.kept || c.has.cause == "") || got != nil && got.trial != c.trial {
			t.Errorf("%s: the host has the conditions %+v", name, h.admission.conditions)
		}
	}
	h := ailing(&probedHost{process: "1", sick: failure.WorkerGone})
	h.identify(t.Context(), &probeState{})
	if got := h.admission.conditions.of(failure.WorkerGone); got == nil || got.process != "1" || got.reason != "the log says so" {
		t.Errorf("a dead worker of which the log tells is %+v", got)
	}
}

func TestPromptsThatNobodyWaitsForAreStopped(t *testing.T) {
	t.Parallel()
	goesOn := errors.New("it goes on")
	for name, c := range map[string]struct {
		has   failure.Cause
		stays map[string]error
		none  bool // is left
		left  []string
		worst failure.Cause
	}{
		"All":           {none: true},
		"One":           {stays: map[string]error{"b": goesOn}, left: []string{"b"}, worst: failure.Stuck},
		"OneThatStands": {has: failure.Stuck, stays: map[string]error{"b": goesOn}, left: []string{"b"}, worst: failure.Stuck},
		"Down":          {has: failure.Down, stays: map[string]error{"a": goesOn, "b": goesOn}, left: []string{"a", "b"}, worst: failure.Down},
	} {
		p := &probedHost{stays: c.stays}
		h := ailing(p)
		if c.has != "" {
			h = ailing(p, condition{cause: c.has})
		}
		h.orphans.add("a", "b")
		none := h.cancelOrphans(t.Context())
		worst := failure.Cause("")
		if w := h.admission.conditions.worst(); w != nil {
			worst = w.cause
		}
		if none != c.none || !slices.Equal(h.orphans.all(), c.left) || worst != c.worst || len(p.cancelled) != 2 || len(p.clearedPrompts) != 2-len(c.left) {
			t.Errorf("%s: none is left: %t, but %q; the host is %s; the files of %q were removed", name, none, h.orphans.all(), worst, p.clearedPrompts)
		}
		if c.worst != failure.Stuck && h.admission.has(failure.Stuck) {
			t.Errorf("%s: a host that is ill otherwise is stuck", name)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	p := &probedHost{stop: cancel}
	h := ailing(p)
	h.orphans.add("a", "b")
	if h.cancelOrphans(ctx) || len(h.orphans.all()) != 2 || len(p.cancelled) != 1 {
		t.Errorf("an agent that is killed meanwhile remembers %q", h.orphans.all())
	}
}

// Each of these probes writes a file, or submits a prompt.
func TestWhatWritesIsProbedEveryThreeSecondsAndOnlyForItsCondition(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &probedHost{process: "1", full: comfy.ErrNoRoom, barred: errors.New("a proxy answers")}
		h := ailing(p, condition{cause: failure.DiskFull}, condition{cause: failure.Barred})
		check := probeState{seen: true, process: "1"}
		for _, step := range []struct {
			after          time.Duration
			full, barred   bool
			rooms, submits int
			left           int // conditions
		}{
			{0, true, true, 1, 1, 2}, {probePause - 1, false, false, 1, 1, 2},
			{1, true, false, 2, 2, 1}, {probePause, false, false, 3, 2, 0}, {probePause, false, false, 3, 2, 0},
		} {
			<-time.After(step.after)
			if p.full = nil; step.full {
				p.full = comfy.ErrNoRoom
			}
			if p.barred = nil; step.barred {
				p.barred = errors.New("a proxy answers")
			}
			h.recheck(t.Context(), &check)
			if p.rooms != step.rooms || p.submits != step.submits || len(h.admission.conditions) != step.left {
				t.Errorf("%d files and %d submits; the host has %+v", p.rooms, p.submits, h.admission.conditions)
			}
		}
		if p.logs != 0 {
			t.Error("a process that is the same was identified again")
		}
	})
	for _, cause := range []failure.Cause{failure.WorkerGone, failure.Poisoned, failure.Stuck} {
		h := ailing(&probedHost{process: "2"}, condition{cause: cause, process: "1"})
		h.recheck(t.Context(), &probeState{seen: true, process: "1"})
		if h.admission.has(cause) {
			t.Errorf("%s outlives ComfyUI's process", cause)
		}
	}
}
