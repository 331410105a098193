package dispatcher_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/jetstream"
)

func TestSettingsOfATenantChangeAsFarAsARequestNamesThem(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{MaxRunning: 7})
		s.pass(time.Second)
		for _, step := range []struct {
			request queue.TenantsRequest
			want    queue.TenantSettings
		}{
			{queue.TenantsRequest{Weight: new(2.0)}, queue.TenantSettings{Weight: 2, MaxRunning: 7}}, // the usual cap holds on
			{queue.TenantsRequest{MaxRunning: new(0)}, queue.TenantSettings{Weight: 2}},
			{queue.TenantsRequest{MaxPriority: new(job.Priority(4))}, queue.TenantSettings{Weight: 2, MaxPriority: new(job.Priority(4))}},
			{
				queue.TenantsRequest{Weight: new(1e6), MaxUnfinished: new(5), MaxBytes: new(int64(6)), MaxFileBytes: new(int64(7))},
				queue.TenantSettings{Weight: 1e6, MaxPriority: new(job.Priority(4)), MaxUnfinished: 5, MaxBytes: 6, MaxFileBytes: 7},
			},
			{queue.TenantsRequest{MaxBytes: new(int64(0))}, queue.TenantSettings{Weight: 1e6, MaxPriority: new(job.Priority(4)), MaxUnfinished: 5, MaxFileBytes: 7}},
		} {
			step.request.Tenant = "acme"
			got := operator[queue.TenantsAnswer](s, "tenants", step.request).Tenants
			if diff := cmp.Diff(map[job.Tenant]queue.TenantSettings{"acme": step.want}, got); diff != "" {
				t.Errorf("answer: %s", diff)
			}
			stored := decoded(s.get(names.TenantsBucket, "acme"), queue.TenantOf).Value
			if diff := cmp.Diff(step.want, stored); diff != "" {
				t.Errorf("stored: %s", diff)
			}
			if diff := cmp.Diff(got, operator[queue.TenantsAnswer](s, "tenants", queue.TenantsRequest{Tenant: "acme"}).Tenants); diff != "" {
				t.Errorf("listed: %s", diff)
			}
		}
		acts := len(s.whoActed())
		for _, r := range []queue.TenantsRequest{
			{Tenant: "a.b", Weight: new(1.0)}, {Tenant: "acme", Weight: new(0.0)}, {Tenant: "acme", Weight: new(1e6 + 1)}, {Tenant: "acme", MaxRunning: new(-1)},
			{Tenant: "acme", MaxPriority: new(job.Priority(10))}, {Tenant: "acme", MaxUnfinished: new(-1)}, {Tenant: "acme", MaxBytes: new(int64(-1))},
			{Tenant: "acme", MaxFileBytes: new(int64(-1))}, {Limit: -1},
		} {
			_, err := call[queue.TenantsAnswer](s.memory, "tenants", r)
			refused[*jetstream.BadRequest](s, err)
		}
		s.want("acts", len(s.whoActed()), acts)
	})
}

