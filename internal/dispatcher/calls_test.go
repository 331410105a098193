package dispatcher_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// answered gives the answer to a tenant's call, which must not fail.
func answered[Answer any](s *scene, tenant job.Tenant, name string, request any) Answer {
	s.t.Helper()
	answer, err := callAs[Answer](s.memory, tenant, name, request)
	if err != nil {
		s.t.Fatalf("%s of %s: %v", name, tenant, err)
	}
	return answer
}

// operator is answered for a call of comfy.api.
func operator[Answer any](s *scene, name string, request any) Answer {
	s.t.Helper()
	answer, err := call[Answer](s.memory, name, request)
	if err != nil {
		s.t.Fatalf("%s: %v", name, err)
	}
	return answer
}

// refused wants an error of a kind.
func refused[E error](s *scene, err error) {
	s.t.Helper()
	if _, is := errors.AsType[E](err); !is {
		s.t.Errorf("want a %T, got %v", *new(E), err)
	}
}

func TestATenantSeesAndEndsItsOwnJobsAndNoOthers(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.submit("first")
		s.submit("one")
		s.pass(time.Second)
		_, err := callAs[jetstream.JobStatus](s.memory, "bolt", "status", jetstream.StatusRequest{Job: "one"})
		refused[*jetstream.NotFound](s, err)
		_, err = callAs[jetstream.WhyAnswer](s.memory, "bolt", "why", jetstream.WhyRequest{Job: "one"})
		refused[*jetstream.NotFound](s, err)
		_, err = callAs[jetstream.CancelAnswer](s.memory, "bolt", "cancel", jetstream.CancelRequest{Job: "one"})
		refused[*jetstream.NotFound](s, err)
		for _, name := range []string{"status", "why", "cancel", "dead", "requeue"} {
			_, err = callAs[any](s.memory, "bolt", name, map[string]any{"tenant": "acme", "job": "one"})
			refused[*jetstream.BadRequest](s, err)
		}
		s.want("lanes of bolt", len(answered[jetstream.QueueAnswer](s, "bolt", "queue", struct{}{}).Lanes), 0)
		lanes := answered[jetstream.QueueAnswer](s, "acme", "queue", struct{}{}).Lanes
		s.want("lanes of acme", fmt.Sprint(len(lanes), lanes[0].Depth, lanes[0].Place), "1 2 3")

		status := answered[jetstream.JobStatus](s, "acme", "status", jetstream.StatusRequest{Job: "one"})
		s.want("state and place", fmt.Sprintf("%s %d %d", status.State, status.Position, status.Of), "waiting 2 2")
		var rows []string
		for _, row := range status.Events {
			rows = append(rows, fmt.Sprint(row.Sequence > 0, " ", row.Subject, " ", row.Event.EventKind))
		}
		if diff := cmp.Diff([]string{"true comfy.events.jobs.acme.one.queued queued", "true comfy.events.jobs.acme.one.waiting waiting"}, rows); diff != "" {
			t.Errorf("events, want (-) and got (+):\n%s", diff)
		}
		why := answered[jetstream.WhyAnswer](s, "acme", "why", jetstream.WhyRequest{Job: "one"})
		s.want("why", fmt.Sprintf("%s %s", why.State, why.Reason), "waiting none_capable")
		s.want("why a workflow", answered[jetstream.WhyAnswer](s, "acme", "why", jetstream.WhyRequest{Workflow: graph(2)}).Reason, "none_capable")

		ended := answered[jetstream.CancelAnswer](s, "acme", "cancel", jetstream.CancelRequest{Job: "one", By: " ann\x1b[31m\u202e\n" + strings.Repeat("e", 100)})
		s.want("cancel", fmt.Sprintf("%s %d %s", ended.State, ended.Count, ended.Event.By), "cancelled 1 tenant acme: ann[31m"+strings.Repeat("e", 57))
		again := answered[jetstream.CancelAnswer](s, "acme", "cancel", jetstream.CancelRequest{Job: "one"})
		s.want("cancel again", fmt.Sprintf("%s %d", again.State, again.Count), "cancelled 0")
		s.want("acts", s.whoActed(), []string{`cancel by tenant acme: ann[31m` + strings.Repeat("e", 57) + ` for "acme": 1 of {"tenant":"acme","job":"one"}`})
		s.pass(time.Second)
		s.want("jobs that are left", s.left(), 1)
	})
}

// submitTo publishes jobs of a tenant with a priority.
func (s *scene) submitTo(tenant string, p job.Priority, ids ...string) {
	for _, id := range ids {
		s.publish(job.Message{Tenant: tenant, Priority: p, JobIDHeader: id, Body: graph(1)})
	}
}

