package main_test

import (
	"strings"
	"testing"
	"time"

	main "github.com/comfyherd/comfyherd/cmd/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/jetstream"
)

func TestAHostThatIsNotWellSaysWhatAilsItAndWhatEndsIt(t *testing.T) {
	t.Parallel()
	blame := &queue.Blame{Tenant: "acme", Job: "order-17"}
	for name, tc := range map[string]struct {
		host        queue.HostState
		drainedBy   string
		cell, whole string
	}{
		"Well": {queue.HostState{Host: "a", State: queue.Online}, "", "online", ""},
		"DiskFull": {
			queue.HostState{Host: "a", State: queue.Unhealthy, Cause: failure.DiskFull, Reason: "[Errno 28] No space left on device", Blame: blame}, "",
			"unhealthy: disk full",
			"a takes no job: ComfyUI cannot write files: its disk is full ([Errno 28] No space left on device). Job acme/order-17 ran on it when that began. " +
				"Make room on the disk of ComfyUI's output folder; the host takes jobs again by itself then.",
		},
		"Poisoned": {
			queue.HostState{Host: "a", State: queue.Unhealthy, Cause: failure.Poisoned}, "", "unhealthy: CUDA unusable",
			"a takes no job: its ComfyUI cannot use the GPU any more (CUDA or HIP error). Restart ComfyUI; the host takes jobs again by itself then.",
		},
		"Trial": {
			queue.HostState{Host: "a", State: queue.Online, Trial: true, Cause: failure.Poisoned, Reason: "CUDA error: device-side assert triggered"}, "",
			"on trial: CUDA unusable?",
			"a is on trial and takes one job at a time: its ComfyUI may not be able to use the GPU any more (CUDA or HIP error) (CUDA error: device-side assert triggered). " +
				"The next job of another workflow decides: when it runs well the trial is over, when it fails in the same way the host takes no more. A restart of ComfyUI ends the trial, too.",
		},
		"Barred": {
			queue.HostState{Host: "a", State: queue.Unhealthy, Cause: failure.Barred, Reason: "ComfyUI answers HTTP 401."}, "", "unhealthy: submits are refused",
			"a takes no job: something before ComfyUI refuses its submits (ComfyUI answers HTTP 401). Check the user and password in the agent's COMFY_HOSTS, and the proxy; " +
				"the host takes jobs again when ComfyUI itself answers a submit.",
		},
		"Drained": {
			queue.HostState{Host: "a", State: queue.Draining, Reason: "drained by an operator"}, "ada", "draining: drained by an operator",
			"a was drained by ada and takes no new job, also after a restart of its agent; `dispatcher hosts resume a` ends that.",
		},
		"Leaving": {
			queue.HostState{Host: "a", State: queue.Draining, Reason: "the agent is shutting down"}, "", "draining: the agent is shutting down",
			"a takes no new job: the agent is shutting down.",
		},
		"OlderAgent": {
			queue.HostState{Host: "a", State: queue.Unhealthy, Reason: "ComfyUI does not answer: refused"}, "", "unhealthy: ComfyUI does not answer: refused",
			"a takes no job: ComfyUI does not answer: refused.",
		},
		"NewerAgent": {
			queue.HostState{Host: "a", State: queue.Unhealthy, Cause: "too_hot"}, "", "unhealthy: too hot", "a takes no job: too hot.",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := main.HostState(&tc.host); got != tc.cell {
				t.Errorf("cell\ngot  %s\nwant %s", got, tc.cell)
			}
			if got := main.Condition(&tc.host, tc.drainedBy); got != tc.whole {
				t.Errorf("got  %s\nwant %s", got, tc.whole)
			}
		})
	}
}

func TestEveryCauseHasWordsAndAWayBack(t *testing.T) {
	t.Parallel()
	for _, cause := range failure.Causes() {
		h := queue.HostState{Host: "a", State: queue.Unhealthy, Cause: cause}
		cell, whole := main.HostState(&h), main.Condition(&h, "")
		if strings.Contains(cell, string(cause)) && strings.Contains(string(cause), "_") || !strings.Contains(whole, "takes jobs again") {
			t.Errorf("%s: %s: %s", cause, cell, whole)
		}
	}
}

