package agent

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// Dispatchers free what they keep for a job by this kind, and expect a failed event when there is one.
func TestTheEndOfARunIsToldWithTheKindOfTheEventThatFollows(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err   error
		kind  failure.Kind
		cause failure.Cause
	}{
		"Completed": {nil, "", ""}, "JobEnded": {&jobEnded{job.Cancelled}, "", ""}, "Overtaken": {&overtaken{}, "", ""}, "Abandoned": {abandoned{}, "", ""},
		"Stopping": {agentStopping{}, failure.Drained, ""}, "Displaced": {&displaced{failure.Stuck, "it hangs"}, failure.HostSick, failure.Stuck},
		"Raised": {failure.New(failure.ExecutionError, "x"), failure.ExecutionError, ""},
	} {
		if got := endedAs(c.err); got != c.kind {
			t.Errorf("%s: it ended as %q, want %q", name, got, c.kind)
		}
		if c.kind == "" {
			continue
		}
		if f := failureOf(c.err); f.Kind != c.kind || f.Cause != c.cause || f.Proven != (c.cause != "") || f.Message == "" {
			t.Errorf("%s: the failure is %+v", name, f)
		}
	}
}

func TestAnAttemptIsOverUnlessItsEndCouldNotBeStored(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  error
		over bool
	}{
		"GoneOn": {&overtaken{queue.Link{Event: job.Event{EventKind: job.Started}}}, true}, "Abandoned": {abandoned{}, false},
	} {
		h := ailing(&probedHost{})
		h.meters = newMetrics().of("gpu")
		if over := h.conclude(t.Context(), &attempt{run: newRun(&queue.Offer{Job: "one"}, "p", time.Time{}, nil)}, c.err); over != c.over {
			t.Errorf("%s: it is over: %t", name, over)
		}
	}
}

// A dead worker thread is believed only of a log that was read.
func TestWhyAPromptDoesNotStopIsReadInTheLog(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		host probedHost
		want failure.Cause
	}{
		"Dead":   {probedHost{sick: failure.WorkerGone}, failure.WorkerGone},
		"Silent": {probedHost{}, failure.Stuck},
		"Unread": {probedHost{sick: failure.WorkerGone, unread: errors.New("no log")}, failure.Stuck},
	} {
		h := ailing(&c.host)
		if got, reason := h.whyNotStopped(t.Context(), errors.New("it goes on")); got != c.want || (reason == "the log says so") != (c.want == failure.WorkerGone) {
			t.Errorf("%s: it is %s, since %s", name, got, reason)
		}
	}
}

// The reason may tell what another tenant's job did.
func TestOnlyTheTenantOfTheFailedRunReadsWhyOthersMustLeave(t *testing.T) {
	t.Parallel()
	sign := "the host can run nothing now: " + failure.Stuck.Remedy().Sign
	for name, c := range map[string]struct {
		by               bool
		ofAcme, ofOthers string
	}{"ByARun": {true, "it hangs", sign}, "ByNone": {false, sign, sign}} {
		told := map[job.ID]string{}
		ofTenant := func(tenant string, id job.ID) *run {
			o := queue.Offer{Job: id, Message: job.Message{Tenant: tenant}}
			return newRun(&o, string(id), time.Time{}, func(err error) { told[id] = err.Error() })
		}
		h := ailing(&probedHost{})
		first := ofTenant("acme", "first")
		h.admission.runs = []*run{first, ofTenant("acme", "second"), ofTenant("other", "third")}
		by := first
		if !c.by {
			by = nil
		}
		h.displace(by, failure.Stuck, "it hangs")
		if _, stopped := told["first"]; stopped == c.by || told["second"] != c.ofAcme || told["third"] != c.ofOthers {
			t.Errorf("%s: the runs were told %q", name, told)
		}
	}
}

func TestWhatAHostIsOutForNamesTheProcessAndTheRunThatItIsTiedTo(t *testing.T) {
	t.Parallel()
	for _, cause := range failure.Causes() {
		tied := slices.Contains([]failure.Cause{failure.WorkerGone, failure.Poisoned, failure.Stuck, failure.Down}, cause)
		h := ailing(&probedHost{})
		process := "7"
		h.process.Store(&process)
		h.probeNow = make(chan struct{}, 1)
		h.takeOut(newRun(&queue.Offer{Job: "one"}, "p", time.Time{}, nil), condition{cause: cause, reason: "x"})
		c := h.admission.conditions.of(cause)
		if len(h.beatNow) != 1 || len(h.probeNow) != 1 {
			t.Errorf("%s: it is not stored and probed at once", cause)
		}
		if c == nil || c.trial || c.since.IsZero() || c.reason != "x" || (c.process == "7") != tied || (c.blame != nil) != tied {
			t.Errorf("%s: the condition is %+v", cause, c)
		}
	}
}