// cancels asks until there is no next, and gives the counts.
func (s *scene) cancels(request jetstream.CancelRequest) (counts []int) {
	s.t.Helper()
	for {
		a := answered[jetstream.CancelAnswer](s, "acme", "cancel", request)
		counts = append(counts, a.Count)
		if request.After = a.Next; a.Next == 0 {
			return counts
		}
	}
}

func TestALaneAndAllThatWaitsAreCancelledPageByPage(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.host("gpu-1", s.accepts("gpu-1"))
		s.submitTo("acme", 5, "runs")
		s.pass(time.Second)
		s.submitTo("acme", 5, "a", "b", "c", "d", "e")
		s.submitTo("acme", 2, "f", "g")
		s.submitTo("bolt", 5, "other")
		s.publish(job.Message{Tenant: "acme", Priority: 5, Body: []byte("no job")})
		s.pass(time.Second)
		s.cuts(map[string]error{"pull": errCut}) // what comes now stays in the stream
		lane := job.Priority(5)
		s.want("counts of the lane", s.cancels(jetstream.CancelRequest{Lane: &lane, Limit: 2}), []int{2, 2, 1})
		s.want("counts of all", s.cancels(jetstream.CancelRequest{All: true}), []int{2})
		s.want("the running job", s.story("runs"), "queued started")
		s.want("with running ones", s.cancels(jetstream.CancelRequest{All: true, Running: true}), []int{1})
		s.want("the running job", s.story("runs"), "queued started cancelled")
		s.pass(time.Minute)
		var left []string
		for _, id := range []job.ID{"a", "e", "f", "g"} {
			if !strings.HasSuffix(s.story(id), "cancelled") {
				left = append(left, string(id))
			}
		}
		s.want("not cancelled", left, []string(nil))
		status := operator[jetstream.JobStatus](s, "status", jetstream.StatusRequest{Tenant: "bolt", Job: "other"})
		s.want("the other tenant's", status.State.Terminal(), false)
	})
}

func TestJobsThatNobodyHasPulledYetAreCancelledAsWell(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.mu.Lock()
		s.cut = func(effect string) error {
			if effect == "pull" {
				return errCut
			}
			return nil
		}
		s.mu.Unlock()
		s.pass(time.Minute) // the pulls under way have ended
		s.submitTo("acme", 7, "a", "b")
		s.want("counts", s.cancels(jetstream.CancelRequest{All: true}), []int{2})
		s.want("chain", s.story("a"), "cancelled")
		s.want("in the stream", s.left(), 2)
		s.mu.Lock()
		s.cut = nil
		s.mu.Unlock()
		s.pass(time.Minute)
		s.want("chain", s.story("a"), "cancelled")
		s.want("in the stream", s.left(), 0)
	})
}

func TestACancelMustSayOneThing(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		for _, request := range []string{
			`{}`, `{"tenant":"acme"}`, `{"tenant":"acme","job":"a","all":true}`, `{"tenant":"acme","lane":3,"all":true}`, `{"tenant":"acme","lane":10}`,
			`{"tenant":"acme","lane":-1}`, `{"all":true}`, `{"tenant":"acme","job":"no id"}`, `{"stream":"COMFY_JOBS","seq":7}`, `{"tenant":"acme","all":true,"limit":-1}`,
		} {
			_, err := call[jetstream.CancelAnswer](s.memory, "cancel", json.RawMessage(request))
			refused[*jetstream.BadRequest](s, err)
		}
	})
}

// bury stores dead letters of a tenant.
func (s *scene) bury(tenant job.Tenant, ids ...job.ID) {
	for _, id := range ids {
		e := job.Event{
			EventKind: job.Dead, Job: id, Tenant: tenant, Priority: 5, Time: s.Now(), Reason: string(failure.Expired), Message: strings.Repeat("m", 1000),
		}
		if _, err := s.Bury(s.t.Context(), &job.Message{Tenant: string(tenant), Body: graph(1)}, &e, 0); err != nil {
			s.t.Error(err)
		}
	}
}

