package integration_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/jetstream"
)

// What the first system of this kind got wrong. Its other mistakes are tests where they belong: a threshold above
// one (ThreeFailuresAreNeeded), the unblocked event and what waits for it (AFailingPairIsBlocked), user errors and
// cancels (WhatIsNoFaultOfAHost), refused connections and missing nodes (failover), timeouts (EveryKindOfFailure),
// slow accepts (ASubmitWhoseAnswerIsLost), cached jobs (APromptThatIsOver), ids given twice (AnIdPublishedTwice),
// node_errors in a 200 (EveryKindOfFailure), error objects (EveryRecordedRefusal in internal/comfy), the waiting room
// beyond its first hundred (AJobForAnIdleHostPasses), load on the first host only (JobsOfDifferentHashesSpread), two
// ends of one job (every test's invariants), memory and a line's cost (AnEmptyRoomGivesBack and AJobsCostDoesNotGrow
// in internal/route).

func TestAHostThatComesBackWakesWhatWaitsForIt(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 2, hosts: names("a", "b"), jetstream: shortLeases()})
	f.sims["a"].Kill()
	f.wantOut("a", true) // before the job comes: its failure would block it there
	r := f.submit("acme", onlyOn("a", picture(1)))
	f.await(r, job.Waiting)
	if err := f.sims["a"].Restart(); err != nil {
		t.Fatal(err)
	}
	if end := f.end(r); end.EventKind != job.Completed || end.Host != "a" {
		t.Errorf("ended %s on %s: %s", end.EventKind, end.Host, end.Message)
	}
}

func TestOneBadJobBlocksItsGraphForNobodyElse(t *testing.T) {
	t.Parallel()
	hosts := painters("a", "b")
	for i := range hosts {
		hosts[i].Faults = []comfysim.Fault{{Kind: comfysim.FaultRaise, Text: "unlucky", Exception: "ValueError"}}
	}
	f := start(t, setup{dispatchers: 2, hosts: hosts})
	if end := f.end(f.submit("acme", job.Spec{Workflow: paint(checkpoint, "unlucky", 1)})); end.Reason != string(failure.WorkflowFault) {
		t.Errorf("the bad job ended %s, %s", end.EventKind, end.Reason)
	}
	for _, tenant := range []string{"umbrella", "acme"} {
		for _, host := range []string{"a", "b"} {
			if end := f.end(f.submit(tenant, onlyOn(host, paint(checkpoint, "lucky", 2)))); end.EventKind != job.Completed {
				t.Errorf("a good job of %s on %s ended %s: %s", tenant, host, end.EventKind, end.Message)
			}
		}
	}
}

func TestAnotherPromptsEndIsNotMine(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 1, hosts: names("a")})
	f.sims["a"].AddFault(comfysim.Fault{Kind: comfysim.FaultBacklog, Count: 1, For: 500 * time.Millisecond})
	var jobs []jetstream.Receipt
	for color := range 4 {
		jobs = append(jobs, f.submit("acme", job.Spec{Workflow: sleep(0x010101*(color+1), 0.2)}))
	}
	for color, r := range jobs {
		f.wantPicture(f.end(r), rgb(0x010101*(color+1)))
	}
}

func TestEveryDroppedOrDeafSocketIsRepairedAndNotOnlyTheFirst(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 1, hosts: []comfysim.Config{{Name: "a", Faults: []comfysim.Fault{{Kind: comfysim.FaultDeaf, Every: 2, Times: 2}}}}})
	for n := range 3 {
		f.wantPicture(f.end(f.submit("acme", job.Spec{Workflow: sleep(n, 0.1)})), rgb(n))
		f.sims["a"].Kill()
		if err := f.sims["a"].Restart(); err != nil {
			t.Fatal(err)
		}
		f.waitSim("a", func() bool { return f.sims["a"].Sockets() > 0 })
	}
	f.wantPicture(f.end(f.submit("acme", job.Spec{Workflow: sleep(9, 0.1)})), rgb(9))
}

// No limit is anywhere near, so that only the death itself can be what is noticed.
func TestTheDeathOfAHostIsNoticedWithoutAnyTimeout(t *testing.T) {
	t.Parallel()
	f := start(t, setup{
		dispatchers: 2, hosts: names("a", "b"), jetstream: queue.Config{AckWait: time.Hour, PresenceTTL: time.Hour},
		agent: agent.Config{StartTimeout: -1, NodeTimeout: -1, FreezeTimeout: time.Hour},
	})
	r := f.submit("acme", job.Spec{Workflow: sleep(0x123456, 1), PreferHosts: []string{"a"}})
	f.await(r, job.Started)
	f.awaitRun("a")
	f.sims["a"].Kill()
	chain := f.chain(r)
	if got, want := story(chain), "queued started@a failed@a retrying started@b completed@b"; got != want {
		t.Errorf("chain is %q, want %q", got, want)
	}
	f.wantPicture(chain[5], rgb(0x123456))
}

func TestAMissedCooldownEndStillLiftsTheBlock(t *testing.T) {
	t.Parallel()
	f := start(t, setup{hosts: []comfysim.Config{{Name: "a", Faults: []comfysim.Fault{{Kind: comfysim.FaultRaise, Times: 1}}}}, jetstream: shortLeases()})
	policy := dispatcher.Config{Policy: route.Policy{Cooldown: 2 * time.Second, Cap: 2 * time.Second, MaxFailures: 1}}
	_, kill := f.dispatcher(policy)
	blocks := f.subscribe("comfy.events.blocks.a.*.*")
	r := f.submit("acme", job.Spec{Workflow: picture(1), RetryDelay: job.Duration(time.Millisecond)})
	blockIn(t, f.next(blocks))
	kill() // nobody is there to hear the end of the block
	key := "$KV.COMFY_BLOCKS.a." + string(hashOf(t, picture(1)))
	f.eventually("the end of the block", func() bool {
		m := f.stored("KV_COMFY_BLOCKS", key)
		return m != nil && m.Header.Get("Nats-Marker-Reason") == "MaxAge"
	})
	f.dispatcher(policy)
	if cause := causeIn(t, f.next(blocks)); cause != queue.Expired {
		t.Errorf("unblocked because of %s, want expired", cause)
	}
	if end := f.end(r); end.EventKind != job.Completed {
		t.Errorf("ended %s: %s", end.EventKind, end.Message)
	}
}

func TestMemoryIsGivenBackAfterEveryOutOfMemory(t *testing.T) {
	t.Parallel()
	f := start(t, setup{})
	f.sim(comfysim.Config{Name: "a", Faults: []comfysim.Fault{{Kind: comfysim.FaultOOM, Times: 2}}})
	proxy := f.spy(f.sims["a"].URL())
	f.agent("a", proxy.URL, agent.Config{})
	f.awaitPresence(1)
	f.dispatcher(dispatcher.Config{Policy: route.Policy{Cooldown: time.Second, Cap: time.Second, MaxFailures: 1}})
	for n := range 2 {
		end := f.end(f.submit("acme", job.Spec{ID: job.ID(fmt.Sprint("big-", n)), Workflow: inverted(n, n), MaxAttempts: 1}))
		if end.Kind != failure.OutOfMemory || proxy.count("POST /free") != n+1 {
			t.Errorf("job %d ended %s; /free was called %d times", n, end.Kind, proxy.count("POST /free"))
		}
	}
}
