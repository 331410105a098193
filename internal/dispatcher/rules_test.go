package dispatcher_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

func TestARuleHoldsUntilItIsRemoved(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.runs("a", nil)
		operator[queue.AffinityAnswer](s, "affinity", queue.AffinityRequest{Hash: hashOf(t, 1), Exclude: []string{"a"}})
		s.submit("x")
		s.pass(time.Second)
		s.want("while the host is excluded", s.story("x"), "queued waiting:excluded")
		operator[queue.AffinityAnswer](s, "affinity", queue.AffinityRequest{Hash: hashOf(t, 1), Remove: true})
		s.pass(time.Second)
		s.want("afterwards", s.story("x"), "queued waiting:excluded started completed")
	})
}

func TestAGrantHoldsUntilItIsRemoved(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.runs("a", nil)
		s.pass(time.Second)
		s.grant("a", queue.HostGrant{Tenants: []job.Tenant{"bolt"}, Time: s.Now()})
		s.pass(time.Second)
		s.submit("x")
		s.pass(time.Second)
		s.want("while the host serves others", s.story("x"), "queued waiting:other_tenants")
		s.set(names.GrantsBucket, "a", nil, -1)
		s.pass(time.Second)
		s.want("afterwards", s.story("x"), "queued waiting:other_tenants started completed")
		s.want("whom it serves", len(operator[queue.HostsAnswer](s, "hosts", nil).Hosts[0].Tenants), 0)
	})
}

func TestSettingsOfATenantHoldUntilTheyAreRemoved(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.allow("acme", queue.TenantSettings{Weight: 1, MaxRunning: 1, MaxUnfinished: 2})
		s.dispatcher(dispatcher.Config{})
		for _, host := range []string{"a", "b", "c"} {
			s.host(host, s.accepts(host))
		}
		for _, id := range []job.ID{"x", "y", "z"} {
			s.submit(id)
			s.pass(time.Second)
		}
		s.want("one runs, and one is too many", s.story("x")+", "+s.story("y")+", "+s.story("z"), "queued started, queued waiting:over_cap, dead:over_quota")
		s.set(names.TenantsBucket, "acme", nil, -1)
		s.pass(2 * time.Second)
		s.want("without the cap", s.story("y"), "queued waiting:over_cap started")
		s.submit("more")
		s.pass(time.Second)
		s.want("without the quota", s.story("more"), "queued started")
	})
}

func TestManyWaitingJobsAreListedInPagesThatHaveRoom(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		const n = 60
		for i := range n {
			s.submit(job.ID(fmt.Sprintf("job-%02d", i)), func(spec *job.Spec) { spec.Name = strings.Repeat("name ", 20) })
		}
		s.pass(5 * time.Second)
		var ids []string
		pages := 0
		for r := (jetstream.WaitingRequest{}); ; pages++ {
			a := operator[jetstream.WaitingAnswer](s, "waiting", r)
			for i := range a.Waiting {
				ids = append(ids, string(a.Waiting[i].Job))
				s.want("place", a.Waiting[i].Place, len(ids))
			}
			if r.After = a.Next; a.Next == 0 {
				break
			}
		}
		if len(ids) != n || ids[0] != "job-00" || ids[n-1] != "job-59" || pages < 2 {
			t.Errorf("%d jobs in %d more pages: %q", len(ids), pages, ids)
		}
	})
}

func TestWhyOfAJobThatDoesNotWaitSaysHowItStands(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		for _, id := range []job.ID{"runs", "done", "dead", "cancelled", "failed"} {
			s.goOn(id, job.Queued)
		}
		s.goOn("runs", job.Started, func(e *job.Event) { e.Host = "a" })
		s.goOn("done", job.Completed, func(e *job.Event) { e.Host = "a" })
		s.goOn("dead", job.Dead, func(e *job.Event) { e.Reason, e.Message = "expired", "too late" })
		s.goOn("cancelled", job.Cancelled, func(e *job.Event) { e.By = "ann" })
		s.settles.looked = len(s.events) + 1 // no dispatcher settles the failure
		s.goOn("failed", job.Failed, func(e *job.Event) { e.Host = "a" })
		for id, want := range map[job.ID]string{
			"runs": "started: it runs on host a", "done": "completed: it has completed on host a", "dead": "dead: it is dead (expired): too late",
			"cancelled": "cancelled: it was cancelled by ann", "failed": "failed: it is failed",
		} {
			a := operator[jetstream.WhyAnswer](s, "why", jetstream.WhyRequest{Tenant: "acme", Job: id})
			s.want("why of "+string(id), fmt.Sprintf("%s: %s", a.State, a.Text), want)
			s.want("hosts of "+string(id), a.Hosts != nil && len(a.Hosts) == 0 && a.Job == id, true)
		}
	})
}

