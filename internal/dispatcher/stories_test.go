package dispatcher_test

import (
	"sync/atomic"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/jetstream"
)

// runs is a host on which some jobs have another outcome than to complete at once.
func (s *scene) runs(host string, outcomes map[job.ID]outcome) *agent {
	return s.agent(&agent{name: host, outcome: func(o *queue.Offer) outcome { return outcomes[o.Job] }})
}

func prefers(host string) func(*job.Spec) {
	return func(spec *job.Spec) { spec.PreferHosts = []string{host} }
}

// longBlocks keeps blocks until the story is over.
var longBlocks = route.Policy{Cooldown: 15 * time.Minute, Cap: 15 * time.Minute, MaxFailures: 1}

// stories are the ways that jobs can go.
func stories() map[string]story {
	all := map[string]story{}
	for _, some := range []map[string]story{storiesOfRuns(), storiesOfFailures(), storiesOfWaiting(), storiesOfEnds()} {
		for name, told := range some {
			all[name] = told
		}
	}
	return all
}

func completed(ids ...job.ID) map[job.ID][]string { return ending("completed", ids...) }

func ending(end string, ids ...job.ID) map[job.ID][]string {
	ends := map[job.ID][]string{}
	for _, id := range ids {
		ends[id] = []string{end}
	}
	return ends
}

func storiesOfRuns() map[string]story {
	return map[string]story{
		"a job runs": {
			hosts: []string{"a"}, ends: completed("x"),
			play: func(s *scene) {
				s.runs("a", map[job.ID]outcome{"x": {takes: 4 * time.Second}})
				s.submit("x")
			},
		},
		"jobs wait in hand for a busy host": {
			hosts: []string{"a"}, ends: completed("x", "y"),
			play: func(s *scene) {
				s.runs("a", map[job.ID]outcome{"x": {takes: 50 * time.Millisecond}})
				s.submit("x")
				s.submit("y")
			},
		},
		"a tenant runs one job at a time": {
			hosts: []string{"a", "b"}, ends: completed("x", "y"),
			play: func(s *scene) {
				s.allow("acme", queue.TenantSettings{Weight: 1, MaxRunning: 1})
				for _, host := range []string{"a", "b"} {
					s.runs(host, map[job.ID]outcome{"x": {takes: time.Second}})
				}
				s.submit("x")
				s.submit("y")
			},
		},
		"a job with secrets is erased": {
			ends: ending("cancelled", "x"),
			play: func(s *scene) {
				s.submit("x", func(spec *job.Spec) { spec.ExtraData = []byte(`{"api_key":"k"}`) })
				s.awaitTickets(1)
				s.goOn("x", job.Cancelled)
			},
		},
		"an id is published twice": {
			hosts: []string{"a"}, ends: completed("x"),
			play: func(s *scene) {
				s.submit("x")
				s.submit("x")
				s.pass(time.Second)
				s.runs("a", map[job.ID]outcome{"x": {takes: time.Second}})
				s.pass(500 * time.Millisecond)
				s.submit("x")
			},
		},
	}
}