func TestAResumedHostIsSaidToTakeJobsOnlyWhenItDoes(t *testing.T) {
	t.Parallel()
	resume, drain := queue.Control{Resume: true}, queue.Control{Drain: true}
	for want, tc := range map[string]struct {
		order queue.Control
		reply queue.Reply
	}{
		"a is taking jobs": {resume, queue.Reply{State: queue.HostState{Host: "a", State: queue.Online}}},
		"a is not drained any more, but takes no job. a takes no job: ComfyUI cannot write files: its disk is full. " +
			"Make room on the disk of ComfyUI's output folder; the host takes jobs again by itself then.": {
			resume, queue.Reply{State: queue.HostState{Host: "a", State: queue.Unhealthy, Cause: failure.DiskFull}},
		},
		"a is not drained any more. a is on trial and takes one job at a time: its ComfyUI may not be able to use the GPU any more (CUDA or HIP error). " +
			"The next job of another workflow decides: when it runs well the trial is over, when it fails in the same way the host takes no more. A restart of ComfyUI ends the trial, too.": {
			resume, queue.Reply{State: queue.HostState{Host: "a", State: queue.Online, Trial: true, Cause: failure.Poisoned}},
		},
		"a is not drained any more, but takes no job. a takes no new job: the agent is shutting down.": {
			resume, queue.Reply{State: queue.HostState{Host: "a", State: queue.Draining, Reason: "the agent is shutting down"}},
		},
		"a is not drained any more; `dispatcher hosts` says whether it takes jobs": {resume, queue.Reply{State: queue.HostState{Host: "a"}}},
		"a is draining: it runs nothing and takes no job until `dispatcher hosts resume a`": {
			drain, queue.Reply{State: queue.HostState{Host: "a", State: queue.Draining}},
		},
		"a is draining: it finishes 2 jobs and takes no other until `dispatcher hosts resume a`": {
			drain, queue.Reply{State: queue.HostState{Host: "a", State: queue.Draining, Running: make([]queue.RunningJob, 2)}},
		},
		"a is draining: it runs nothing and takes no job until `dispatcher hosts resume a` (not stored yet)": {
			drain, queue.Reply{Reason: "not stored yet", State: queue.HostState{Host: "a", State: queue.Draining}},
		},
		"a refuses: the control is no JSON object": {
			drain, queue.Reply{Answer: queue.Unfit, Reason: "the control is no JSON object", State: queue.HostState{Host: "a"}},
		},
	} {
		if got := main.AfterControl(&tc.reply, tc.order); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestAClockThatIsOffByMoreThanASecondIsTold(t *testing.T) {
	t.Parallel()
	for off, want := range map[time.Duration]string{
		0: "", time.Second: "", -time.Second: "",
		time.Hour:               "The clock of gpu-1 is 1h00m ahead of that of NATS.",
		-90 * time.Second:       "The clock of gpu-1 is 1m30s behind that of NATS.",
		1001 * time.Millisecond: "The clock of gpu-1 is 1.0s ahead of that of NATS.",
	} {
		got := main.ClockWords("gpu-1", off)
		if !strings.HasPrefix(got, want) || (got == "") != (want == "") {
			t.Errorf("%v: %q, want %q", off, got, want)
		}
	}
}

func TestNoHostAtAllIsSaidWithTheReasonOfEach(t *testing.T) {
	t.Parallel()
	verdicts := func(codes ...route.Code) []route.HostVerdict {
		var all []route.HostVerdict
		for i, code := range codes {
			all = append(all, route.HostVerdict{Host: route.HostID(string(rune('a' + i))), Code: code})
		}
		return all
	}
	for want, hosts := range map[string][]route.HostVerdict{
		"": verdicts(route.CodeDrain, route.CodeBusy),
		"no host takes jobs now: a, b drained (`dispatcher hosts resume` ends that)": verdicts(route.CodeDrain, route.CodeDrain),
		"no host takes jobs now: b drained (`dispatcher hosts resume` ends that); a unhealthy (`dispatcher hosts` says what is wrong and what to do); " +
			"c offline (its agent does not run, or cannot reach NATS)": verdicts(route.CodeSick, route.CodeDrain, route.CodeOffline),
	} {
		if got := main.NoHostAccepts(hosts); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	if got := main.NoHostAccepts(nil); got != "" {
		t.Errorf("without any host: %s", got)
	}
}

func TestAHostThatServesSomeTenantsOrRestsSaysSo(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	h := queue.HostInfo{HostState: queue.HostState{Host: "a", State: queue.Online}}
	if got := main.RestWords(&h, now); got != "" {
		t.Errorf("of a host of everybody's: %q", got)
	}
	h.Tenants = []jetstream.Tenant{"acme", "bolt"}
	h.Resting = &queue.Rest{Until: now.Add(time.Minute), Why: "it has accepted a job and not begun it"}
	want := "a serves acme, bolt and no other tenant. a is given no jobs for 1m00s: it has accepted a job and not begun it. " +
		"Look at its agent's log; it takes jobs again by itself."
	if got := main.RestWords(&h, now); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
