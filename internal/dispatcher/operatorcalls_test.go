package dispatcher_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

func TestAnUnblockLiftsTheBlocksOfTheHostAndWorkflowThatItNames(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		value := []byte(`{"kind":"timeout","tenants":["*"],"until":"2099-01-01T00:00:00Z"}`)
		for _, host := range []string{"a", "b"} {
			for n := range 2 {
				s.block(host, hashOf(t, n), value, time.Hour, -1)
			}
		}
		s.set(names.BlocksBucket, "junk", []byte("junk"), -1)
		s.pass(time.Second)
		left := func() (left int) {
			for _, c := range s.bucket(names.BlocksBucket).keys {
				if c.Phase == queue.Put && c.Key != "junk" {
					left++
				}
			}
			return left
		}
		_, err := call[queue.CountAnswer](s.memory, "unblock", queue.UnblockRequest{By: "ann"})
		refused[*jetstream.BadRequest](s, err)
		s.want("when nothing is named", left(), 4)
		s.want("of a host and a workflow", operator[queue.CountAnswer](s, "unblock", queue.UnblockRequest{Host: "a", Hash: hashOf(t, 1)}).Count, 1)
		s.want("of a workflow", operator[queue.CountAnswer](s, "unblock", queue.UnblockRequest{Hash: hashOf(t, 0)[:9]}).Count, 2)
		s.want("left", left(), 1)
		s.want("of the other host", operator[queue.CountAnswer](s, "unblock", queue.UnblockRequest{Host: "b"}).Count, 1)
	})
}

func TestARequeueAndAPurgeConcernOnlyWhatTheyName(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.buryAs("old", func(*job.Event) {})
		s.pass(2 * time.Hour)
		s.buryAs("timeout", func(e *job.Event) { e.Kind = failure.Timeout })
		s.buryAs("hash", func(e *job.Event) { e.Hash = hashOf(t, 1) })
		s.buryAs("one", func(*job.Event) {})
		s.dispatcher(dispatcher.Config{})
		requeued := func(r jetstream.RequeueRequest) string {
			return fmt.Sprint(operator[jetstream.RequeueAnswer](s, "requeue", r).Jobs)
		}
		s.want("of a kind", requeued(jetstream.RequeueRequest{Kind: failure.Timeout}), "map[timeout:timeout-r1]")
		s.want("of a workflow", requeued(jetstream.RequeueRequest{Hash: hashOf(t, 1)}), "map[hash:hash-r1]")
		s.want("of a job", requeued(jetstream.RequeueRequest{Job: "one"}), "map[one:one-r1]")
		s.want("of the last hour", requeued(jetstream.RequeueRequest{Since: "1h"}), "map[]") // these were requeued
		s.pass(time.Second)                                                                  // until one-r1 was received: before, it would be the same requeue
		s.want("again", requeued(jetstream.RequeueRequest{Job: "one", Again: true}), "map[one:one-r2]")
		s.want("of a tenant", requeued(jetstream.RequeueRequest{Tenant: "bolt"}), "map[]")
		purged := func(r queue.PurgeRequest) string {
			before := len(s.done("purge"))
			count := operator[queue.PurgeAnswer](s, "purge", r).Count
			return fmt.Sprint(count, s.done("purge")[before:])
		}
		s.want("purged of a kind", purged(queue.PurgeRequest{Kind: failure.Timeout}), "1 [purge letter 2]")
		s.want("purged of a workflow", purged(queue.PurgeRequest{Hash: hashOf(t, 1)}), "1 [purge letter 3]")
		s.want("purged of a tenant", purged(queue.PurgeRequest{Tenant: "bolt"}), "0 []")
		s.want("purged of the last hour", purged(queue.PurgeRequest{Since: "1h"}), "1 [purge letter 4]")
		s.want("purged of a job", purged(queue.PurgeRequest{Job: "old"}), "1 [purge letter 1]")
	})
}

