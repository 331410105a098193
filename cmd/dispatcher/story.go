package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
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
		add("%s", waitText(e))
		if e.Until != nil && e.Until.After(now) {
			add("for %s", span(e.Until.Sub(now)))
		}
	case job.Started:
		if e.Attempt > 1 {
			add("attempt %d", e.Attempt)
		}
	case job.Failed:
		add("%s: %s", kindText(e.Kind, e.Cause), firstLine(e.Message))
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
		add("%s: %s", e.Reason, joinedBy("; ", firstLine(e.Message), perHost(e.Hosts)))
	case job.Cancelled:
		if e.By != "" {
			add("by %s", e.By)
		}
	}
	return strings.Join(parts, ", ")
}

// waitText says why a job waits, with what each host lacks where that is the reason.
func waitText(e *jetstream.Event) string {
	switch reason := route.HoldReason(e.Reason); reason {
	case route.NoneCapable, route.Excluded:
		return joinedBy(": ", holdText(reason), perHost(e.Hosts))
	case route.AllBlocked, route.OverCap, route.NotDue:
		return holdText(reason)
	case route.HostsDown, route.OthersHosts:
	}
	if e.Message != "" { // the dispatcher's own words, also for what this command does not know
		return firstLine(e.Message)
	}
	return holdText(route.HoldReason(e.Reason))
}

// mostReasons is how many different reasons of hosts stand in one line.
const mostReasons = 4

// perHost says what hosts say of a job, those that say the same together: "missing node X (gpu-1, gpu-2); draining (gpu-3)".
func perHost(hosts map[string]string) string {
	var order []string
	who := map[string][]string{}
	for _, host := range slices.Sorted(maps.Keys(hosts)) {
		why := short(firstLine(hosts[host]), 120)
		if who[why] == nil {
			order = append(order, why)
		}
		who[why] = append(who[why], host)
	}
	var parts []string
	for _, why := range order[:min(len(order), mostReasons)] {
		parts = append(parts, fmt.Sprintf("%s (%s)", why, listed(who[why], mostReasons)))
	}
	if more := len(order) - mostReasons; more > 0 {
		parts = append(parts, plural(more, "other reason")+", see `dispatcher status`")
	}
	return strings.Join(parts, "; ")
}

// listed names some of many.
func listed(names []string, most int) string {
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// kindText is a kind of failure with what ails the host, when that is known.
func kindText(kind failure.Kind, cause failure.Cause) string {
	if cause == "" {
		return string(kind)
	}
	return fmt.Sprintf("%s (%s)", kind, ailmentOf(cause).short)
}

// joinedBy joins what is not empty.
func joinedBy(separator string, parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), separator)
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
	case route.HostsDown:
		return "two hosts are out because of its tenant's jobs"
	case route.OthersHosts:
		return "every host that can run it serves other tenants"
	}
	return spaces(string(reason)) // of a newer dispatcher
}

func completion(e *jetstream.Event) []string {
	var texts []job.Output
	for i := range e.Outputs {
		if isText(&e.Outputs[i]) {
			texts = append(texts, e.Outputs[i])
		}
	}
	parts := []string{"ran " + span(time.Duration(e.RanFor)), plural(len(e.Outputs)-len(texts), "file")}
	for i := range texts {
		parts = append(parts, textOf(&texts[i]))
	}
	if e.OutputsMissing {
		parts = append(parts, "but no output node left anything: no file, no picture and no text")
	}
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

// isText reports whether an output is a text that ComfyUI showed, and no file of ComfyUI's.
func isText(o *job.Output) bool { return o.Media == "text" }

// textOf is a text output in a few words: its own when it is short.
func textOf(o *job.Output) string {
	if o.Text == "" {
		return fmt.Sprintf("text of node %s: %s", o.Node, bytesText(o.Size))
	}
	return fmt.Sprintf("text of node %s: %q", o.Node, short(strings.TrimSpace(o.Text), 60))
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
