package dispatcher_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

func TestAWebhookIsMadeChangedAndRemoved(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		set := func(r jetstream.SetWebhookRequest) jetstream.SetWebhookAnswer {
			return answered[jetstream.SetWebhookAnswer](s, "acme", "webhooks.set", r)
		}
		made := set(jetstream.SetWebhookRequest{Name: "hook", URL: "https://a.example/secret", By: "ann"})
		want := jetstream.Webhook{Tenant: "acme", Name: "hook", URL: "https://a.example/secret", Events: queue.UsualWebhookEvents(), Created: s.Now().UTC()}
		if diff := cmp.Diff(want, made.Webhook); diff != "" || !strings.HasPrefix(made.Secret, "whsec_") {
			t.Errorf("%s, secret %q", diff, made.Secret)
		}
		s.webhooks.waiting["acme.hook"] = []queue.Undelivered{{Sequence: 1, Time: s.Now().UTC()}, {Sequence: 2, Time: s.Now().Add(time.Minute).UTC()}}
		changed := set(jetstream.SetWebhookRequest{Name: "hook", Events: []string{"job.dead"}})
		s.want("the secret when it is changed", changed.Secret, "")
		s.want("what was not set", changed.Webhook.URL, "https://a.example/secret")
		rotated := answered[jetstream.SetWebhookAnswer](s, "acme", "webhooks.rotate", jetstream.RotateWebhookRequest{Name: "hook"})
		until := s.Now().UTC().Add(24 * time.Hour)
		if rotated.Secret == made.Secret || !strings.HasPrefix(rotated.Secret, "whsec_") || rotated.Webhook.Rotated == nil || !rotated.Webhook.Rotated.Equal(until) {
			t.Errorf("rotated until %v, want %v", rotated.Webhook.Rotated, until)
		}
		overlap := job.Duration(0)
		rotated = answered[jetstream.SetWebhookAnswer](s, "acme", "webhooks.rotate", jetstream.RotateWebhookRequest{Name: "hook", Overlap: &overlap})
		s.want("rotated at once", rotated.Webhook.Rotated, (*time.Time)(nil))
		list := answered[jetstream.WebhooksAnswer](s, "acme", "webhooks", jetstream.WebhooksRequest{}).Webhooks
		s.want("webhooks", fmt.Sprint(len(list), list[0].Events, list[0].Pending, list[0].Oldest.Equal(s.Now())), "1 [job.dead] 2 true")
		s.want("removed", answered[jetstream.RemoveWebhookAnswer](s, "acme", "webhooks.remove", jetstream.RemoveWebhookRequest{Name: "hook", By: "ann"}).Count, 1)
		s.want("left", len(answered[jetstream.WebhooksAnswer](s, "acme", "webhooks", jetstream.WebhooksRequest{}).Webhooks), 0)
		s.want("acts", s.whoActed(), []string{
			`webhooks.set by tenant acme: ann for "acme": 1 of {"tenant":"acme","name":"hook","url":"https://a.example"}`,
			`webhooks.set by tenant acme for "acme": 1 of {"tenant":"acme","name":"hook","events":["job.dead"]}`,
			`webhooks.rotate by tenant acme for "acme": 1 of {"tenant":"acme","name":"hook"}`,
			`webhooks.rotate by tenant acme for "acme": 1 of {"tenant":"acme","name":"hook","overlap":"0s"}`,
			`webhooks.remove by tenant acme: ann for "acme": 1 of {"tenant":"acme","name":"hook"}`,
		})
	})
}