func TestABulkCancelIsRecordedAndKeepsThePrioritiesOfJobs(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.submitAs("acme", 2, "low")
		s.submitAs("acme", 9, "high")
		s.pass(time.Second)
		a := operator[jetstream.CancelAnswer](s, "cancel", jetstream.CancelRequest{Tenant: "acme", All: true, By: "ann"})
		s.want("cancelled", a.Count, 2)
		for id, p := range map[job.ID]job.Priority{"low": 2, "high": 9} {
			s.want("the end of "+string(id), fmt.Sprint(s.lastOf(id).EventKind, " ", s.lastOf(id).Priority, " ", s.lastOf(id).By), fmt.Sprintf("cancelled %d ann", p))
		}
		s.want("acts", s.whoActed(), []string{`cancel by ann for "acme" begins: {"tenant":"acme","all":true}`, `cancel by ann for "acme": 2 of {"tenant":"acme","all":true}`})
		one := operator[jetstream.CancelAnswer](s, "cancel", jetstream.CancelRequest{Tenant: "acme", Job: "unseen", Force: true})
		s.want("one that nobody has seen", fmt.Sprint(one.Job, " ", one.State, " ", s.lastOf("unseen").Priority), "unseen cancelled 5")
	})
}

func TestAGroupOfDeadJobsTellsWhoseTheyAreAndOfTheNewest(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		for _, id := range []job.ID{"x", "y"} {
			s.goOn(id, job.Queued)
			s.goOn(id, job.Dead, func(e *job.Event) {
				e.Kind, e.Reason, e.Message, e.Class, e.Exception, e.Host = failure.ExecutionError, "attempts", "boom", "KSampler", "ValueError", "gpu-1"
				e.Attempts = []failure.Attempt{{Number: 1, Host: "gpu-1", Kind: failure.ExecutionError, Message: "boom"}}
			})
		}
		a := operator[jetstream.DeadAnswer](s, "dead", jetstream.DeadRequest{Group: "signature"})
		if len(a.Groups) != 1 {
			t.Fatalf("%+v", a)
		}
		g := a.Groups[0]
		s.want("the group", fmt.Sprintln(g.Job, g.Tenant, g.Message, g.Exception, g.Class, g.Kind, g.Reason, g.Tenants, g.Hosts, g.Last.Sub(g.First)),
			"y acme boom ValueError KSampler execution_error attempts [acme] [gpu-1] 2s\n")
		for _, r := range []jetstream.DeadRequest{{Hash: hashOf(t, 1)}, {Since: "1h"}, {UpTo: 3}, {Job: "x"}, {After: 1}} {
			r.Group = "signature"
			_, err := call[jetstream.DeadAnswer](s.memory, "dead", r)
			refused[*jetstream.BadRequest](s, err)
		}
		none := operator[jetstream.DeadAnswer](s, "dead", jetstream.DeadRequest{Group: "signature", Tenant: "bolt"})
		s.want("since when there is nothing", none.Since == nil, true)
	})
}

func TestAHostIsListedWithWhatIsKnownOfIt(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.off = time.Since(noon) // the times of events count from noon
		s.dispatcher(dispatcher.Config{})
		s.can("a", "One", "Two", "Three")
		s.grant("a", queue.HostGrant{Tenants: []job.Tenant{"acme", "bolt"}, Time: s.Now()})
		s.set(names.StrikesBucket, pairOf("a", hashOf(t, 1)), []byte(`{"tenants":{"acme":1}}`), -1)
		s.host("a", s.accepts("a"))
		s.hostEvent("gone", queue.HostOffline)
		s.pass(time.Minute)
		h := operator[queue.HostsAnswer](s, "hosts", queue.HostsRequest{Host: "a"}).Hosts[0]
		s.want("of the host", fmt.Sprintln(h.Capability, h.Strikes, h.Tenants), "3 1 [acme bolt]\n")
		gone := operator[queue.HostsAnswer](s, "hosts", queue.HostsRequest{Host: "gone", Offline: true}).Hosts[0]
		s.want("since when it is gone", gone.Time, noon.Add(time.Second))
		s.want("one that was never there", len(operator[queue.HostsAnswer](s, "hosts", queue.HostsRequest{Host: "none", Offline: true}).Hosts), 0)
		for _, name := range []string{"hosts", "blocks", "queue", "waiting", "workflows"} {
			_, err := call[any](s.memory, name, map[string]int{"limit": -1})
			refused[*jetstream.BadRequest](s, err)
		}
	})
}

