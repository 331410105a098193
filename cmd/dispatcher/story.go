package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/jetstream"
)

// story is what an event of a job tells a person, in a few words; empty when the kind says it all.
func story(e *jetstream.Event, now time.Time) string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	switch e.EventKind {
	case job.Queued:
		if e.Position > 0 {
			add("place %d", e.Position)
		}
	case job.Waiting:
		add("%s", holdText(route.HoldReason(e.Reason)))
		if e.Until != nil && e.Until.After(now) {
			add("for %s", span(e.Until.Sub(now)))
		}
	case job.Started:
		if e.Attempt > 1 {
			add("attempt %d", e.Attempt)
		}
	case job.Failed:
		add("%s: %s", e.Kind, firstLine(e.Message))
	case job.Retrying:
		if e.NotBefore != nil && e.NotBefore.After(now) {
			add("%s", in(*e.NotBefore, now))
		}
		if len(e.AvoidedHosts) > 0 {
			add("avoiding %s", strings.Join(e.AvoidedHosts, " "))
		}
	case job.Completed:
		parts = completion(e)
	case job.Dead:
		add("%s: %s", e.Reason, firstLine(e.Message))
	case job.Cancelled:
		if e.By != "" {
			add("by %s", e.By)
		}
	}
	return clean(strings.Join(parts, ", "))
}

// holdText says why no host may take a job.
func holdText(reason route.HoldReason) string {
	switch reason {
	case route.NoneCapable:
		return "no host can run it now"
	case route.AllBlocked:
		return "every host that can run it is blocked"
	case route.Excluded:
		return "its wishes or rules exclude every online host that can run it"
	case route.OverCap:
		return "its tenant runs as many jobs as it may"
	case route.NotDue:
		return "not due yet"
	}
	return spaces(string(reason)) // of a newer dispatcher
}

func completion(e *jetstream.Event) []string {
	parts := []string{"ran " + span(time.Duration(e.RanFor)), plural(len(e.Outputs), "file")}
	if time.Duration(e.QueuedFor) >= time.Millisecond {
		parts = append(parts, "waited "+span(time.Duration(e.QueuedFor)))
	}
	if n := len(e.CachedNodes); n > 0 {
		parts = append(parts, plural(n, "cached node"))
	}
	for _, node := range slices.Sorted(maps.Keys(e.Seeds)) {
		parts = append(parts, fmt.Sprintf("seed of node %s: %d", node, e.Seeds[node]))
	}
	return parts
}

// firstLine keeps a traceback out of a line.
func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return short(line, 300)
}

// hue is the colour of a kind of event.
func hue(kind string) string {
	switch kind {
	case string(job.Completed), "unblocked", "online", "recovered":
		return green
	case string(job.Failed), string(job.Dead), "blocked", "unhealthy", "offline":
		return red
	case string(job.Waiting), string(job.Retrying), string(job.Cancelled), "draining":
		return yellow
	case string(job.Started):
		return blue
	}
	return grey
}
