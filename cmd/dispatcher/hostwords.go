package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// ailment is what an operator should know of a failure.Cause.
type ailment struct {
	short   string // for a cell of a table
	what    string // a sentence about the host
	suspect string // the same while it is only suspected
	ends    string // what ends it, and what to do
}

func ailmentOf(cause failure.Cause) ailment {
	switch cause {
	case failure.Down:
		return ailment{
			"ComfyUI does not answer", "its ComfyUI does not answer", "its ComfyUI may be down",
			"Start ComfyUI, or look at its log; the host takes jobs again as soon as it answers.",
		}
	case failure.WorkerGone:
		return ailment{
			"worker is gone", "the part of ComfyUI that runs prompts has ended", "the part of ComfyUI that runs prompts may have ended",
			"Restart ComfyUI; the host takes jobs again by itself then.",
		}
	case failure.Stuck:
		return ailment{
			"prompt does not stop", "a prompt does not stop, and nothing else can run", "a prompt may not stop",
			"The host takes jobs again when the prompt has stopped; a restart of ComfyUI ends it now.",
		}
	case failure.Poisoned:
		return ailment{
			"CUDA unusable", "its ComfyUI cannot use the GPU any more (CUDA or HIP error)", "its ComfyUI may not be able to use the GPU any more (CUDA or HIP error)",
			"Restart ComfyUI; the host takes jobs again by itself then.",
		}
	case failure.DiskFull:
		return ailment{
			"disk full", "ComfyUI cannot write files: its disk is full", "the disk of its ComfyUI may be full",
			"Make room on the disk of ComfyUI's output folder; the host takes jobs again by itself then.",
		}
	case failure.Barred:
		return ailment{
			"submits are refused", "something before ComfyUI refuses its submits", "something before ComfyUI may refuse its submits",
			"Check the user and password in the agent's COMFY_HOSTS, and the proxy; the host takes jobs again when ComfyUI itself answers a submit.",
		}
	case failure.Unstorable:
		return ailment{
			"cannot store results", "its agent cannot store results in NATS", "its agent may not be able to store results in NATS",
			"Make room for COMFY_OUTPUTS in NATS' JetStream; results are kept on the host until they are stored, and it takes jobs again then.",
		}
	}
	word := spaces(string(cause)) // of a newer agent
	return ailment{word, word, "it may have: " + word, ""}
}

// hostState is a host's state for a cell of a table.
func hostState(s *queue.HostState) string {
	state := string(s.State)
	switch {
	case s.State == queue.Online && s.Trial:
		return "on trial: " + ailmentOf(s.Cause).short + "?"
	case s.State == queue.Unhealthy && s.Cause != "":
		return state + ": " + ailmentOf(s.Cause).short
	case s.Reason != "":
		return state + ": " + short(firstLine(s.Reason), 60)
	}
	return state
}

// condition says in whole sentences why a host does not take jobs as usual, and what ends that; empty when it does.
// drainedBy is who has drained it, when that is known.
func condition(s *queue.HostState, drainedBy string) string {
	a := ailmentOf(s.Cause)
	switch {
	case s.State == queue.Draining && drainedBy != "":
		return fmt.Sprintf("%s was drained by %s and takes no new job, also after a restart of its agent; `dispatcher hosts resume %s` ends that.", s.Host, drainedBy, s.Host)
	case s.State == queue.Draining:
		return fmt.Sprintf("%s takes no new job: %s.", s.Host, orUnknown(firstLine(s.Reason)))
	case s.State == queue.Unhealthy && s.Cause != "":
		return joined(fmt.Sprintf("%s takes no job: %s%s.", s.Host, a.what, because(s.Reason)), blamed(s.Blame), a.ends)
	case s.State == queue.Unhealthy:
		return joined(fmt.Sprintf("%s takes no job: %s.", s.Host, orUnknown(firstLine(s.Reason))), blamed(s.Blame))
	case s.Trial:
		return joined(fmt.Sprintf("%s is on trial and takes one job at a time: %s%s.", s.Host, a.suspect, because(s.Reason)),
			"The next job of another workflow decides: when it runs well the trial is over, when it fails in the same way the host takes no more.",
			"A restart of ComfyUI ends the trial, too.")
	}
	return ""
}

// restWords says why a host that is online is given no jobs, and whose host it is; empty when it is everybody's and takes jobs.
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
		rests = fmt.Sprintf("%s is given no jobs for %s: %s. Look at its agent's log; it takes jobs again by itself.", h.Host, span(h.Resting.Until.Sub(now)), h.Resting.Why)
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
	return " (" + strings.TrimRight(firstLine(reason), ".") + ")"
}

func blamed(b *queue.Blame) string {
	if b == nil {
		return ""
	}
	return fmt.Sprintf("Job %s ran on it when that began.", jobRef{tenant: b.Tenant, id: b.Job}.word())
}

func joined(sentences ...string) string { return joinedBy(" ", sentences...) }

// clockMost is what a clock may be off before it is told.
const clockMost = time.Second

// clockWords says that a clock is wrong and what to do; empty when it is right.
func clockWords(whose string, off time.Duration) string {
	if off.Abs() <= clockMost {
		return ""
	}
	way := "ahead of"
	if off < 0 {
		way = "behind"
	}
	return fmt.Sprintf("The clock of %s is %s %s that of NATS. comfyherd goes by NATS' time and runs on, but the times in that machine's logs are wrong; "+
		"set the clock right, best with NTP.", whose, span(off.Abs()), way)
}
