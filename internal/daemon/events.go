package daemon

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/route"
)

// EventText is an event as the rest of a sentence about its job: "started on gpu-1, attempt 2".
func EventText(e *job.Event, now time.Time) string {
	text := string(e.EventKind)
	if e.Host != "" {
		text += " on " + e.Host
	}
	if details := EventDetails(e, now); details != "" {
		separator := ", "
		switch e.EventKind {
		case job.Failed, job.Dead, job.Waiting:
			separator = ": "
		case job.Cancelled:
			separator = " "
		case job.Queued, job.Started, job.Retrying, job.Completed:
		}
		text += separator + details
	}
	return text
}

// EventDetails is what an event says besides its kind and host, in a few words; it may be empty.
func EventDetails(e *job.Event, now time.Time) string {
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
			add("for %s", Span(e.Until.Sub(now)))
		}
	case job.Started:
		if e.Attempt > 1 {
			add("attempt %d", e.Attempt)
		}
	case job.Failed:
		add("%s: %s", FailureText(e.Kind, e.Cause), FirstLine(e.Message))
	case job.Retrying:
		if e.NotBefore != nil && e.NotBefore.After(now) {
			add("%s", In(*e.NotBefore, now))
		}
		if len(e.AvoidedHosts) > 0 {
			add("avoiding %s", strings.Join(e.AvoidedHosts, " "))
		}
	case job.Completed:
		parts = completion(e)
	case job.Dead:
		add("%s: %s", e.Reason, Joined("; ", FirstLine(e.Message), perHost(e.Hosts)))
	case job.Cancelled:
		if e.By != "" {
			add("by %s", e.By)
		}
	}
	return strings.Join(parts, ", ")
}

// waitText says why a job waits, with what each host lacks where that is the reason.
func waitText(e *job.Event) string {
	switch reason := route.HoldReason(e.Reason); reason {
	case route.NoneCapable, route.Excluded:
		return Joined(": ", HoldText(reason), perHost(e.Hosts))
	case route.AllBlocked, route.OverCap, route.NotDue:
		return HoldText(reason)
	case route.HostsDown, route.OthersHosts:
	}
	if e.Message != "" { // the dispatcher's own words, also of a reason that this command does not have
		return FirstLine(e.Message)
	}
	return HoldText(route.HoldReason(e.Reason))
}

// perHost lists the hosts' reasons not to take a job, equal ones together: "missing node X (gpu-1, gpu-2); draining (gpu-3)".
func perHost(hosts map[string]string) string {
	var order []string
	who := map[string][]string{}
	for _, host := range slices.Sorted(maps.Keys(hosts)) {
		why := Short(FirstLine(hosts[host]), 120)
		if who[why] == nil {
			order = append(order, why)
		}
		who[why] = append(who[why], host)
	}
	var parts []string
	for _, why := range order[:min(len(order), mostListed)] {
		parts = append(parts, fmt.Sprintf("%s (%s)", why, Listed(who[why])))
	}
	if more := len(order) - mostListed; more > 0 {
		parts = append(parts, Plural(more, "other reason")+", see `dispatcher status`")
	}
	return strings.Join(parts, "; ")
}

// FailureText is a kind of failure, with what is wrong with the host where that is known.
func FailureText(kind failure.Kind, cause failure.Cause) string {
	if cause == "" {
		return string(kind)
	}
	return fmt.Sprintf("%s (%s)", kind, DescribeCause(cause).Short)
}

// HoldText says why no host may take a job.
func HoldText(reason route.HoldReason) string {
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
	return Spaces(string(reason)) // of a newer dispatcher
}

func completion(e *job.Event) []string {
	var texts []job.Output
	for i := range e.Outputs {
		if IsText(&e.Outputs[i]) {
			texts = append(texts, e.Outputs[i])
		}
	}
	parts := []string{"ran " + Span(time.Duration(e.RanFor)), Plural(len(e.Outputs)-len(texts), "file")}
	for i := range texts {
		parts = append(parts, textOf(&texts[i]))
	}
	if e.OutputsMissing {
		parts = append(parts, "but no output node left anything: no file, no picture and no text")
	}
	if time.Duration(e.QueuedFor) >= time.Millisecond {
		parts = append(parts, "waited "+Span(time.Duration(e.QueuedFor)))
	}
	if n := len(e.CachedNodes); n > 0 {
		parts = append(parts, Plural(n, "cached node"))
	}
	for _, node := range slices.Sorted(maps.Keys(e.Seeds)) {
		parts = append(parts, fmt.Sprintf("seed of node %s: %d", node, e.Seeds[node]))
	}
	return parts
}

// IsText reports whether an output is a text that ComfyUI showed, and no file.
func IsText(o *job.Output) bool { return o.Media == "text" }

// textOf is a text output in a few words: its own when it is short.
func textOf(o *job.Output) string {
	if o.Text == "" {
		return fmt.Sprintf("text of node %s: %s", o.Node, Size(o.Size).String())
	}
	return fmt.Sprintf("text of node %s: %q", o.Node, Short(strings.TrimSpace(o.Text), 60))
}

// EventColour is the colour of a kind of event, of jobs, blocks or hosts.
func EventColour(kind string) Colour {
	switch kind {
	case string(job.Completed), "unblocked", "online", "recovered":
		return Green
	case string(job.Failed), string(job.Dead), "blocked", "unhealthy", "offline":
		return Red
	case string(job.Waiting), string(job.Retrying), string(job.Cancelled), "draining":
		return Yellow
	case string(job.Started):
		return Blue
	}
	return Grey
}
