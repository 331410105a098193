package dispatcher_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// grant says whose jobs a host may have.
func (s *scene) grant(host string, g queue.HostGrant) {
	s.t.Helper()
	value, err := json.Marshal(g)
	if err != nil {
		s.t.Fatal(err)
	}
	s.set(names.GrantsBucket, host, value, -1)
}

func (s *scene) whyOn(id job.ID, host string) string {
	s.t.Helper()
	answer, err := call[jetstream.WhyAnswer](s.memory, "why", jetstream.WhyRequest{Tenant: "acme", Job: id})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, v := range answer.Hosts {
		if string(v.Host) == host {
			return string(v.Code) + ": " + v.Text
		}
	}
	return ""
}

func TestAHostOfOtherTenantsIsOfferedNothingAndWhySaysSo(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.grant("bolts", queue.HostGrant{Tenants: []job.Tenant{"bolt"}, Time: s.Now()})
		s.host("bolts", s.accepts("bolts"))
		s.dispatcher(dispatcher.Config{CapableWait: time.Minute})
		s.submit("y")
		s.pass(10 * time.Minute) // longer than capable_wait: it is not hopeless
		s.want("chain", s.story("y"), "queued waiting:other_tenants")
		s.want("why", s.whyOn("y", "bolts"), "other_tenants: this host serves other tenants")
		s.grant("bolts", queue.HostGrant{Tenants: []job.Tenant{"bolt", "acme"}, Time: s.Now()})
		s.pass(time.Second)
		s.want("chain once the host is given to acme too", s.story("y"), "queued waiting:other_tenants started")
	})
}

// A value in the bucket that is no grant concerns its host alone: that host gets no jobs until the value is repaired.
func TestAGrantThatCannotBeReadGivesTheHostToNobody(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		for key, value := range map[string]string{"a": `{"tenants":["acme","b c"]}`, "b": `junk`, "c": `{"slots":-1}`, "..": `{}`, "d": `{}`} {
			s.set(names.GrantsBucket, key, []byte(value), -1)
		}
		for _, host := range []string{"a", "b", "c"} {
			s.host(host, s.accepts(host))
		}
		s.dispatcher(dispatcher.Config{})
		s.submit("y")
		s.pass(time.Second)
		s.want("chain", s.story("y"), "queued waiting:other_tenants")
		s.host("d", s.accepts("d"))
		s.pass(time.Second)
		s.want("chain with a host of everybody's", s.story("y"), "queued waiting:other_tenants started")
		s.set(names.GrantsBucket, "b", nil, -1)
		s.submit("z")
		s.pass(time.Second)
		s.want("chain once a grant was taken away", s.story("z"), "queued started")
	})
}

func TestWhatAHostClaimsBeyondItsSlotsDoesNotCount(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.grant("two", queue.HostGrant{Slots: 2, Time: s.Now()})
		for _, host := range []string{"two", "usual"} {
			s.beat(queue.HostState{Host: host, Instance: "i", Serial: 1, State: queue.Online, Slots: 60_000, Prefetch: 60_000, Time: s.Now()})
		}
		s.pass(0)
		for host, most := range map[string]int{"two": 2, "usual": 64} {
			if h := s.hostNow(host); h.Slots != most || h.Prefetch != most {
				t.Errorf("host %s has %d slots and %d beyond, want %d", host, h.Slots, h.Prefetch, most)
			}
		}
		s.grant("two", queue.HostGrant{Slots: 3, Time: s.Now()})
		s.pass(0)
		s.want("slots after another grant", s.hostNow("two").Slots, 3)
	})
}

// A host that is given to bolt reports that it runs acme's jobs, and that acme's jobs have taken it down.
func TestWhatAHostSaysOfOthersTenantsIsNotHeard(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.set(names.TenantsBucket, "acme", []byte(`{"weight":1,"max_running":1}`), -1)
		s.dispatcher(dispatcher.Config{})
		for _, host := range []string{"x", "y"} {
			s.grant(host, queue.HostGrant{Tenants: []job.Tenant{"bolt"}, Time: s.Now()})
			s.beat(queue.HostState{
				Host: host, Instance: "i", Serial: 1, State: queue.Unhealthy, Slots: 9, Time: s.Now(),
				Running: []queue.RunningJob{{Tenant: "acme", Job: "j", Hash: hashOf(t, 1), Since: s.Now()}},
				Blame:   &queue.Blame{Tenant: "acme", Job: "j", Hash: hashOf(t, 1)},
			})
		}
		s.host("a", s.accepts("a"))
		s.pass(0)
		s.submit("y")
		s.pass(time.Second)
		s.want("chain", s.story("y"), "queued started")
	})
}