func TestAWebhookIsTestedAndItsEventsAreDeliveredAgain(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		answered[jetstream.SetWebhookAnswer](s, "acme", "webhooks.set", jetstream.SetWebhookRequest{Name: "hook", URL: "https://a.example", Events: []string{"job.queued"}})
		test := answered[jetstream.TestWebhookAnswer](s, "acme", "webhooks.test", jetstream.TestWebhookRequest{Name: "hook", By: "ann"})
		acts := s.whoActed()
		s.want("the test's record", acts[len(acts)-1], `webhooks.test by tenant acme: ann for "acme": 1 of {"tenant":"acme","name":"hook"}`)
		s.want("the test", s.webhooks.waiting["acme.hook"], []queue.Undelivered{{Time: s.Now().UTC(), Test: test.ID}})
		s.want("its name", strings.HasPrefix(test.ID, "test_"), true)
		s.webhooks.waiting = map[string][]queue.Undelivered{}

		s.queued("acme", "old")
		s.pass(10 * time.Minute)
		s.queued("acme", "a", "b", "c", "d")
		s.goOn("a", job.Started) // of a type that it does not want
		s.queued("bolt", "other")
		s.webhooks.delivered["acme.hook b 3"] = true
		redeliver := func(r jetstream.RedeliverRequest) string {
			r.Name, r.By = "hook", "ann"
			answer := answered[jetstream.RedeliverAnswer](s, "acme", "webhooks.redeliver", r)
			var sequences []uint64
			for _, u := range s.webhooks.waiting["acme.hook"] {
				if !u.Again || !u.Time.Equal(s.events[u.Sequence-1].Time) {
					t.Errorf("%+v", u)
				}
				sequences = append(sequences, u.Sequence)
			}
			s.webhooks.waiting = map[string][]queue.Undelivered{}
			return fmt.Sprint(answer.Count, sequences, answer.Next)
		}
		s.want("what was missed lately", redeliver(jetstream.RedeliverRequest{Since: "5m"}), "3 [2 4 5] 0")
		s.want("with what was delivered", redeliver(jetstream.RedeliverRequest{Since: "5m", All: true, Limit: 4}), "4 [2 3 4 5] 5")
		s.want("a page", redeliver(jetstream.RedeliverRequest{Since: "2h", Limit: 2}), "2 [1 2] 2")
		s.want("the next page", redeliver(jetstream.RedeliverRequest{Since: "2h", Limit: 2, After: 2}), "2 [4 5] 5")
		s.want("one that was delivered", redeliver(jetstream.RedeliverRequest{Sequence: 3}), "1 [3] 0")
		_, err := callAs[jetstream.RedeliverAnswer](s.memory, "acme", "webhooks.redeliver", jetstream.RedeliverRequest{Name: "hook", Sequence: 7})
		refused[*jetstream.NotFound](s, err) // another tenant's
		_, err = callAs[jetstream.RedeliverAnswer](s.memory, "acme", "webhooks.redeliver", jetstream.RedeliverRequest{Name: "hook", Sequence: 99})
		refused[*jetstream.NotFound](s, err)
		acts = s.whoActed()
		s.want("the record of one", acts[len(acts)-1], `webhooks.redeliver by tenant acme: ann for "acme": 1 of {"tenant":"acme","name":"hook","sequence":3}`)
		for _, r := range []jetstream.RedeliverRequest{{Name: "hook"}, {Name: "hook", Since: "1h", Sequence: 1}, {Name: "hook", Since: "lately"}, {Name: "hook", Since: "1h", Limit: -1}} {
			_, err := callAs[jetstream.RedeliverAnswer](s.memory, "acme", "webhooks.redeliver", r)
			refused[*jetstream.BadRequest](s, err)
		}
		s.webhooks.most = 2
		_, err = callAs[jetstream.RedeliverAnswer](s.memory, "acme", "webhooks.redeliver", jetstream.RedeliverRequest{Name: "hook", Since: "5m"})
		refused[*jetstream.TooMany](s, err)
		acts = s.whoActed()
		s.want("the last act", acts[len(acts)-1], `webhooks.redeliver by tenant acme for "acme": 2 of {"tenant":"acme","name":"hook","since":"5m"}`)
	})
}