func storiesOfFailures() map[string]story {
	broken := outcome{takes: 100 * time.Millisecond, kind: failure.ExecutionError, message: "it is broken"}
	return map[string]story{
		"a failure is retried elsewhere": {
			cfg: dispatcher.Config{Policy: longBlocks}, hosts: []string{"a", "b"}, ends: completed("x"), blocks: []string{"a"},
			play: func(s *scene) {
				s.runs("a", map[job.ID]outcome{"x": broken})
				s.runs("b", nil)
				s.submit("x", prefers("a"))
			},
		},
		"a block holds the next job": {
			cfg: dispatcher.Config{Policy: route.Policy{Cooldown: 8 * time.Second, Cap: 8 * time.Second, MaxFailures: 1}}, hosts: []string{"a"},
			ends: map[job.ID][]string{"x": {"dead:attempts_exhausted"}, "y": {"completed"}},
			play: func(s *scene) {
				s.runs("a", map[job.ID]outcome{"x": broken})
				s.submit("x", func(spec *job.Spec) { spec.MaxAttempts = 1 })
				s.awaitEvent("x", job.Dead)
				s.submit("y")
			},
		},
		"a host learns what it lacked": {
			cfg: dispatcher.Config{Policy: route.Policy{Cooldown: time.Minute, Cap: time.Minute, MaxFailures: 1}}, ends: completed("x"), late: []string{"a"},
			play: func(s *scene) { // where no dispatcher sees the change the block ends by its cooldown
				classes := []string{"SaveImage", "EmptyImage1"}
				var has atomic.Bool
				s.can("a", classes...)
				s.agent(&agent{name: "a", outcome: func(*queue.Offer) outcome {
					if has.Load() {
						return outcome{}
					}
					return outcome{kind: failure.Incapable, message: "a model is missing"}
				}})
				s.submit("x")
				s.await(func() bool { return s.get(names.BlocksBucket, pairOf("a", hashOf(s.t, 1))).Phase == queue.Put })
				s.pass(500 * time.Millisecond) // the file is there a moment later
				has.Store(true)
				s.can("a", append(classes, "More")...)
			},
		},
		"two hosts fail alike": {
			cfg: dispatcher.Config{Policy: longBlocks}, hosts: []string{"a", "b"}, ends: ending("dead:workflow_fault", "x"), late: []string{"a", "b"},
			play: func(s *scene) {
				for _, host := range []string{"a", "b"} {
					s.runs(host, map[job.ID]outcome{"x": broken})
				}
				s.submit("x")
			},
		},
		"a workflow takes hosts down": {
			cfg: dispatcher.Config{Policy: longBlocks}, hosts: []string{"a", "b"}, ends: ending("dead:takes_hosts_down", "x", "y"),
			play: func(s *scene) {
				for _, host := range []string{"a", "b"} {
					s.runs(host, map[job.ID]outcome{"x": {takes: 100 * time.Millisecond, kind: failure.HostLost, message: "gone"}})
				}
				s.submit("x")
				s.awaitEvent("x", job.Dead)
				s.submit("y")
			},
		},
		"a host is lost with its job": {
			hosts: []string{"b"}, ends: completed("x"),
			play: func(s *scene) {
				s.runs("a", map[job.ID]outcome{"x": {takes: time.Hour}})
				s.submit("x")
				s.awaitEvent("x", job.Started)
				s.vanish("a")
				s.runs("b", nil)
			},
		},
		"an agent has forgotten its job": {
			hosts: []string{"a", "b"}, ends: completed("x"),
			play: func(s *scene) {
				s.runs("a", map[job.ID]outcome{"x": {takes: time.Hour}})
				s.submit("x")
				s.awaitEvent("x", job.Started)
				s.vanish("a")
				s.agent(&agent{name: "a", instance: "j"}) // which has forgotten all that it ran
				s.runs("b", nil)
			},
		},
	}
}

func storiesOfWaiting() map[string]story {
	return map[string]story{
		"a job waits for a host": {
			hosts: []string{"a"}, ends: completed("x"),
			play: func(s *scene) {
				s.submit("x")
				s.pass(time.Second)
				s.runs("a", nil)
			},
		},
		"a parked job is delivered again": {
			hosts: []string{"a"}, ends: completed("x"),
			play: func(s *scene) {
				s.submit("x")
				s.pass(storyPark * 3 / 2)
				s.runs("a", nil)
			},
		},
		"a job runs later": {
			hosts: []string{"a"}, ends: completed("x"),
			play: func(s *scene) {
				s.runs("a", nil)
				s.submit("x", later(s.Now().Add(4*time.Second)))
			},
		},
		"jobs rest without a ticket": {
			cfg: dispatcher.Config{WaitingCap: 1}, hosts: []string{"a"}, ends: completed("w", "x", "y"),
			play: func(s *scene) {
				for _, id := range []job.ID{"w", "x", "y"} {
					s.submitAs("acme", 0, id)
					s.pass(500 * time.Millisecond)
				}
				s.runs("a", nil)
			},
		},
		"a job is taken out of the stream": {
			ends: ending("cancelled", "x"),
			play: func(s *scene) {
				sequence := s.submit("x")
				s.awaitTickets(1)
				s.remove(sequence)
			},
		},
	}
}