// What an agent that is killed has asked may have failed for that.
func TestAnAgentThatIsKilledProvesNothingOfItsHost(t *testing.T) {
	t.Parallel()
	killed, kill := context.WithCancel(t.Context())
	kill()
	goesOn := errors.New("it goes on")
	for name, f := range map[string]*failure.Failure{"Refused": failure.New(failure.Refused, "no"), "Timeout": failure.New(failure.Timeout, "slow")} {
		h := ailing(&probedHost{barred: goesOn, stays: map[string]error{"p": goesOn}})
		a := &attempt{run: newRun(&queue.Offer{Job: "one"}, "p", time.Time{}, nil)}
		if got := h.consequences(killed, a, f); got.Kind != f.Kind || got.Proven || len(h.admission.conditions) > 0 {
			t.Errorf("%s: the failure is %+v, and the host has %+v", name, got, h.admission.conditions)
		}
	}
}

// found is a ComfyUI that says where a prompt is.
type found struct {
	probedHost
	state comfy.PromptState
	err   error
}

func (f *found) Find(context.Context, string) (comfy.PromptState, error) { return f.state, f.err }

// A POST that was cut off may still arrive.
func TestAPromptThatIsNotThereIsStoppedALittleLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for name, c := range map[string]struct {
			comfy found
			want  time.Duration
		}{
			"Unknown": {found{state: comfy.Unknown}, 200 * time.Millisecond}, "Running": {found{state: comfy.Running}, 0},
			"Unanswered": {found{state: comfy.Unknown, err: errors.New("connection refused")}, 0},
		} {
			var after time.Duration
			begun := time.Now()
			c.comfy.stop = func() { after = time.Since(begun) }
			h := ailing(&c.comfy.probedHost)
			h.comfy, h.cfg.CancelTimeout = &c.comfy, time.Minute
			if err := h.cancel(t.Context(), &run{prompt: "p"}); err != nil || after != c.want || len(c.comfy.cancelled) != 1 {
				t.Errorf("%s: it was stopped after %s, want %s: %v", name, after, c.want, err)
			}
		}
	})
}

func TestOnlyARunThatSentSomethingIsStoppedInComfyUI(t *testing.T) {
	t.Parallel()
	ended, away, stopping, moved := &jobEnded{job.Cancelled}, &displaced{failure.Stuck, "it hangs"}, agentStopping{}, &overtaken{}
	for _, c := range []struct {
		err     error
		cancels int
		out     bool // a prompt that goes on takes the host out
	}{{ended, 1, true}, {away, 1, true}, {stopping, 1, true}, {moved, 0, false}} {
		for _, stays := range []error{nil, errors.New("it goes on")} {
			p := &probedHost{stays: map[string]error{"p": stays}}
			h := ailing(p)
			h.cfg.CancelTimeout = time.Minute
			got := h.handleError(t.Context(), &attempt{run: newRun(&queue.Offer{Job: "one"}, "p", time.Time{}, nil)}, c.err)
			if !errors.Is(got, c.err) || len(p.cancelled) != c.cancels || h.admission.conditions.of(failure.Stuck) != nil != (c.out && stays != nil) {
				t.Errorf("%v: it is reported as %v after %d cancels; the host has %+v", c.err, got, len(p.cancelled), h.admission.conditions)
			}
		}
	}
}

func TestResultsFromTheCacheEndNoTrial(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		hash   workflow.Hash
		reused bool
		ended  bool
	}{"Made": {"b", false, true}, "Reused": {"b", true, false}, "OfTheSameWorkflow": {"a", false, false}} {
		h := ailing(&probedHost{})
		h.admission.conditions.failedAlike(condition{cause: failure.Poisoned}, "a")
		a := &attempt{run: &run{offer: &queue.Offer{Hash: c.hash}}, running: time.Now(), result: &comfy.Result{OutputsReused: c.reused}}
		h.passed(a)
		if ended := !h.admission.has(failure.Poisoned); ended != c.ended || (len(h.beatNow) == 1) != c.ended {
			t.Errorf("%s: the trial has ended: %t; %d beats are due", name, ended, len(h.beatNow))
		}
	}
}

// What the next agent restores is the trial, and then the proof.
func TestATrialSaysThatItIsOneUntilItIsProven(t *testing.T) {
	t.Parallel()
	h := ailing(&probedHost{})
	for _, step := range []struct {
		hash workflow.Hash
		want string
	}{
		{"a", "on trial: the next job of another workflow decides whether ComfyUI must be restarted: CUDA error"},
		{"b", "two workflows failed alike, so that ComfyUI's GPU context is unusable until ComfyUI is restarted: CUDA error"},
	} {
		h.putOnTrial(newRun(&queue.Offer{Job: "one", Hash: step.hash}, "p", time.Time{}, nil), &failure.Failure{Kind: failure.HostSick, Cause: failure.Poisoned, Message: "CUDA error"})
		c := h.admission.conditions.of(failure.Poisoned)
		if c.reason != step.want || c.since.IsZero() || c.blame == nil || len(h.beatNow) != 1 {
			t.Errorf("after %s the condition is %+v", step.hash, c)
		}
		<-h.beatNow
	}
}

