package dispatcher_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// follow continues a tenant's chain as an agent does.
func (s *scene) follow(tenant job.Tenant, id job.ID, kind job.EventKind, edit func(*job.Event)) {
	s.t.Helper()
	chain, err := s.Chain(context.Background(), tenant, id)
	if err != nil || len(chain) == 0 {
		s.t.Fatalf("chain of %s: %v, %v", id, chain, err)
	}
	last := chain[len(chain)-1]
	e := job.Event{EventKind: kind, Job: id, Tenant: tenant, Priority: job.Usual, Time: s.Now(), Hash: last.Hash, Attempt: 1}
	edit(&e)
	if _, err := s.Append(context.Background(), &e, last.ChainSequence, "", leaseOf(int(chain[0].Sequence), 1)); err != nil {
		s.t.Fatal(err)
	}
}

// fails lets a job of a tenant run on a host and fail there with a text.
func (s *scene) fails(tenant job.Tenant, id job.ID, host string, kind failure.Kind, text string) {
	s.t.Helper()
	s.submitAs(string(tenant), job.Usual, id, func(spec *job.Spec) { spec.OnlyHosts = []string{"nowhere"} })
	s.pass(100 * time.Millisecond)
	s.follow(tenant, id, job.Started, func(e *job.Event) { e.Host = host })
	s.follow(tenant, id, job.Failed, func(e *job.Event) { e.Host, e.Kind, e.Message, e.Node = host, kind, text, "node-"+text })
	s.pass(100 * time.Millisecond)
}

// told is all that a tenant is shown of its jobs, and what why answers it.
func (s *scene) told(tenant job.Tenant, why ...jetstream.WhyAnswer) string {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []job.Event
	for _, link := range s.events {
		if link.Tenant == tenant {
			all = append(all, link.Event)
		}
	}
	text, err := json.Marshal(map[string]any{"events": all, "why": why})
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// Two tenants block a workflow for everyone, and one has made a host sick; all their texts, jobs and names have a marker.
func TestNobodyReadsOfTheFailuresOfOthers(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		const marker = "MARKER"
		s.dispatcher(dispatcher.Config{})
		s.host("a", s.accepts("a"))
		s.beat(queue.HostState{
			Host: "sick", Instance: "i", Serial: 1, State: queue.Unhealthy, Cause: failure.Poisoned, Reason: "since " + marker, Slots: 1, Time: s.Now(),
			Blame: &queue.Blame{Tenant: "tenant-" + marker, Job: "job-" + marker},
		})
		s.beat(queue.HostState{
			Host: "tried", Instance: "i", Serial: 1, State: queue.Online, Trial: true, Cause: failure.Poisoned, Reason: "on trial since " + marker, Slots: 1, Time: s.Now(),
		})
		s.beat(queue.HostState{Host: "drained", Instance: "i", Serial: 1, State: queue.Draining, Reason: "by " + marker, Slots: 1, Time: s.Now()})
		for _, host := range []string{"a", "tried"} {
			s.fails("tenant-"+marker, job.ID("job-"+marker+"-"+host), host, failure.OutOfMemory, marker+" took it all")
			s.fails("zeta-"+marker, job.ID("other-"+marker+"-"+host), host, failure.OutOfMemory, marker+" as well")
		}
		s.submit("x")
		s.pass(time.Second)
		s.want("chain", s.story("x"), "queued waiting:all_blocked")
		waiting := s.lastOf("x")
		if text := waiting.Hosts["a"]; !strings.HasSuffix(text, ": out of memory on jobs of others") || !strings.HasPrefix(text, "blocked until ") {
			t.Errorf("of the blocked host is told %q", text)
		}
		mine, err := s.main.WhyOfTenant(context.Background(), jetstream.WhyRequest{Tenant: "acme", Job: "x"})
		if err != nil {
			t.Fatal(err)
		}
		if all := s.told("acme", mine); strings.Contains(all, marker) {
			t.Errorf("acme reads of others: %s", all)
		}
		whole, err := call[jetstream.WhyAnswer](s.memory, "why", jetstream.WhyRequest{Tenant: "acme", Job: "x"})
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range whole.Hosts {
			s.want("the operator reads of "+string(v.Host), strings.Contains(v.Text, marker), true)
		}
		theirs, err := s.main.WhyOfTenant(context.Background(), jetstream.WhyRequest{
			Tenant: "tenant-" + marker, Job: "job-" + marker + "-a",
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range theirs.Hosts {
			if v.Host == "sick" {
				s.want("of its own failure", v.Text, "unhealthy (poisoned): since "+marker)
			}
		}
	})
}

// A host that has proven unable to run a workflow counts as one that lacks something, and the text of the hold says why.
func TestOnlyOperatorsReadInAHoldOfTheFailuresOfOthers(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		const marker = "MARKER"
		s.dispatcher(dispatcher.Config{})
		s.host("a", s.accepts("a"))
		for _, tenant := range []job.Tenant{"bolt", "zeta"} {
			s.fails(tenant, "job-"+job.ID(tenant), "a", failure.Incapable, marker+" is missing")
		}
		s.submit("x")
		s.pass(time.Second)
		s.want("chain", s.story("x"), "queued waiting:none_capable")
		whole, mine := operator[jetstream.WhyAnswer](s, "why", jetstream.WhyRequest{Tenant: "acme", Job: "x"}),
			answered[jetstream.WhyAnswer](s, "acme", "why", jetstream.WhyRequest{Job: "x"})
		s.want("the operator reads the failure in why", strings.Contains(whole.Text, marker), true)
		s.want("the tenant reads it in why", strings.Contains(mine.Text, marker), false)
		for _, row := range operator[jetstream.WaitingAnswer](s, "waiting", nil).Waiting {
			s.want("the operator reads it of the waiting job "+string(row.Job), strings.Contains(row.Text, marker), row.Job == "x")
		}
		rows := answered[jetstream.WaitingAnswer](s, "acme", "waiting", nil).Waiting
		s.want("waiting jobs of the tenant", len(rows), 1)
		s.want("the tenant reads it of its waiting job", strings.Contains(rows[0].Text, marker), false)
	})
}