// The text that an agent gives may describe how a job of somebody failed.
func TestWhyTellsOperatorsWhyAHostTakesNoJobs(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		state := func(host string, edit func(*queue.HostState)) {
			x := queue.HostState{Host: host, Instance: "i", Serial: 1, State: queue.Online, Slots: 1, Time: s.Now()}
			edit(&x)
			s.beat(x)
		}
		state("sick", func(x *queue.HostState) { x.State, x.Cause, x.Reason = queue.Unhealthy, "vram", "no memory is left" })
		state("drains", func(x *queue.HostState) { x.State, x.Reason = queue.Draining, "for the night" })
		state("tried", func(x *queue.HostState) { x.Trial, x.Cause, x.Reason = true, "vram", "it had no memory" })
		state("well", func(x *queue.HostState) {})
		s.pass(time.Second)
		texts := func(d func(jetstream.WhyRequest) jetstream.WhyAnswer) map[string]string {
			all := map[string]string{}
			a := d(jetstream.WhyRequest{Workflow: graph(1)})
			for _, v := range a.Hosts {
				all[string(v.Host)] = v.Text
			}
			return all
		}
		operators := texts(func(r jetstream.WhyRequest) jetstream.WhyAnswer { return operator[jetstream.WhyAnswer](s, "why", r) })
		tenants := texts(func(r jetstream.WhyRequest) jetstream.WhyAnswer {
			return answered[jetstream.WhyAnswer](s, "acme", "why", r)
		})
		for host, parts := range map[string][2]string{
			"sick": {" (vram): no memory is left", " (vram)"}, "drains": {": for the night", ""},
			"tried": {
				"; on trial (vram): it takes one job at a time, and the next of another workflow decides: it had no memory",
				"; on trial (vram): it takes one job at a time, and the next of another workflow decides",
			},
		} {
			if !strings.HasSuffix(operators[host], parts[0]) || !strings.HasSuffix(tenants[host], parts[1]) || strings.Contains(tenants[host], "memory") || strings.Contains(tenants[host], "night") {
				t.Errorf("%s: operators get %q, tenants %q", host, operators[host], tenants[host])
			}
		}
		if strings.Contains(operators["well"], "(") || len(operators) != 4 {
			t.Errorf("%q", operators)
		}
	})
}

// Lanes take turns by the GPU-seconds that they have used lately.
func TestWhoHasUsedLessOfTheFleetIsNext(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.agent(&agent{name: "a", outcome: func(*queue.Offer) outcome { return outcome{takes: 10 * time.Second} }})
		for _, id := range []job.ID{"first", "second", "third"} {
			s.submit(id)
			s.pass(time.Second)
		}
		s.submitAs("bolt", job.Usual, "late")
		s.pass(8 * time.Second)
		s.want("offers", s.done("offer"), []string{"offer first to a", "offer late to a"})
	})
}

func TestAHostWhosePresenceIsRemovedIsGoneAtOnce(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.agent(&agent{name: "a"})
		s.pass(time.Second)
		s.want("known", s.main.Knows("a"), true)
		s.vanish("a")
		s.pass(time.Second)
		s.want("known afterwards", s.main.Knows("a"), false)
		s.want("announced", s.done("announce"), []string{"announce a offline"})
	})
}

func TestAJobThatNoHostCanRunWaitsForFiveMinutes(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.host("a", s.accepts("a"))
		s.can("a", "Other")
		s.pass(time.Second)
		s.submit("x")
		s.pass(4*time.Minute + 50*time.Second)
		s.want("chain before", s.story("x"), "queued waiting:none_capable")
		s.pass(20 * time.Second)
		s.want("chain", s.story("x"), "queued waiting:none_capable dead:no_capable_host")
	})
}

func TestOneHostIsListedWithItsAttemptsAndHowBusyItWas(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.runs("a", nil)
		s.pass(time.Second)
		for n, id := range []job.ID{"x", "y"} {
			s.submit(id, func(spec *job.Spec) { spec.Workflow = graph(n) })
			s.pass(time.Second)
		}
		one := operator[queue.HostsAnswer](s, "hosts", queue.HostsRequest{Host: "a", Attempts: true, Trend: true}).Hosts[0]
		s.want("steps", len(one.Busy), 30)
		if len(one.Attempts) != 2 {
			t.Fatalf("%+v", one.Attempts)
		}
		last := one.Attempts[0]
		s.want("the last attempt", fmt.Sprintln(last.Tenant, last.Job, last.Attempt, last.State, last.Hash == hashOf(t, 1), last.RanFor > 0, last.Begun.IsZero()), "acme y 1 completed true true false\n")
		plain := operator[queue.HostsAnswer](s, "hosts", queue.HostsRequest{Host: "a"}).Hosts[0]
		s.want("when they are not asked for", len(plain.Attempts)+len(plain.Busy), 0)
		text, err := json.Marshal(operator[queue.HostsAnswer](s, "hosts", queue.HostsRequest{Host: "none"}))
		s.want("of a host that is not there", fmt.Sprint(string(text), err), `{"hosts":[]}<nil>`)
	})
}
