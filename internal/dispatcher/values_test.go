package dispatcher_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// sizeless is a workflow whose pictures have no known size.
var sizeless = json.RawMessage(`{"1":{"class_type":"LoadImage","inputs":{"image":"a.png"}},"9":{"class_type":"SaveImage","inputs":{"images":["1",0],"filename_prefix":"a"}}}`)

func strikesOf(s *scene, host string, hash workflow.Hash) route.Strikes {
	return decoded(s.get(names.StrikesBucket, pairOf(host, hash)), queue.StrikesOf).Value
}

func TestAFailureForLackOfMemoryIsStoredWithTheSizesThatAreKnown(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		graph    json.RawMessage
		size     int64 // from which the block holds
		shortage route.Shortage
	}{
		"Known":   {graph(1), 64 * 64, route.Shortage{Failures: 1, Size: 64 * 64}},
		"Unknown": {sizeless, 9000, route.Shortage{Failures: 1, Unknown: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(s *scene) {
				s.dispatcher(dispatcher.Config{Policy: route.Policy{Cooldown: 5 * time.Minute, Cap: time.Hour, MaxFailures: 1}})
				a := s.runs("a", map[job.ID]outcome{"x": {kind: failure.OutOfMemory, message: "no memory"}})
				g, err := workflow.Parse(c.graph)
				if err != nil {
					t.Fatal(err)
				}
				s.pass(time.Second)
				s.broadcast(a.state(&queue.EndedJob{Tenant: "bolt", Job: "ran", Hash: g.Hash(), Size: 9000, Success: true}))
				s.pass(time.Second)
				s.submit("x", func(spec *job.Spec) { spec.Workflow, spec.MaxAttempts = c.graph, 1 })
				now := s.Now()
				s.pass(time.Second)
				failed, _, err := s.LastOf(t.Context(), "acme", "x", job.Failed)
				if err != nil {
					t.Fatal(err)
				}
				got := strikesOf(s, "a", g.Hash())
				b := decoded(s.get(names.BlocksBucket, pairOf("a", g.Hash())), queue.BlockOf).Value
				if lasts := b.Until.Sub(now); lasts <= 5*time.Minute || lasts > 5*time.Minute+30*time.Second {
					t.Errorf("it lasts %s, want 5 minutes and up to a tenth more", lasts)
				}
				want := route.Block{
					Host: "a", Hash: g.Hash(), Kind: failure.OutOfMemory, Message: "no memory", Job: "x", Tenant: "acme", Tenants: []route.Tenant{"acme"},
					Failures: 1, Size: c.size, Until: b.Until,
				}
				if diff := cmp.Diff(want, b); diff != "" {
					t.Errorf("the block: %s", diff)
				}
				strikes := route.Strikes{
					Memory: map[route.Tenant]route.Shortage{"acme": c.shortage}, Level: 1, Ran: 9000, Open: &want, Marks: []uint64{failed.ChainSequence}, Last: failed.Time,
				}
				if diff := cmp.Diff(strikes, got); diff != "" {
					t.Errorf("the strikes: %s", diff)
				}
			})
		})
	}
}

// y runs on the host since before x failed there, and completes while the block is in force.
func TestASuccessOnABlockedHostLiftsTheBlock(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{Policy: longBlocks})
		s.agent(&agent{name: "a", slots: 2, outcome: func(o *queue.Offer) outcome {
			return map[job.ID]outcome{"x": {takes: time.Second, kind: failure.ExecutionError, message: "boom"}, "y": {takes: 10 * time.Second}}[o.Job]
		}})
		s.submit("y")
		s.submit("x", func(spec *job.Spec) { spec.MaxAttempts = 1 })
		s.pass(5 * time.Second)
		s.want("block while y runs", s.get(names.BlocksBucket, pairOf("a", hashOf(t, 1))).Phase, queue.Put)
		s.pass(6 * time.Second)
		s.want("lifts", s.done("lift block"), []string{"lift block a recovered"})
		got := strikesOf(s, "a", hashOf(t, 1))
		if got.Level != 1 || got.Open != nil || len(got.Tenants) != 0 {
			t.Errorf("the strikes are %+v", got)
		}
		s.submit("z")
		s.pass(time.Second)
		s.want("the next job", s.story("z"), "queued started completed")
	})
}