func TestADisabledWebhookIsSentNothing(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		yes := true
		operator[jetstream.SetWebhookAnswer](s, "webhooks.set", jetstream.SetWebhookRequest{Tenant: "*", Name: "hook", URL: "https://a.example", Disable: &yes})
		for name, request := range map[string]any{
			"webhooks.test": jetstream.TestWebhookRequest{Tenant: "*", Name: "hook"}, "webhooks.redeliver": jetstream.RedeliverRequest{Tenant: "*", Name: "hook", Since: "1h"},
		} {
			_, err := call[any](s.memory, name, request)
			refused[*jetstream.Conflict](s, err)
		}
		s.want("acts", s.whoActed(), []string{`webhooks.set by api for "": 1 of {"tenant":"*","name":"hook","url":"https://a.example","disable":true}`})
	})
}

func TestACallOnAWebhookSaysWhatIsWrongWithIt(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		long := job.Duration(7*24*time.Hour + 1)
		set := func(name, url string) error {
			_, err := callAs[jetstream.SetWebhookAnswer](s.memory, "acme", "webhooks.set", jetstream.SetWebhookRequest{Name: name, URL: url})
			return err
		}
		refused[*jetstream.NotFound](s, set("hook", ""))
		refused[*jetstream.BadRequest](s, set("hook", "ftp://a.example"))
		refused[*jetstream.BadRequest](s, set("a.b", "https://a.example"))
		for n := range 8 {
			if err := set(fmt.Sprint("hook-", n), "https://a.example"); err != nil {
				t.Error(err)
			}
		}
		refused[*jetstream.Conflict](s, set("one-more", "https://a.example"))
		if err := set("hook-3", "https://b.example"); err != nil {
			t.Error(err)
		}
		for name, request := range map[string]any{
			"webhooks.remove": jetstream.RemoveWebhookRequest{Name: "none"}, "webhooks.rotate": jetstream.RotateWebhookRequest{Name: "none"},
			"webhooks.test": jetstream.TestWebhookRequest{Name: "none"}, "webhooks.redeliver": jetstream.RedeliverRequest{Name: "none", Since: "1h"},
		} {
			_, err := callAs[any](s.memory, "acme", name, request)
			refused[*jetstream.NotFound](s, err)
		}
		_, err := callAs[any](s.memory, "acme", "webhooks.rotate", jetstream.RotateWebhookRequest{Name: "hook-1", Overlap: &long})
		refused[*jetstream.BadRequest](s, err)
		for _, r := range []jetstream.WebhooksRequest{{Tries: -1}, {Tries: 21}, {Limit: -1}, {Tenant: "a.b"}} {
			_, err := call[jetstream.WebhooksAnswer](s.memory, "webhooks", r)
			refused[*jetstream.BadRequest](s, err)
		}
		s.want("acts", len(s.whoActed()), 9)
	})
}

func TestWebhooksAreListedInPages(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		for _, tenant := range []job.Tenant{"bolt", "acme"} {
			for _, name := range []string{"b", "a"} {
				answered[jetstream.SetWebhookAnswer](s, tenant, "webhooks.set", jetstream.SetWebhookRequest{Name: name, URL: "https://a.example"})
			}
		}
		list := func(r jetstream.WebhooksRequest) string {
			a := operator[jetstream.WebhooksAnswer](s, "webhooks", r)
			text := ""
			for i := range a.Webhooks {
				text += string(a.Webhooks[i].Tenant) + "." + a.Webhooks[i].Name + " "
			}
			return text + "next " + a.Next
		}
		s.want("all", list(jetstream.WebhooksRequest{}), "acme.a acme.b bolt.a bolt.b next ")
		s.want("a page", list(jetstream.WebhooksRequest{Limit: 3}), "acme.a acme.b bolt.a next bolt.a")
		s.want("the next page", list(jetstream.WebhooksRequest{After: "bolt.a"}), "bolt.b next ")
		s.want("of a tenant", list(jetstream.WebhooksRequest{Tenant: "acme"}), "acme.a acme.b next ")
		s.want("of a name", list(jetstream.WebhooksRequest{Name: "b"}), "acme.b bolt.b next ")
		s.want("of the fleet", list(jetstream.WebhooksRequest{Tenant: "*"}), "next ")
		s.want("of a tenant's own call", len(answered[jetstream.WebhooksAnswer](s, "bolt", "webhooks", jetstream.WebhooksRequest{}).Webhooks), 2)
	})
}