func storiesOfEnds() map[string]story {
	invalid := outcome{takes: 100 * time.Millisecond, kind: failure.InvalidWorkflow, message: "no output"}
	return map[string]story{
		"a workflow is invalid": {
			hosts: []string{"a"}, ends: ending("dead:not_retryable", "x"),
			play: func(s *scene) {
				s.runs("a", map[job.ID]outcome{"x": invalid})
				s.submit("x")
			},
		},
		"a message is no job": {
			ends: ending("dead:invalid_job", "j-tpd800-1"),
			play: func(s *scene) { s.publish(job.Message{Tenant: "acme", Priority: 5, Body: []byte("{")}) },
		},
		"a job expires": {
			ends: ending("dead:expired", "x"),
			play: func(s *scene) {
				s.submit("x", func(spec *job.Spec) { spec.ExpiresIn = job.Duration(2 * time.Second) })
			},
		},
		"no host can run a job": {
			cfg: dispatcher.Config{CapableWait: 3 * time.Second}, ends: ending("dead:no_capable_host", "x"),
			play: func(s *scene) {
				s.can("a", "SaveImage")
				s.runs("a", nil)
				s.submit("x")
			},
		},
		"a tenant has too many jobs": {
			hosts: []string{"a"}, ends: map[job.ID][]string{"x": {"completed"}, "y": {"dead:over_quota"}},
			play: func(s *scene) {
				s.allow("acme", queue.TenantSettings{Weight: 1, MaxUnfinished: 1})
				s.submit("x")
				s.awaitEvent("x", job.Queued)
				s.submit("y")
				s.awaitEvent("y", job.Dead)
				s.runs("a", nil)
			},
		},
		"a waiting job is cancelled": {
			ends: ending("cancelled", "x"),
			play: func(s *scene) {
				s.submit("x")
				s.awaitTickets(1)
				s.cancel("x")
			},
		},
		"a job in hand is cancelled": {
			hosts: []string{"a"}, ends: map[job.ID][]string{"busy": {"completed"}, "x": {"cancelled"}},
			play: func(s *scene) {
				s.runs("a", map[job.ID]outcome{"busy": {takes: 10 * time.Second}})
				s.submit("busy")
				s.awaitEvent("busy", job.Started)
				s.submit("x")
				s.awaitEvent("x", job.Queued)
				s.cancel("x")
			},
		},
		"a running job is cancelled": {
			hosts: []string{"a"}, ends: ending("cancelled", "x"),
			play: func(s *scene) {
				s.runs("a", map[job.ID]outcome{"x": {takes: time.Hour}})
				s.submit("x")
				s.awaitEvent("x", job.Started)
				s.cancel("x")
			},
		},
		"a dead job is requeued": {
			hosts: []string{"a"}, ends: map[job.ID][]string{"x": {"dead:not_retryable"}, "x-r1": {"completed"}},
			play: func(s *scene) {
				s.runs("a", map[job.ID]outcome{"x": invalid})
				s.submit("x")
				s.awaitEvent("x", job.Dead)
				s.insist(func() error {
					a, err := call[jetstream.RequeueAnswer](s.memory, "requeue", jetstream.RequeueRequest{Tenant: "acme", Job: "x", By: "ops"})
					if err == nil && a.Count == 0 && s.story("x-r1") == "" {
						return errCut
					}
					return err
				})
			},
		},
	}
}

// cancel asks a dispatcher to cancel a job of acme.
func (s *scene) cancel(id job.ID) {
	s.insist(func() error {
		_, err := call[jetstream.CancelAnswer](s.memory, "cancel", jetstream.CancelRequest{Tenant: "acme", Job: id, By: "ops"})
		return err
	})
}