// After an error another host may have the job at once; what is no fault of the host is tried again later, wherever that is.
func TestARetryTellsWhenAndWhereItIsTriedAgain(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{Policy: route.Policy{MaxFailures: 9}})
		s.runs("a", map[job.ID]outcome{"x": {kind: failure.ExecutionError, message: "boom"}, "y": {kind: failure.Transient, message: "not now"}})
		now := s.Now()
		s.submit("x", func(spec *job.Spec) { spec.RetryDelay = job.Duration(40 * time.Second) })
		s.submit("y", func(spec *job.Spec) { spec.Workflow, spec.RetryDelay = graph(2), job.Duration(20*time.Second) })
		s.pass(time.Second)
		retries := map[job.ID]queue.Link{}
		for _, id := range []job.ID{"x", "y"} {
			e, found, err := s.LastOf(t.Context(), "acme", id, job.Retrying)
			if err != nil || !found || e.Attempt != 2 || e.Sequence == 0 || e.NotBefore == nil {
				t.Fatalf("%s: %+v, %v", id, e, err)
			}
			retries[id] = e
		}
		x, y := retries["x"], retries["y"]
		if !x.NotBefore.Equal(now) || !slices.Equal(x.AvoidedHosts, []string{"a"}) || x.AvoidUntil == nil || x.AvoidUntil.Sub(now) < 40*time.Second || x.AvoidUntil.Sub(now) > 50*time.Second {
			t.Errorf("x: %+v", x)
		}
		if wait := y.NotBefore.Sub(now); wait < 20*time.Second || wait > 25*time.Second || len(y.AvoidedHosts) > 0 || y.AvoidUntil != nil {
			t.Errorf("y waits %s: %+v", wait, y)
		}
		for _, ticket := range s.tickets() {
			if e := retries[ticket.Job]; ticket.Attempt != 2 || !ticket.NotBefore.Equal(*e.NotBefore) || ticket.Size != 64*64 {
				t.Errorf("the ticket is %+v", ticket)
			}
		}
		s.want("tickets", len(s.tickets()), 2)
	})
}

// failedOn stores that an attempt has begun and failed, as an agent does.
func (s *scene) failedOn(id job.ID, sequence uint64, attempt int, edit func(*job.Event)) {
	s.t.Helper()
	s.goOn(id, job.Started, func(e *job.Event) { e.Host, e.Attempt = "a", attempt; edit(e) })
	s.goOn(id, job.Failed, func(e *job.Event) { e.Host, e.Attempt = "a", attempt; edit(e) })
	s.mu.Lock()
	s.events[len(s.events)-1].Lease = leaseOf(int(sequence), 1)
	s.mu.Unlock()
}

// begunBefore has a job delivered and its chain begin, before there is a dispatcher.
func (s *scene) begunBefore(id job.ID) (sequence uint64) {
	s.t.Helper()
	sequence = s.submit(id)
	s.deliver(job.Usual)
	s.goOn(id, job.Queued, func(e *job.Event) { e.Sequence, e.Hash = sequence, hashOf(s.t, 1) })
	return sequence
}

func TestADeadJobTellsOfItsLastAttemptAndOfWhoRefusedIt(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		sequence := s.begunBefore("x")
		s.failedOn("x", sequence, 1, func(e *job.Event) { e.Host, e.Kind, e.Message = "b", failure.Refused, "will not" })
		s.goOn("x", job.Retrying, func(e *job.Event) { e.Attempt = 2 })
		s.failedOn("x", sequence, 2, func(e *job.Event) {
			e.Kind, e.Message, e.Node, e.Class, e.Exception = failure.InvalidWorkflow, "bad value", "3", "KSampler", "ValueError"
		})
		s.dispatcher(dispatcher.Config{})
		s.pass(time.Second)
		got := s.lastOf("x")
		if got.EventKind != job.Dead || got.Reason != "not_retryable" || got.Kind != failure.InvalidWorkflow || got.Host != "a" || got.Attempt != 2 ||
			got.Node != "3" || got.Class != "KSampler" || got.Exception != "ValueError" || got.Message != "bad value" || got.Sequence != sequence {
			t.Errorf("the end is %+v", got)
		}
		if diff := cmp.Diff(map[string]string{"b": "will not"}, got.Hosts); diff != "" || len(got.Attempts) != 2 || got.Attempts[0].Host != "b" {
			t.Errorf("%+v: %s", got.Attempts, diff)
		}
		s.want("jobs", s.left(), 0)
		s.want("letters", len(s.letters), 1)
	})
}