// still is a clock that stands.
type still struct{}

func (still) Now() time.Time          { return time.Time{} }
func (still) ClockOff() time.Duration { return 0 }

// The lease loop sleeps for a third of the shortest AckWait that it knew.
func TestAShorterLeaseThanTheLoopKnowsIsExtendedAtOnce(t *testing.T) {
	t.Parallel()
	const third = 10 * time.Second
	for wait, want := range map[time.Duration]bool{3*third - 3: true, 3 * third: false, 3*third + 3: false} {
		h := ailing(&probedHost{})
		h.admission.clock, h.meters, h.extendNow = still{}, newMetrics().of("gpu"), make(chan struct{}, 1)
		h.extendEvery.Store(int64(third))
		o := &queue.Offer{Job: "one", Attempt: 1, AckWait: wait}
		h.admission.runs = []*run{newRun(o, "p", time.Time{}, nil)}
		var answer queue.Answer
		h.decide(t.Context(), o, "p", func(r queue.Reply) { answer = r.Answer })
		if answer != queue.Accepted || (len(h.extendNow) == 1) != want {
			t.Errorf("an AckWait of %s: %s, and it is extended at once: %t", wait, answer, !want)
		}
		h.decide(t.Context(), &queue.Offer{Job: "two", AckWait: 1}, "q", func(r queue.Reply) { answer = r.Answer })
		if answer != queue.Drain || (len(h.extendNow) == 1) != want {
			t.Errorf("a refused offer has leases extended; it was answered %s", answer)
		}
	}
}

func TestATimeoutThatAJobLeavesOutIsTheAgents(t *testing.T) {
	t.Parallel()
	h := &host{cfg: Config{StartTimeout: time.Minute, NodeTimeout: 10 * time.Minute, TotalTimeout: time.Hour}}
	second := job.Duration(time.Second)
	if start, node, total := h.limits(&job.Timeouts{Node: &second}); start != time.Minute || node != time.Second || total != time.Hour {
		t.Errorf("the limits are %s, %s and %s", start, node, total)
	}
}

// An attempt whose wait ends first has failed for an unknown reason, which counts.
func TestRunsAreToldThatTheAgentStopsBeforeTheirWaitsEnd(t *testing.T) {
	t.Parallel()
	h := &host{admission: newAdmission(queue.HostState{}, nil), overdue: make(chan struct{})}
	told := 0
	stopped := newRun(&queue.Offer{Job: "one"}, "p", time.Time{}, func(err error) {
		told++
		select {
		case <-h.overdue:
			t.Error("the waits have ended already")
		default:
		}
		if !errors.Is(err, agentStopping{}) {
			t.Errorf("it was told: %v", err)
		}
	})
	stored := newRun(&queue.Offer{Job: "two"}, "q", time.Time{}, func(error) { t.Error("a run that ComfyUI has done was stopped") })
	stored.reporting.Store(true)
	h.admission.runs = []*run{stored, stopped}
	if h.giveBack(); told != 1 {
		t.Errorf("it was told %d times", told)
	}
	if err := h.wait(t.Context(), time.Hour, nil); !errors.Is(err, abandoned{}) {
		t.Errorf("a wait for NATS ends with %v", err)
	}
}

// The host may have been looked at last while the prompt was stuck.
func TestAHostIsLookedAtOnceAPromptThatTookTooLongHasStopped(t *testing.T) {
	t.Parallel()
	h := ailing(&probedHost{})
	h.cfg.CancelTimeout, h.probeNow = time.Minute, make(chan struct{}, 1)
	a := &attempt{run: newRun(&queue.Offer{Job: "one"}, "p", time.Time{}, nil)}
	if h.consequences(t.Context(), a, failure.New(failure.Timeout, "slow")); len(h.probeNow) != 1 {
		t.Error("it is not looked at")
	}
}

// An offer may be answered still when the host ends. What it would have sent would be waited for too late.
func TestNoBroadcastBecomesDueWhenTheHostHasEnded(t *testing.T) {
	t.Parallel()
	h := &host{}
	h.broadcastWithin(time.Hour)
	if h.pendingBroadcast.due.IsZero() {
		t.Error("no broadcast is due before the end")
	}
	h.pendingBroadcast.end(&h.work)
	h.broadcastWithin(time.Hour)
	if due := h.pendingBroadcast.due; !due.IsZero() {
		t.Fatalf("a broadcast is due at %v after the end", due)
	}
	h.work.Wait()
}
