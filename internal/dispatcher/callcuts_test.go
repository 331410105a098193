package dispatcher_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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

// busyFleet has something for each call: a running job, a waiting one, dead letters, a block, strikes, a host that has gone, webhooks.
func (s *scene) busyFleet() {
	s.t.Helper()
	s.dispatcher(dispatcher.Config{})
	s.can("gpu-1", "EmptyImage1", "SaveImage")
	s.host("gpu-1", s.accepts("gpu-1"))
	s.submit("runs")
	s.pass(time.Second)
	s.submit("waits")
	s.submit("done", func(spec *job.Spec) { spec.Workflow = graph(2) })
	s.pass(time.Second)
	s.goOn("done", job.Completed, func(e *job.Event) { e.Hash = hashOf(s.t, 2) })
	s.bury("acme", "dead-1", "dead-2")
	s.goOn("dead-1", job.Dead, func(e *job.Event) { e.Reason = string(failure.Expired) })
	s.block("gpu-1", hashOf(s.t, 3), []byte(`{"kind":"timeout","tenants":["*"],"until":"2099-01-01T00:00:00Z"}`), time.Hour, -1)
	s.set(names.StrikesBucket, pairOf("gpu-1", hashOf(s.t, 4)), []byte(`{"tenants":{"acme":1}}`), -1)
	for _, name := range []string{"hook", "other"} {
		answered[jetstream.SetWebhookAnswer](s, "acme", "webhooks.set", jetstream.SetWebhookRequest{Name: name, URL: "https://a.example", Events: []string{"job.*"}})
	}
	s.webhooks.most = 100
	s.webhooks.waiting["acme.hook"] = []queue.Undelivered{{Sequence: 1, Time: s.Now()}}
	s.pass(10 * time.Second) // the counts of stores are read again
}

// cutCall is a call with the effects that it cannot do without, by the words with which they begin.
type cutCall struct {
	name    string
	request any
	needs   []string
}

// ask calls as an operator, and gives up as a caller does.
func (s *scene) ask(c cutCall) error {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return s.askWithin(ctx, c)
}

func (s *scene) askWithin(ctx context.Context, c cutCall) error {
	s.t.Helper()
	body, err := json.Marshal(c.request)
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	endpoint := s.api.Calls[c.name]
	s.mu.Unlock()
	_, err = endpoint(ctx, body)
	return err
}

// effectsOf gives the effects that a call needs, and the call must not fail. Other effects come from what dispatchers do beside it.
func (s *scene) effectsOf(c cutCall) (effects []string) {
	s.t.Helper()
	met := map[string]bool{}
	s.mu.Lock()
	s.cut = func(effect string) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, word := range c.needs {
			if strings.HasPrefix(effect, word) && !slices.Contains(effects, effect) {
				met[word] = true
				effects = append(effects, effect)
			}
		}
		return nil
	}
	s.mu.Unlock()
	if err := s.ask(c); err != nil {
		s.t.Errorf("%s: %v", c.name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = nil
	if len(met) != len(c.needs) {
		s.t.Errorf("of the effects %q, %s has had %q", c.needs, c.name, effects)
	}
	return effects
}

// mustTell has one effect of a call fail, again and again, and wants the caller to be told.
func (s *scene) mustTell(c cutCall, effect string) error {
	s.t.Helper()
	s.mu.Lock()
	s.cut = func(e string) error {
		if e == effect {
			return errCut
		}
		return nil
	}
	s.mu.Unlock()
	err := s.ask(c)
	s.mu.Lock()
	s.cut = nil
	s.mu.Unlock()
	if _, stopping := errors.AsType[*jetstream.Stopping](err); !stopping && !errors.Is(err, errCut) {
		s.t.Errorf("%s without %q: %v", c.name, effect, err)
	}
	return err
}

func TestACallThatCannotReadWhatItNeedsIsNotAnsweredWithLess(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.busyFleet()
		of := func(id job.ID) jetstream.StatusRequest { return jetstream.StatusRequest{Tenant: "acme", Job: id} }
		for _, c := range []cutCall{
			{"status", of("waits"), []string{"chain"}},
			{"why", jetstream.WhyRequest{Tenant: "acme", Job: "waits"}, []string{"chain", "read 2"}},
			{"job", of("waits"), []string{"chain", "tries of waits"}},
			{"job", of("dead-1"), []string{"chain", "tries of dead-1", "read letters"}},
			{"jobs", nil, []string{"state of events", "read events"}},
			{"hosts", queue.HostsRequest{Offline: true}, []string{"state of events"}},
			{"hosts", queue.HostsRequest{Host: "gpu-1", Attempts: true, Trend: true}, []string{"state of events"}},
			{"blocks", queue.BlocksRequest{Struck: true}, []string{"look for strikes"}},
			{"workflows", nil, []string{"state of events", "last done"}},
			{"overview", nil, []string{"state of streams"}},
			{"dead", nil, []string{"read letters", "last dead-1", "last dead-2"}},
			{"dead", jetstream.DeadRequest{Group: "signature"}, []string{"last letter", "state of events"}},
			{"webhooks", nil, []string{"list webhooks", "state of events", "count deliveries", "oldest delivery"}},
			{"settings", nil, []string{"state of streams"}},
		} {
			for _, effect := range s.effectsOf(c) {
				s.pass(10 * time.Second)  // the counts of streams are read again
				_ = s.mustTell(c, effect) // it has looked at the error
			}
			s.pass(10 * time.Second)
		}
	})
}