// A secret is told once only. A webhook whose secret was not told would have no use, and a rotation that is repeated ends the secret that the
// receiver has.
func TestAWebhookWhoseSecretCannotBeToldStaysAsItWas(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		set := func() (jetstream.SetWebhookAnswer, error) {
			return callAs[jetstream.SetWebhookAnswer](s.memory, "acme", "webhooks.set", jetstream.SetWebhookRequest{Name: "hook", URL: "https://a.example"})
		}
		s.cuts(map[string]error{"secret": errCut})
		_, err := set()
		s.want("while the secret cannot be read", errors.Is(err, errCut), true)
		made, err := set()
		s.want("the secret afterwards", fmt.Sprint(made.Secret != "", err), "true <nil>")
		s.cuts(map[string]error{"secret": errCut})
		_, err = callAs[jetstream.SetWebhookAnswer](s.memory, "acme", "webhooks.rotate", jetstream.RotateWebhookRequest{Name: "hook"})
		s.want("rotated while the secret cannot be read", errors.Is(err, errCut), true)
		list := answered[jetstream.WebhooksAnswer](s, "acme", "webhooks", jetstream.WebhooksRequest{}).Webhooks
		s.want("rotated until", list[0].Rotated, (*time.Time)(nil))
		s.want("acts", len(s.whoActed()), 3) // those that failed may have changed something
	})
}

// The last tries of a webhook are among the stored events, and without them the list would say that nothing was tried.
func TestAListOfWebhooksWaitsUntilTheirTriesAreRead(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		s.pass(time.Second)
		s.mu.Lock()
		s.cut = func(effect string) error {
			if effect == "state of events" {
				return errCut
			}
			return nil
		}
		s.mu.Unlock()
		go func() {
			goBy(3 * time.Second)
			s.mu.Lock()
			defer s.mu.Unlock()
			s.cut = nil
		}()
		begun := time.Now()
		err := s.ask(cutCall{name: "webhooks"})
		s.want("it is answered", err, nil)
		s.want("when they can be read", time.Since(begun) >= 3*time.Second, true)
	})
}

func TestTheLastTriesOfAWebhookAreListedWithIt(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.dispatcher(dispatcher.Config{})
		answered[jetstream.SetWebhookAnswer](s, "acme", "webhooks.set", jetstream.SetWebhookRequest{Name: "hook", URL: "https://a.example"})
		store := func(subject string, value any) {
			s.events = append(s.events, queue.Link{Event: job.Event{Reason: subject, Metadata: encoded(t, value), Time: s.Now()}, ChainSequence: uint64(len(s.events) + 1)})
		}
		for n := range 8 {
			try := jetstream.WebhookTry{Tenant: "acme", Webhook: "hook", ID: fmt.Sprint("try-", n), Outcome: jetstream.Delivered, Time: s.Now().Add(time.Duration(n-1) * time.Second)}
			store(names.TrySubject("acme", "hook", names.NoJob, fmt.Sprint(n+1), "delivered"), try)
		}
		store("comfy.events.operator.drain", "what the list does not tell of")
		tries := func(most int) string {
			var ids []string
			for _, try := range operator[jetstream.WebhooksAnswer](s, "webhooks", jetstream.WebhooksRequest{Tries: most}).Webhooks[0].Tries {
				ids = append(ids, try.ID)
			}
			return strings.Join(ids, " ")
		}
		s.want("the usual number", tries(0), "try-7 try-6 try-5 try-4 try-3")
		s.want("two", tries(2), "try-7 try-6")
		s.want("all since it was made", tries(20), "try-7 try-6 try-5 try-4 try-3 try-2 try-1")
	})
}
