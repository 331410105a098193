package dispatcher_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// peer is another dispatcher whose presence stands and who does nothing.
func (s *scene) peer(name string) {
	s.set(names.DispatchersBucket, name, []byte(`{"dispatcher":"`+name+`"}`), -1)
}

// awayFrom gives the first of some names whose home is not "me" beside "other".
func awayFrom(format string) string {
	for n := 0; ; n++ {
		name := fmt.Sprintf(format, n)
		if route.Home([]string{"me", "other"}, route.HostID(name)) == "other" {
			return name
		}
	}
}

func TestAJobWhoseHomeDispatcherStandsStillExpiresAllTheSame(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.peer("other")
		s.dispatcher(dispatcher.Config{})
		id := job.ID(awayFrom("job-%d"))
		s.submit(id, func(spec *job.Spec) { spec.ExpiresIn = job.Duration(3 * time.Second) })
		s.pass(4 * time.Second)
		s.want("chain while its home may", s.story(id), "queued waiting:none_capable")
		s.pass(6 * time.Second)
		s.want("chain", s.story(id), "queued waiting:none_capable dead:expired")
	})
}

func (s *scene) hostNow(name string) queue.HostState {
	s.t.Helper()
	answer, err := call[queue.HostsAnswer](s.memory, "hosts", struct{}{})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, h := range answer.Hosts {
		if h.Host == name {
			return h.HostState
		}
	}
	return queue.HostState{}
}

func TestThePresenceOfARestartedAgentCountsWhateverItsClockSays(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		ahead := queue.HostState{Host: "a", Instance: "old", Serial: 9, State: queue.Online, Slots: 1, Time: s.Now().Add(time.Hour)}
		s.beat(ahead)
		s.dispatcher(dispatcher.Config{})
		s.pass(time.Second)
		s.beat(queue.HostState{Host: "a", Instance: "new", Serial: 1, State: queue.Draining, Slots: 1, Time: s.Now()})
		s.pass(0)
		s.want("state", s.hostNow("a").State, queue.Draining)
	})
}

func TestAPairThatHasJustFailedGetsNoJobUntilTheFailureIsSettled(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.host("a", s.accepts("a"))
		s.pass(time.Second)
		s.broadcast(queue.HostState{
			Host: "a", Instance: "i", Serial: 2, State: queue.Online, Slots: 1, Brief: true, Time: s.Now(),
			Ended: &queue.EndedJob{Tenant: "acme", Job: "before", Hash: hashOf(t, 1), Kind: failure.ExecutionError},
		})
		s.submit("x")
		s.submit("y", func(spec *job.Spec) { spec.Workflow = graph(2) })
		s.pass(500 * time.Millisecond)
		s.want("offers", s.done("offer"), []string{"offer y to a"})
	})
}

func TestAnUnblockedHostIsFirstItsHomeDispatchers(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.peer("other")
		host, hash := awayFrom("host-%d"), hashOf(t, 1)
		key := host + "." + string(hash)
		for bucket, value := range map[string]any{
			names.BlocksBucket: route.Block{
				Host: route.HostID(host), Hash: hash, Kind: failure.ExecutionError, Tenants: []route.Tenant{route.Everyone}, Until: s.Now().Add(time.Hour),
			},
			names.StrikesBucket: route.Strikes{},
		} {
			body, err := json.Marshal(value)
			if err != nil {
				t.Fatal(err)
			}
			s.set(bucket, key, body, -1)
		}
		s.host(host, s.accepts(host))
		s.dispatcher(dispatcher.Config{})
		s.submit("x")
		s.pass(2 * time.Second)
		s.want("chain", s.story("x"), "queued waiting:all_blocked")
		lifted := time.Now()
		s.set(names.BlocksBucket, key, nil, -1)
		s.pass(time.Second)
		if after, claimed := s.when("claim", lifted); !claimed || after < 4*time.Millisecond {
			t.Errorf("it was claimed (%v) %v after the block was lifted, want 4ms of head start", claimed, after)
		}
	})
}

func TestJobsThatBecomeDueAreClaimedByOneOfFiveDispatchers(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		for n := range 5 {
			s.dispatcher(dispatcher.Config{Name: fmt.Sprint("d", n)})
		}
		due := s.Now().Add(time.Minute)
		for n := range 10 {
			host := fmt.Sprint("host-", n)
			s.host(host, s.accepts(host))
			s.submit(job.RequeueID("later", n), func(spec *job.Spec) { spec.RunAt = &due })
		}
		s.pass(59 * time.Second)
		s.want("tickets before", len(s.tickets()), 10)
		s.pass(1500 * time.Millisecond)
		s.want("offers", len(s.done("offer")), 10)
		s.want("tries to claim", len(s.done("look for ticket")), 10)
	})
}