func TestTheOverviewListsTheTenantsWithTheMostJobs(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		begun := s.Now()
		s.host("a", s.accepts("a"))
		s.submit("runs")
		s.pass(time.Second)
		s.block("a", hashOf(t, 2), []byte(`{"kind":"timeout","tenants":["*"],"until":"2099-01-01T00:00:00Z"}`), time.Hour, -1)
		for n := range 205 {
			s.submitAs(fmt.Sprint("t", n), job.Usual, "x")
			s.pass(10 * time.Millisecond)
		}
		s.pass(2 * time.Second)
		a := operator[queue.OverviewAnswer](s, "overview", nil)
		s.want("tenants", fmt.Sprintln(len(a.Tenants), a.MoreTenants), "200 6\n")
		s.want("pairs", fmt.Sprintln(a.Pairs.Active > 0, a.Pairs.Blocked), "true 1\n")
		if a.OldestDue == nil || a.OldestDue.Sub(begun) != time.Second {
			t.Errorf("the oldest due job is due since %v", a.OldestDue)
		}
	})
}

func TestAWebhookGetsAgainOnlyWhatItMayAndWants(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		for n := range 8 { // those of another tenant do not count
			answered[jetstream.SetWebhookAnswer](s, "bolt", "webhooks.set", jetstream.SetWebhookRequest{Name: fmt.Sprint("hook-", n), URL: "https://a.example"})
		}
		w := answered[jetstream.SetWebhookAnswer](s, "acme", "webhooks.set", jetstream.SetWebhookRequest{Name: "hook", URL: "https://a.example", Named: new(true), Events: []string{"job.*"}})
		s.want("only of jobs that name it", w.Webhook.Named, true)
		s.goOn("x", job.Queued, func(e *job.Event) { e.Webhook = "hook" })
		s.goOn("y", job.Queued, func(e *job.Event) { e.Webhook = "other" })
		s.goOn("z", job.Queued)
		a := answered[jetstream.RedeliverAnswer](s, "acme", "webhooks.redeliver", jetstream.RedeliverRequest{Name: "hook", Since: "1h"})
		s.want("delivered again", fmt.Sprint(a.Count, " ", s.webhooks.waiting["acme.hook"][0].Sequence), "1 1")
		answered[jetstream.SetWebhookAnswer](s, "acme", "webhooks.set", jetstream.SetWebhookRequest{Name: "hook", Disable: new(true)})
		row := answered[jetstream.WebhooksAnswer](s, "acme", "webhooks", jetstream.WebhooksRequest{}).Webhooks[0]
		s.want("disabled", fmt.Sprintln(row.Disabled != nil, row.Reason, row.Named, row.Pending), "true it was disabled by a call true 1\n")
	})
}

func TestWhyOfAWorkflowSaysWhetherAHostMayTakeIt(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		_, err := call[jetstream.WhyAnswer](s.memory, "why", jetstream.WhyRequest{Workflow: []byte(`{"1":7}`)})
		refused[*jetstream.BadRequest](s, err)
		s.host("a", s.accepts("a"))
		s.pass(time.Second)
		why := func() string {
			return operator[jetstream.WhyAnswer](s, "why", jetstream.WhyRequest{Workflow: graph(1)}).Text
		}
		s.want("with a free host", why(), "a host may take it at once")
		s.submit("x")
		s.pass(time.Second)
		s.want("with a busy one", why(), "it only waits its turn: hosts that may take it are busy")
		status := operator[jetstream.JobStatus](s, "status", jetstream.StatusRequest{Tenant: "acme", Job: "x"})
		s.want("whose job it is", fmt.Sprintln(status.Job, status.Tenant, status.Event.EventKind), "x acme started\n")
	})
}

func TestWorkflowsAreListedInPages(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		for n := range 5 {
			s.goOn(job.ID(fmt.Sprint("x", n)), job.Queued, func(e *job.Event) { e.Hash = hashOf(t, n) })
		}
		var hashes []string
		for r := (jetstream.WorkflowsRequest{Limit: 2}); ; {
			a := operator[jetstream.WorkflowsAnswer](s, "workflows", r)
			s.want("since", a.Since.Sequence, 1)
			for i := range a.Workflows {
				hashes = append(hashes, string(a.Workflows[i].Hash))
				s.want("its last event", a.Workflows[i].Last.Sequence, 6-len(hashes))
			}
			if r.Before = a.Next; a.Next == 0 {
				break
			}
		}
		s.want("workflows", fmt.Sprint(len(hashes), hashes[0] == string(hashOf(t, 4)), strings.Contains(hashes[4], string(hashOf(t, 0)))), "5 true true")
	})
}
