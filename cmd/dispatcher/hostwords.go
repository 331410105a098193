package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// hostState is a host's state for a cell of a table.
func hostState(s *queue.HostState) string {
	state := string(s.State)
	switch {
	case s.State == queue.Online && s.Trial:
		return "on trial: " + daemon.DescribeCause(s.Cause).Short + "?"
	case s.State == queue.Unhealthy && s.Cause != "":
		return state + ": " + daemon.DescribeCause(s.Cause).Short
	case s.Reason != "":
		return state + ": " + daemon.Short(daemon.FirstLine(s.Reason), 60)
	}
	return state
}

// condition says in whole sentences why a host accepts no or fewer jobs, and what ends that; empty when it accepts them as
// usual. drainedBy is the operator who has drained it, when that is known.
func condition(s *queue.HostState, drainedBy string) string {
	a := daemon.DescribeCause(s.Cause)
	switch {
	case s.State == queue.Offline:
		return ""
	case s.State == queue.Draining && drainedBy != "":
		return fmt.Sprintf("%s was drained by %s and takes no new job, also after a restart of its agent; `dispatcher hosts resume %s` ends that.", s.Host, drainedBy, s.Host)
	case s.State == queue.Draining:
		return fmt.Sprintf("%s takes no new job: %s.", s.Host, orUnknown(daemon.FirstLine(s.Reason)))
	case s.State == queue.Unhealthy && s.Cause != "":
		return joined(fmt.Sprintf("%s takes no job: %s%s.", s.Host, a.Certain, because(s.Reason)), blamed(s.Blame), a.Help)
	case s.State == queue.Unhealthy:
		return joined(fmt.Sprintf("%s takes no job: %s.", s.Host, orUnknown(daemon.FirstLine(s.Reason))), blamed(s.Blame))
	case s.Trial:
		return joined(fmt.Sprintf("%s is on trial and takes one job at a time: %s%s.", s.Host, a.Suspected, because(s.Reason)),
			"The next job of another workflow decides: when it runs well the trial is over, when it fails in the same way the host takes no more.",
			"A restart of ComfyUI ends the trial, too.")
	}
	return ""
}

// restWords says why a host that is online gets no jobs, and which tenants it serves; empty when it serves all and gets jobs.
func restWords(h *queue.HostInfo, now time.Time) string {
	var serves, rests string
	if len(h.Tenants) > 0 {
		names := make([]string, 0, len(h.Tenants))
		for _, t := range h.Tenants {
			names = append(names, string(t))
		}
		serves = fmt.Sprintf("%s serves %s and no other tenant.", h.Host, strings.Join(names, ", "))
	}
	if h.Resting != nil {
		rests = fmt.Sprintf("%s is given no jobs for %s: %s. Look at its agent's log; it takes jobs again by itself.", h.Host, daemon.Span(h.Resting.Until.Sub(now)), h.Resting.Why)
	}
	return joined(serves, rests)
}

func orUnknown(reason string) string {
	if reason == "" {
		return "its agent does not say why"
	}
	return strings.TrimRight(reason, ".")
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	reason = strings.TrimPrefix(daemon.FirstLine(reason), "ComfyUI does not answer: ") // the text before it says so already
	return " (" + strings.TrimRight(reason, ".") + ")"
}

func blamed(b *queue.Blame) string {
	if b == nil {
		return ""
	}
	return fmt.Sprintf("Job %s ran on it when that began.", jobRef{tenant: b.Tenant, id: b.Job}.word())
}

func joined(sentences ...string) string { return daemon.Joined(" ", sentences...) }

// clockMost is how far a clock may be off without a warning.
const clockMost = time.Second

// clockWords warns of a wrong clock and says what to do; empty when the clock is right.
func clockWords(whose string, off time.Duration) string {
	if off.Abs() <= clockMost {
		return ""
	}
	way := "ahead of"
	if off < 0 {
		way = "behind"
	}
	return fmt.Sprintf("The clock of %s is %s %s that of NATS. comfyherd uses the time of NATS and is not affected, but the times in that machine's logs are wrong; "+
		"set the clock, best with NTP.", whose, daemon.Span(off.Abs()), way)
}