func TestAJobThatBecomesDueIsClaimedAlthoughItsHomeStandsStill(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.peer("other")
		s.dispatcher(dispatcher.Config{})
		s.host("a", s.accepts("a"))
		id, due := job.ID(awayFrom("job-%d")), s.Now().Add(10*time.Second)
		s.submit(id, func(spec *job.Spec) { spec.RunAt = &due })
		s.pass(10*time.Second + 39*time.Millisecond)
		s.want("chain while its home may", s.story(id), "queued waiting:not_due")
		s.pass(2 * time.Millisecond)
		s.want("chain", s.story(id), "queued waiting:not_due started")
	})
}

func TestAFullWaitingRoomStopsTheLowestPrioritiesFirst(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{WaitingCap: 2})
		publish := func(p job.Priority, id string) {
			body, err := json.Marshal(job.Spec{ID: job.ID(id), Workflow: graph(1)})
			if err != nil {
				t.Fatal(err)
			}
			s.publish(job.Message{Tenant: "acme", Priority: p, Body: body})
			s.pass(5 * time.Second) // pulls that were under way have ended
		}
		for _, id := range []string{"1", "2", "3"} {
			publish(0, id)
		}
		s.want("tickets at priority 0", len(s.tickets()), 2)
		publish(9, "4")
		publish(9, "5")
		publish(9, "6")
		s.want("tickets with priority 9", len(s.tickets()), 3) // 1.9 times the cap
	})
}

func TestWhatCannotBeIsLeftOutAndTheRestIsHeard(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		for _, value := range []string{
			`{"host":"x","instance":"i","serial":1,"state":"online","slots":1,"prefetch":0,"brief":true,"time":"2026-01-01T00:00:00Z"}`,
			`{"host":"x","instance":"i","serial":1,"state":"online","slots":1,"prefetch":0,"foreign":-1,"time":"2026-01-01T00:00:00Z"}`,
			`{"host":"x","instance":"i","serial":1,"state":"online","slots":-7,"prefetch":0,"time":"2026-01-01T00:00:00Z"}`,
			`{"host":"x","instance":"i","serial":1,"state":"online","slots":1,"prefetch":9223372036854775807,"time":"2026-01-01T00:00:00Z"}`,
			`{"host":"x","instance":"i","serial":1,"state":"asleep","slots":1,"prefetch":0,"time":"2026-01-01T00:00:00Z"}`,
			`{"host":"x","instance":"i","serial":1,"state":"online","slots":1,"prefetch":0,"running":[{"tenant":"","job":"","priority":-4}],"time":"2026-01-01T00:00:00Z"}`,
			`{"host":"x","instance":"i","serial":1,"state":"online","slots":1,"prefetch":0,"memory":-1,"time":"2026-01-01T00:00:00Z"}`,
		} {
			s.set(names.HostsBucket, "x", []byte(value), -1)
			s.pass(0)
			s.want("host x after "+value, s.hostNow("x").Host, "")
		}
		s.host("a", s.accepts("a"))
		s.submit("y")
		s.pass(time.Second)
		s.want("chain", s.story("y"), "queued started")
	})
}

// An hour ahead, and hosts that are busy.
func TestADispatcherWhoseClockIsOffGoesByTheTimeOfNATS(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.off = time.Hour
		s.dispatcher(dispatcher.Config{})
		s.host("a", s.accepts("a"))
		s.submit("busy")
		s.pass(time.Second)
		s.submit("x", func(spec *job.Spec) { spec.ExpiresIn = job.Duration(30 * time.Minute) })
		s.pass(29 * time.Minute)
		s.want("chain before", s.story("x"), "queued")
		s.want("time of an event", s.lastOf("x").Time.Sub(s.Now()).Round(time.Minute), -29*time.Minute)
		s.pass(2 * time.Minute)
		s.want("chain after", s.story("x"), "queued dead:expired")
		var state queue.DispatcherState
		if err := json.Unmarshal(s.get(names.DispatchersBucket, "me").Value, &state); err != nil {
			t.Fatal(err)
		}
		s.want("told", time.Duration(state.ClockOff), time.Hour)
	})
}