func TestARuleOfAWorkflowIsSetAndRemoved(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.pass(time.Second)
		list := func() string {
			return fmt.Sprint(operator[queue.AffinityAnswer](s, "affinity", queue.AffinityRequest{}).Affinity)
		}
		rule := queue.AffinityRequest{Hash: hashOf(t, 1), Prefer: []string{"gpu-1", "gpu=4090"}, Exclude: []string{"gpu-2"}, By: "ann"}
		set := operator[queue.AffinityAnswer](s, "affinity", rule)
		want := fmt.Sprintf("map[%s:{[gpu-1 gpu=4090] [gpu-2]}]", hashOf(t, 1))
		s.want("answer", fmt.Sprint(set.Affinity), want)
		s.want("listed", list(), want)
		gone := operator[queue.AffinityAnswer](s, "affinity", queue.AffinityRequest{Hash: hashOf(t, 1), Remove: true})
		s.want("removed", fmt.Sprint(gone.Affinity)+" "+list(), "map[] map[]")
		s.want("acts", s.whoActed(), []string{
			`affinity by ann for "": 1 of {"hash":"` + string(hashOf(t, 1)) + `","prefer":["gpu-1","gpu=4090"],"exclude":["gpu-2"]}`,
			`affinity by api for "": 1 of {"hash":"` + string(hashOf(t, 1)) + `","remove":true}`,
		})
		for _, r := range []queue.AffinityRequest{
			{Prefer: []string{"gpu-1"}}, {Remove: true}, {Hash: "abc", Prefer: []string{"gpu-1"}}, {Hash: hashOf(t, 1), Prefer: []string{"no host"}},
			{Hash: hashOf(t, 1), Exclude: []string{"gpu-1", "a b=c"}}, {Limit: -1},
		} {
			_, err := call[queue.AffinityAnswer](s.memory, "affinity", r)
			refused[*jetstream.BadRequest](s, err)
		}
	})
}