func TestARequeueOfEverythingMustSaySo(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.bury("acme", "a1", "a2")
		s.bury("bolt", "b1", "b2")
		s.dispatcher(dispatcher.Config{})
		for _, request := range []string{`{}`, `{"again":true}`, `{"limit":1}`, `{"after":3}`, `{"by":"me"}`, `{"stream":"COMFY_JOBS","seq":7}`} {
			_, err := call[jetstream.RequeueAnswer](s.memory, "requeue", json.RawMessage(request))
			refused[*jetstream.BadRequest](s, err)
			_, err = callAs[jetstream.RequeueAnswer](s.memory, "acme", "requeue", json.RawMessage(request))
			refused[*jetstream.BadRequest](s, err)
		}
		_, err := callAs[jetstream.RequeueAnswer](s.memory, "acme", "requeue", json.RawMessage(`{"tenant":"acme"}`))
		refused[*jetstream.BadRequest](s, err)
		s.want("requeued", s.done("requeue"), []string(nil))

		dead := answered[jetstream.DeadAnswer](s, "bolt", "dead", jetstream.DeadRequest{})
		s.want("dead of bolt", fmt.Sprintf("%d %s %d", len(dead.Dead), dead.Dead[0].Job, dead.Next), "2 b1 0")
		one := answered[jetstream.RequeueAnswer](s, "bolt", "requeue", jetstream.RequeueRequest{Job: "b2"})
		s.want("one", fmt.Sprint(one.Count, one.Jobs), "1 map[b2:b2-r1]")
		all := answered[jetstream.RequeueAnswer](s, "bolt", "requeue", jetstream.RequeueRequest{All: true})
		s.want("all of bolt", fmt.Sprint(all.Count, all.Jobs), "1 map[b1:b1-r1]")
		rest := operator[jetstream.RequeueAnswer](s, "requeue", jetstream.RequeueRequest{All: true, By: "ops"})
		s.want("all", fmt.Sprint(rest.Count, rest.Jobs), "2 map[a1:a1-r1 a2:a2-r1]")
		s.want("acts", s.whoActed(), []string{
			`requeue by tenant bolt for "bolt" begins: {"tenant":"bolt","job":"b2"}`,
			`requeue by tenant bolt for "bolt": 1 of {"tenant":"bolt","job":"b2"}`,
			`requeue by tenant bolt for "bolt" begins: {"tenant":"bolt","all":true}`,
			`requeue by tenant bolt for "bolt": 1 of {"tenant":"bolt","all":true}`,
			`requeue by ops for "" begins: {"all":true}`,
			`requeue by ops for "": 2 of {"all":true}`,
		})
	})
}

func TestWhatAnOperatorChangesIsToldWithItsName(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		hash, weight := hashOf(t, 1), 3.0
		s.block("gpu-1", hash, []byte(`{"kind":"timeout","tenants":["*"],"until":"2099-01-01T00:00:00Z"}`), time.Hour, -1)
		s.pass(0)
		operator[queue.DrainAnswer](s, "drain", queue.DrainRequest{Host: "gpu-1", By: "ann"})
		operator[queue.CountAnswer](s, "unblock", queue.UnblockRequest{Host: "gpu-1", By: "ann"})
		operator[queue.CountAnswer](s, "unblock", queue.UnblockRequest{Host: "gpu-2", By: "ann"}) // nothing is there
		operator[queue.AffinityAnswer](s, "affinity", queue.AffinityRequest{Hash: hash, Prefer: []string{"gpu-1"}})
		operator[queue.AffinityAnswer](s, "affinity", queue.AffinityRequest{})
		operator[queue.TenantsAnswer](s, "tenants", queue.TenantsRequest{Tenant: "acme", Weight: &weight, By: "bob"})
		operator[queue.TenantsAnswer](s, "tenants", queue.TenantsRequest{})
		_, err := call[queue.DrainAnswer](s.memory, "drain", queue.DrainRequest{Host: "no host"})
		refused[*jetstream.BadRequest](s, err)
		s.want("acts", s.whoActed(), []string{
			`drain by ann for "": 1 of {"host":"gpu-1"}`,
			`unblock by ann for "": 1 of {"host":"gpu-1"}`,
			`affinity by api for "": 1 of {"hash":"` + string(hash) + `","prefer":["gpu-1"]}`,
			`tenants by bob for "acme": 1 of {"tenant":"acme","weight":3}`,
		})
		s.want("control", s.done("control"), []string{"control gpu-1 drain true by ann"})
	})
}

// An act that cannot be stored is logged, and what was done stays done.
func TestAnActThatCannotBeStoredKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.cuts(map[string]error{"act": errCut})
		s.want("drain", operator[queue.DrainAnswer](s, "drain", queue.DrainRequest{Host: "gpu-1"}).Count, 1)
	})
}

func TestSettingsThatWereRemovedUnseenAreGoneFromAnswers(t *testing.T) {
	t.Parallel()
	m := dispatcher.NewSettings()
	hear := func(phase queue.Phase, key string) {
		m.Change(queue.Change[queue.TenantSettings]{Phase: phase, Key: key})
	}
	hear(queue.Reset, "")
	hear(queue.Put, "acme")
	hear(queue.Put, "bolt")
	hear(queue.Synced, "")
	hear(queue.Reset, "")
	if got := m.Keys(); !slices.Equal(got, []string{"acme", "bolt"}) {
		t.Errorf("while it is told anew: %q", got)
	}
	hear(queue.Put, "bolt")
	hear(queue.Invalid, "coral")
	hear(queue.Synced, "")
	if got := m.Keys(); !slices.Equal(got, []string{"bolt"}) {
		t.Errorf("afterwards: %q", got)
	}
	hear(queue.Gone, "bolt")
	if got := m.Keys(); len(got) != 0 {
		t.Errorf("at the end: %q", got)
	}
}
