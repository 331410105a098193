package queue_test

import (
	"testing"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// Whoever sets a webhook is given its secret once, so that an error must mean that there is no webhook.
func TestAWebhookWhoseEventsCannotBeFollowedIsNotStored(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	q := openWith(t, url, queue.Config{})
	js := must(natsjs.New(connect(t, url)))
	hook := queue.WebhookSettings{
		Owner: "acme", Name: "hook", URL: "https://example.com/hooks", Events: []string{"job.completed"}, Keys: []queue.WebhookKey{queue.NewWebhookKey()},
	}
	must(js.CreatePushConsumer(t.Context(), names.EventsStream, natsjs.ConsumerConfig{Durable: names.WebhooksConsumer, DeliverSubject: "elsewhere"}))
	if stored, err := q.PutWebhook(t.Context(), &hook); stored || err == nil {
		t.Errorf("stored %v, %v, although its events are delivered elsewhere", stored, err)
	}
	if _, found, err := q.Webhook(t.Context(), "acme", "hook"); found || err != nil {
		t.Errorf("after the error it is there: %v, %v", found, err)
	}
}

func TestAWebhookThatIsStoredIsFollowed(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	q := openWith(t, url, queue.Config{})
	js := must(natsjs.New(connect(t, url)))
	removed := queue.WebhookSettings{Owner: "acme", Name: "hook", URL: "https://example.com/other", Events: []string{"job.dead"}, Revision: 1_000}
	if stored, err := q.PutWebhook(t.Context(), &removed); stored || err != nil {
		t.Errorf("a change of one that is not there: stored %v, %v", stored, err)
	}
	for i, pattern := range []string{"job.completed", "job.dead", "job.cancelled"} {
		hook := queue.WebhookSettings{
			Owner: "acme", Name: "hook", URL: "https://example.com/hooks", Events: []string{pattern}, Keys: []queue.WebhookKey{queue.NewWebhookKey()},
		}
		switch i {
		case 1:
			hook.Name = "second"
		case 2: // a change of the first
			stored, _, err := q.Webhook(t.Context(), "acme", "hook")
			if err != nil {
				t.Fatal(err)
			}
			hook.Revision = stored.Revision
		}
		if stored, err := q.PutWebhook(t.Context(), &hook); !stored || err != nil {
			t.Fatalf("stored %v, %v", stored, err)
		}
	}
	config := must(js.Consumer(t.Context(), names.EventsStream, names.WebhooksConsumer)).CachedInfo().Config
	want := map[string]bool{"comfy.events.jobs.acme.*.dead": true, "comfy.events.jobs.acme.*.cancelled": true}
	for _, filter := range config.FilterSubjects {
		if !want[filter] {
			t.Errorf("%s is followed, and nobody wants it", filter)
		}
		delete(want, filter)
	}
	if len(want) > 0 {
		t.Errorf("not followed: %v, of %v", want, config.FilterSubjects)
	}
}