func TestAJobThatWasRemovedByHandEndsWithItsFailure(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		sequence := s.begunBefore("x")
		s.failedOn("x", sequence, 1, func(e *job.Event) { e.Kind, e.Message = failure.ExecutionError, "boom" })
		s.remove(sequence)
		s.dispatcher(dispatcher.Config{})
		s.pass(2 * settleWait)
		s.want("chain", s.story("x"), "queued started failed dead:not_retryable")
		if got := s.lastOf("x"); len(got.Attempts) != 1 || got.Attempts[0].Message != "boom" || got.Host != "a" || !got.Time.Equal(s.begun) {
			t.Errorf("the end is %+v", got)
		}
	})
}

func TestAStartedJobIsGivenBackAsTheAttemptThatItWas(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		sequence := s.begunBefore("x")
		started := s.goOn("x", job.Started, func(e *job.Event) { e.Host, e.Attempt = "a", 3 })
		var offers []queue.Offer
		s.host("a", func(o *queue.Offer) (queue.Reply, error) {
			offers = append(offers, *o)
			return queue.Reply{Answer: queue.NotThere, Reason: "it is not here"}, nil
		})
		s.dispatcher(dispatcher.Config{Policy: route.Policy{MaxFailures: 9}})
		s.pass(ackWait + time.Second)
		if len(offers) == 0 {
			t.Fatal("it was not offered")
		}
		o := offers[0]
		if !o.Resume || o.Attempt != 3 || o.LastInChain != started || o.Lease != leaseOf(int(sequence), 2) || o.Job != "x" || o.Hash != hashOf(t, 1) || o.AckWait != ackWait {
			t.Errorf("the offer is %+v", o)
		}
		lost, _, err := s.LastOf(t.Context(), "acme", "x", job.Failed)
		if err != nil || lost.Kind != failure.Lost || lost.Host != "a" || lost.Attempt != 3 || lost.Counted == nil || !*lost.Counted {
			t.Errorf("the attempt that is lost: %+v, %v", lost, err)
		}
		retrying, _, err := s.LastOf(t.Context(), "acme", "x", job.Retrying)
		if err != nil || retrying.Attempt != 4 {
			t.Errorf("the next attempt: %+v, %v", retrying, err)
		}
	})
}

// The newest event of a job that waits for long is renewed when half of the time is over for which events are kept.
func TestTheChainOfAJobThatWaitsForVeryLongIsRenewed(t *testing.T) {
	t.Parallel()
	for age, want := range map[time.Duration]string{
		eventsAge/2 - time.Minute: "queued waiting:none_capable", eventsAge/2 + time.Minute: "queued waiting:none_capable waiting:none_capable",
	} {
		inBubble(t, func(s *scene) {
			sequence := s.begunBefore("x")
			s.goOn("x", job.Waiting, func(e *job.Event) { e.Reason, e.Time = "none_capable", s.Now().Add(ackWait-age) })
			s.dispatcher(dispatcher.Config{})
			s.pass(ackWait + time.Second)
			s.want("chain", s.story("x"), want)
			if got := s.lastOf("x"); got.EventKind != job.Waiting || got.Reason != "none_capable" {
				t.Errorf("the last event is %+v", got)
			}
			s.want("ticket", s.tickets()[0].Sequence, sequence)
		})
	}
}

// A dispatcher that was frozen puts the ticket of a job that runs by now.
func TestATicketOfAJobThatRunsIsGivenToNobody(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]job.EventKind{"Started": job.Started, "Failed": job.Failed} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(s *scene) {
				sequence := s.begunBefore("x")
				s.goOn("x", job.Started, func(e *job.Event) { e.Host, e.Attempt = "a", 1 })
				if end == job.Failed {
					s.settles.looked = 99 // another dispatcher settles it
					s.goOn("x", job.Failed, func(e *job.Event) { e.Host, e.Attempt, e.Kind = "a", 1, failure.ExecutionError })
				}
				s.putTicket("x", sequence)
				s.runs("b", nil)
				s.dispatcher(dispatcher.Config{})
				s.pass(ackWait / 2)
				s.want("offers", len(s.done("offer")), 0)
			})
		})
	}
}

func TestTheHomeOfAHostHasItsAgentBeQuietForAMoment(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		var quiet []time.Duration
		accepts := s.accepts("a")
		s.host("a", func(o *queue.Offer) (queue.Reply, error) {
			quiet = append(quiet, o.Quiet)
			return accepts(o)
		})
		s.submit("x")
		s.pass(time.Second)
		if len(quiet) != 1 || quiet[0] <= 0 || quiet[0] > 50*time.Millisecond {
			t.Errorf("the agent may be quiet for %v", quiet)
		}
	})
}