// A call whose caller has gone asks the loop nothing, and has no answer.
func TestACallWhoseCallerHasGoneIsNotAnswered(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.busyFleet()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		for _, c := range []cutCall{
			{name: "status", request: jetstream.StatusRequest{Tenant: "acme", Job: "waits"}},
			{name: "why", request: jetstream.WhyRequest{Tenant: "acme", Job: "waits"}},
			{name: "why", request: jetstream.WhyRequest{Workflow: graph(1)}},
			{name: "jobs"}, {name: "hosts"}, {name: "hosts", request: queue.HostsRequest{Host: "gpu-1"}}, {name: "blocks"},
			{name: "blocks", request: queue.BlocksRequest{Struck: true}}, {name: "queue"}, {name: "workflows"}, {name: "waiting"}, {name: "overview"},
			{name: "dead", request: jetstream.DeadRequest{Group: "signature"}}, {name: "webhooks"}, {name: "unblock", request: queue.UnblockRequest{Host: "gpu-1"}},
		} {
			s.pass(10 * time.Second)
			if err := s.askWithin(ctx, c); err == nil {
				t.Errorf("%s is answered", c.name)
			}
		}
	})
}

// changingCalls change something.
func changingCalls(t *testing.T) map[string]cutCall {
	t.Helper()
	weight, yes := 2.0, true
	return map[string]cutCall{
		"CancelOne":     {"cancel", jetstream.CancelRequest{Tenant: "acme", Job: "waits"}, []string{"last waits", "append cancelled waits"}},
		"CancelAll":     {"cancel", jetstream.CancelRequest{Tenant: "acme", All: true, Running: true}, []string{"read behind 0", "read behind 2", "last ", "begin act", "append cancelled"}},
		"Requeue":       {"requeue", jetstream.RequeueRequest{All: true}, []string{"read letters", "last dead-1", "look for the requeue", "begin act", "requeue dead-1"}},
		"Purge":         {"purge", queue.PurgeRequest{All: true}, []string{"read letters", "last dead-1", "begin act", "purge letter 1"}},
		"Unblock":       {"unblock", queue.UnblockRequest{Host: "gpu-1"}, []string{"read blocks", "look for strikes", "lift block"}},
		"Drain":         {"drain", queue.DrainRequest{Host: "gpu-1"}, []string{"control gpu-1"}},
		"Affinity":      {"affinity", queue.AffinityRequest{Hash: hashOf(t, 1), Prefer: []string{"gpu-1"}}, []string{"set "}},
		"NoAffinity":    {"affinity", queue.AffinityRequest{Hash: hashOf(t, 1), Remove: true}, []string{"remove "}},
		"Tenant":        {"tenants", queue.TenantsRequest{Tenant: "acme", Weight: &weight}, []string{"settings of acme", "set acme"}},
		"NewWebhook":    {"webhooks.set", jetstream.SetWebhookRequest{Tenant: "acme", Name: "new", URL: "https://a.example"}, []string{"webhook new", "list webhooks", "secret", "set webhook"}},
		"SetWebhook":    {"webhooks.set", jetstream.SetWebhookRequest{Tenant: "acme", Name: "hook", Disable: &yes}, []string{"webhook hook", "set webhook"}},
		"RotateWebhook": {"webhooks.rotate", jetstream.RotateWebhookRequest{Tenant: "acme", Name: "hook"}, []string{"webhook hook", "secret", "set webhook"}},
		"RemoveWebhook": {"webhooks.remove", jetstream.RemoveWebhookRequest{Tenant: "acme", Name: "hook"}, []string{"webhook hook", "remove webhook"}},
		"TestWebhook":   {"webhooks.test", jetstream.TestWebhookRequest{Tenant: "acme", Name: "hook"}, []string{"webhook hook", "deliver"}},
		"RedeliverOne":  {"webhooks.redeliver", jetstream.RedeliverRequest{Tenant: "acme", Name: "hook", Sequence: 1}, []string{"webhook hook", "event 1", "deliver 1"}},
		"Redeliver":     {"webhooks.redeliver", jetstream.RedeliverRequest{Tenant: "acme", Name: "hook", Since: "1h"}, []string{"webhook hook", "events for hook", "tries of 2", "deliver 2"}},
	}
}

// What a call has changed before it failed is on record.
func TestACallThatCannotChangeWhatItIsAskedForSaysSo(t *testing.T) {
	t.Parallel()
	for name, c := range changingCalls(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var effects []string
			inBubble(t, func(s *scene) {
				s.busyFleet()
				effects = s.effectsOf(c)
			})
			for _, effect := range effects {
				inBubble(t, func(s *scene) {
					s.busyFleet()
					before := len(s.whoActed())
					err := s.mustTell(c, effect)
					if text := fmt.Sprint(err); strings.HasPrefix(effect, "begin") && (!strings.Contains(text, "nothing was changed") || strings.Contains(text, "1 ")) {
						t.Errorf("without %q: %v", effect, err)
					}
					if recorded := len(s.whoActed()) > before; strings.HasPrefix(effect, "append") && !recorded {
						t.Errorf("without %q nothing is on record", effect)
					}
				})
			}
		})
	}
}