func TestAnOfferSaysWhatAnAgentNeedsToRunTheJob(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		var offers []queue.Offer
		accepts := s.accepts("a")
		s.host("a", func(o *queue.Offer) (queue.Reply, error) {
			offers = append(offers, *o)
			return accepts(o)
		})
		sequence := s.submit("x")
		s.pass(time.Second)
		if len(offers) != 1 {
			t.Fatalf("%d offers", len(offers))
		}
		got := offers[0]
		got.Message, got.Quiet = job.Message{}, 0
		want := queue.Offer{Job: "x", Hash: hashOf(t, 1), Attempt: 1, Lease: leaseOf(int(sequence), 1), AckWait: ackWait, LastInChain: 1}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

// In a large fleet a dispatcher hears of the hosts of others later, so that two may choose the same slot. The one that is refused for it
// may be offered to any slot.
func TestInALargeFleetAJobIsMeantForAFreeSlotOnly(t *testing.T) {
	t.Parallel()
	inLargeFleet(t, time.Minute, func(f *largeFleet) {
		var mu sync.Mutex // guards first
		first := map[job.ID]bool{}
		f.mu.Lock()
		for host, take := range f.agents {
			f.agents[host] = func(o *queue.Offer) (queue.Reply, error) {
				mu.Lock()
				if _, offered := first[o.Job]; !offered {
					first[o.Job] = o.FreeSlot
				}
				mu.Unlock()
				return take(o)
			}
		}
		f.mu.Unlock()
		f.submitted(3)
		f.pass(5 * time.Second)
		f.want("jobs that were offered", len(first), 3)
		for id, free := range first {
			f.want("the first offer of "+string(id)+" is for a free slot", free, true)
		}
	})
}

// The reason changes when a host comes that could run the job, and is blocked for it.
func TestAnotherReasonWhyAJobWaitsIsStoredWithAllThatIsKnownOfTheJob(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		trace := "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		body, err := json.Marshal(job.Spec{ID: "x", Workflow: graph(1), Name: "a cat", Webhook: "hook", Metadata: json.RawMessage(`{"order":7}`)})
		if err != nil {
			t.Fatal(err)
		}
		sequence := s.publish(job.Message{Tenant: "acme", Priority: 3, Body: body, RequeueOf: "before", Traceparent: trace})
		s.pass(time.Second)
		s.want("chain", s.story("x"), "queued waiting:none_capable")
		until := s.Now().Add(10 * time.Minute).Truncate(time.Second).UTC()
		s.set(names.BlocksBucket, pairOf("a", hashOf(t, 1)), encoded(t, &route.Block{
			Host: "a", Hash: hashOf(t, 1), Kind: failure.Timeout, Tenants: []route.Tenant{route.Everyone}, Until: until,
		}), -1)
		s.host("a", s.accepts("a"))
		s.awaitEvent("x", job.Waiting)
		s.pass(5 * time.Second)
		s.want("chain afterwards", s.story("x"), "queued waiting:none_capable waiting:all_blocked")
		got := s.lastOf("x")
		if got.Until == nil || !got.Until.Equal(until) || got.Message == "" || len(got.Hosts) != 1 || got.Hosts["a"] == "" || s.Now().Sub(got.Time) > 5*time.Second {
			t.Errorf("the event is %+v", got)
		}
		want := job.Event{
			EventKind: job.Waiting, Job: "x", Tenant: "acme", Priority: 3, Hash: hashOf(t, 1), Name: "a cat", Webhook: "hook", Metadata: json.RawMessage(`{"order":7}`),
			RequeueOf: "before", Traceparent: trace, Sequence: sequence, Reason: "all_blocked",
			Time: got.Time, Until: got.Until, Message: got.Message, Hosts: got.Hosts,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestWhyTellsOfManyHostsPageByPage(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		const n = 150
		for i := range n {
			s.beat(queue.HostState{Host: fmt.Sprintf("gpu-%03d", i), Instance: "i", Serial: 1, State: queue.Unhealthy, Slots: 1, Time: s.Now()})
		}
		s.dispatcher(dispatcher.Config{})
		s.submit("one")
		s.pass(time.Second)
		var hosts []string
		for r := (jetstream.WhyRequest{Tenant: "acme", Job: "one"}); ; {
			a := operator[jetstream.WhyAnswer](s, "why", r)
			if len(a.Hosts) == 0 {
				t.Fatal("a page is empty")
			}
			for i := range a.Hosts {
				hosts = append(hosts, string(a.Hosts[i].Host))
			}
			if r.After = a.Next; a.Next == "" {
				break
			}
		}
		s.want("hosts", fmt.Sprintln(len(hosts), len(slices.Compact(slices.Sorted(slices.Values(hosts)))), hosts[n-1]), "150 150 gpu-149\n")
		for limit, want := range map[int]string{1: "1 gpu-000", 64: "64 gpu-063", 65: "65 gpu-064"} {
			a := operator[jetstream.WhyAnswer](s, "why", jetstream.WhyRequest{Tenant: "acme", Job: "one", Limit: limit})
			s.want("hosts of a page", fmt.Sprint(len(a.Hosts), " ", a.Next), want)
		}
	})
}

func TestTheStoryOfAJobSaysWhyItHasNoBody(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		story := func(id job.ID) jetstream.JobStory {
			return answered[jetstream.JobStory](s, "acme", "job", jetstream.StatusRequest{Job: id})
		}
		s.submit("done")
		removed := s.submit("removed")
		other := s.submit("other")
		s.pass(time.Second)
		s.goOn("done", job.Completed)
		s.want("completed", story("done").NoBody, "the job has ended, and its body is not kept")
		s.mu.Lock()
		delete(s.jobs, removed)
		s.jobs[other].message.Tenant = "bolt"
		s.mu.Unlock()
		s.want("removed", strings.HasPrefix(story("removed").NoBody, "it is not in COMFY_JOBS: "), true)
		s.want("another in its place", story("other").NoBody, "it is not in COMFY_JOBS any more")

		s.bury("acme", "before", "dead", "cut")
		for _, id := range []job.ID{"dead", "cut", "forgotten"} {
			s.goOn(id, job.Dead)
		}
		s.mu.Lock()
		for at, l := range s.letters {
			if l.Job == "cut" {
				l.Header = map[string][]string{names.TruncatedHeader: {"true"}}
				s.letters[at] = l
			}
		}
		s.mu.Unlock()
		dead := story("dead")
		s.want("dead", dead.NoBody+string(dead.Body), string(graph(1)))
		s.want("with the beginning only", story("cut").NoBody, "its dead letter has only the beginning of it")
		s.want("without a letter", story("forgotten").NoBody, "its dead letter is not kept any more")
	})
}
