package jetstream_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

// call is one method of the client: what it sends, and what it makes of an answer.
type call struct {
	name, request, answer string
	make                  func(context.Context, *jetstream.Client) (any, error)
	want                  any
}

// answered gives an answer of any type.
func answered[T any](v T, err error) (any, error) { return v, err }

func calls() []call {
	event := jetstream.Event{EventKind: job.Dead, Job: "a", Tenant: "acme"}
	return []call{
		{"status", `{"job":"a"}`, `{"job":"a","state":"dead","event":{"job":"a","tenant":"acme"},"events":[{"sequence":7,"subject":"comfy.events.jobs.acme.a.dead","event":{"job":"a","tenant":"acme"}}]}`,
			func(ctx context.Context, c *jetstream.Client) (any, error) { return answered(c.Status(ctx, "a")) },
			jetstream.JobStatus{Job: "a", State: job.Dead, Event: event, Events: []jetstream.EventRow{{Sequence: 7, Subject: "comfy.events.jobs.acme.a.dead", Event: event}}}},
		{"job", `{"job":"a"}`, `{"job":"a","state":"dead","event":{"job":"a","tenant":"acme"},"events":null,"name":"cat"}`,
			func(ctx context.Context, c *jetstream.Client) (any, error) { return answered(c.Story(ctx, "a")) },
			jetstream.JobStory{JobStatus: jetstream.JobStatus{Job: "a", State: job.Dead, Event: event}, Name: "cat"}},
		{"why", `{"job":"a","limit":3}`, `{"job":"a","text":"it waits","hosts":null}`,
			func(ctx context.Context, c *jetstream.Client) (any, error) {
				return answered(c.Why(ctx, jetstream.WhyRequest{Job: "a", Limit: 3}))
			},
			jetstream.WhyAnswer{Job: "a", Text: "it waits"}},
		{"cancel", `{"job":"a"}`, `{"job":"a","state":"dead","event":{"job":"a","tenant":"acme"},"count":1}`,
			func(ctx context.Context, c *jetstream.Client) (any, error) {
				return answered(c.Cancel(ctx, jetstream.CancelRequest{Job: "a"}))
			},
			jetstream.CancelAnswer{Job: "a", State: job.Dead, Event: &event, Count: 1}},
		{"dead", `{"reason":"expired"}`, `{"dead":[{"job":"a","tenant":"acme"}],"next":4}`,
			func(ctx context.Context, c *jetstream.Client) (any, error) {
				return answered(c.Dead(ctx, jetstream.DeadRequest{Reason: "expired"}))
			},
			jetstream.DeadAnswer{Dead: []jetstream.Event{event}, Next: 4}},
		{"requeue", `{"all":true}`, `{"count":1,"jobs":{"a":"a-r1"}}`,
			func(ctx context.Context, c *jetstream.Client) (any, error) {
				return answered(c.Requeue(ctx, jetstream.RequeueRequest{All: true}))
			},
			jetstream.RequeueAnswer{Count: 1, Jobs: map[jetstream.ID]jetstream.ID{"a": "a-r1"}}},
		{"queue", `{}`, `{"lanes":null,"most":9}`,
			func(ctx context.Context, c *jetstream.Client) (any, error) { return answered(c.Queue(ctx)) }, jetstream.QueueAnswer{Most: 9}},
		{"waiting", `{"limit":2}`, `{"waiting":null,"of":5}`,
			func(ctx context.Context, c *jetstream.Client) (any, error) {
				return answered(c.Waiting(ctx, jetstream.WaitingRequest{Limit: 2}))
			},
			jetstream.WaitingAnswer{Of: 5}},
		{"workflows", `{"before":8}`, `{"workflows":null,"next":3}`,
			func(ctx context.Context, c *jetstream.Client) (any, error) {
				return answered(c.Workflows(ctx, jetstream.WorkflowsRequest{Before: 8}))
			},
			jetstream.WorkflowsAnswer{Next: 3}},
		{"jobs", `{"text":"cat"}`, `{"jobs":null,"next":6}`,
			func(ctx context.Context, c *jetstream.Client) (any, error) {
				return answered(c.Jobs(ctx, jetstream.JobsRequest{Text: "cat"}))
			},
			jetstream.JobsAnswer{Next: 6}},
		{"events", `{"after":5}`, `{"events":null,"next":9,"end":true}`,
			func(ctx context.Context, c *jetstream.Client) (any, error) {
				return answered(c.Events(ctx, jetstream.EventsRequest{After: 5}))
			},
			jetstream.EventsAnswer{Next: 9, End: true}},
		{"api_keys", `{"job":"a","api_key_comfy_org":"k"}`, `{"job":"a","until":"2026-01-01T00:00:00Z"}`,
			func(ctx context.Context, c *jetstream.Client) (any, error) {
				return answered(c.KeepAPIKeys(ctx, jetstream.APIKeys{Job: "a", APIKey: "k"}))
			},
			jetstream.APIKeysAnswer{Job: "a", Until: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}},
		{"file.stat", `{"name":"acme/a"}`, `{"name":"acme/a","size":3}`,
			func(ctx context.Context, c *jetstream.Client) (any, error) {
				return answered(c.StatFile(ctx, "acme/a"))
			}, jetstream.File{Name: "acme/a", Size: 3}},
		{"file.stat", `{"name":"acme/a","store":"inputs"}`, `{"name":"acme/a","size":4}`,
			func(ctx context.Context, c *jetstream.Client) (any, error) {
				return answered(c.StatInput(ctx, "acme/a"))
			}, jetstream.File{Name: "acme/a", Size: 4}},
		{"webhooks", `{"name":"w"}`, `{"webhooks":null,"next":"x"}`,
			func(ctx context.Context, c *jetstream.Client) (any, error) {
				return answered(c.Webhooks(ctx, jetstream.WebhooksRequest{Name: "w"}))
			},
			jetstream.WebhooksAnswer{Next: "x"}},
		{"webhooks.set", `{"name":"w"}`, `{"webhook":{},"secret":"s"}`,
			func(ctx context.Context, c *jetstream.Client) (any, error) {
				return answered(c.SetWebhook(ctx, jetstream.SetWebhookRequest{Name: "w"}))
			},
			jetstream.SetWebhookAnswer{Secret: "s"}},
		{"webhooks.rotate", `{"name":"w"}`, `{"webhook":{},"secret":"s"}`,
			func(ctx context.Context, c *jetstream.Client) (any, error) {
				return answered(c.RotateWebhook(ctx, jetstream.RotateWebhookRequest{Name: "w"}))
			},
			jetstream.SetWebhookAnswer{Secret: "s"}},
		{"webhooks.remove", `{"name":"w"}`, `{}`,
			func(ctx context.Context, c *jetstream.Client) (any, error) {
				return answered(c.RemoveWebhook(ctx, jetstream.RemoveWebhookRequest{Name: "w"}))
			}, nil},
		{"webhooks.test", `{"name":"w"}`, `{}`,
			func(ctx context.Context, c *jetstream.Client) (any, error) {
				return answered(c.TestWebhook(ctx, jetstream.TestWebhookRequest{Name: "w"}))
			}, nil},
		{"webhooks.redeliver", `{"name":"w"}`, `{}`,
			func(ctx context.Context, c *jetstream.Client) (any, error) {
				return answered(c.RedeliverWebhook(ctx, jetstream.RedeliverRequest{Name: "w"}))
			}, nil},
	}
}

func TestEveryCallSendsItsRequestAndGivesItsAnswerOrItsError(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	acme := jetstream.NewClient(connect(t, url), "acme")
	var asked string
	var answer func(*nats.Msg) error
	answerAll(t, url, "comfy.tenants.acme.>", func(msg *nats.Msg) {
		asked = strings.TrimPrefix(msg.Subject, "comfy.tenants.acme.") + " " + string(msg.Data)
		must(0, answer(msg))
	})
	for _, c := range calls() {
		answer = func(msg *nats.Msg) error { return msg.Respond([]byte(c.answer)) }
		got, err := c.make(t.Context(), acme)
		if diff := cmp.Diff(c.want, got); err != nil || c.want != nil && diff != "" {
			t.Errorf("%s: %v: %s", c.name, err, diff)
		}
		if !strings.HasPrefix(asked, c.name+" ") || !sameJSON(strings.TrimPrefix(asked, c.name+" "), c.request) {
			t.Errorf("it asked %s, want %s %s", asked, c.name, c.request)
		}
		answer = func(msg *nats.Msg) error { return msg.Respond([]byte("[no JSON")) }
		if _, err := c.make(t.Context(), acme); err == nil || !strings.Contains(err.Error(), "decode the answer to "+c.name) {
			t.Errorf("%s: an answer that cannot be read is told as %v", c.name, err)
		}
		answer = func(msg *nats.Msg) error {
			return msg.RespondMsg(&nats.Msg{Header: nats.Header{"Nats-Service-Error": {"no"}, "Nats-Service-Error-Code": {"409"}}})
		}
		if _, err := c.make(t.Context(), acme); err == nil || jetstream.Code(err) != "409" {
			t.Errorf("%s: a refusal is told as %v", c.name, err)
		}
	}
}

// sameJSON compares what is set: requests have fields without omitempty.
func sameJSON(a, b string) bool {
	var x, y map[string]any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && cmp.Equal(set(x), set(y))
}

func set(fields map[string]any) map[string]any {
	for name, v := range fields {
		if v == nil || v == "" || v == false || v == 0.0 {
			delete(fields, name)
		}
	}
	return fields
}

// While every dispatcher is stopping the client asks again until the time is over, and tells why.
func TestThatAllDispatchersAreStoppingIsToldWhenTheTimeIsOver(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	acme := jetstream.NewClient(connect(t, url), "acme")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	asked := 0
	answerAll(t, url, "comfy.tenants.acme.cancel", func(msg *nats.Msg) {
		if asked++; asked == 3 {
			cancel() // and no answer
			return
		}
		must(0, msg.RespondMsg(&nats.Msg{Header: nats.Header{"Nats-Service-Error": {"it is stopping"}, "Nats-Service-Error-Code": {"503"}}}))
	})
	_, err := acme.Cancel(ctx, jetstream.CancelRequest{All: true})
	if _, stopping := errors.AsType[*jetstream.Stopping](err); !stopping || asked != 3 {
		t.Errorf("asked %d times: %v", asked, err)
	}
}

// A publisher's messages are answered as JetStream does.
func TestWhatJetStreamSaysOfAPublishIsTold(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	acme := jetstream.NewClient(connect(t, url), "acme")
	var reply string
	var header nats.Header
	answerAll(t, url, "comfy.jobs.acme.7", func(msg *nats.Msg) {
		header = msg.Header
		must(0, msg.Respond([]byte(reply)))
	})
	spec := jetstream.Spec{ID: "a", Workflow: []byte(workflow)}
	for name, c := range map[string]struct {
		reply string
		want  []string
		is    error
	}{
		"LaneFull":  {`{"error":{"err_code":10077,"description":"maximum messages per subject exceeded"}}`, []string{"--lane-cap", "error 10077"}, jetstream.ErrLaneFull},
		"BytesFull": {`{"error":{"err_code":10077,"description":"maximum bytes exceeded"}}`, []string{"--jobs-bytes"}, jetstream.ErrNoSpace},
		"DiskFull":  {`{"error":{"err_code":10077,"description":"no space"}}`, []string{"free disk"}, jetstream.ErrNoSpace},
		"NoStorage": {`{"error":{"err_code":10047,"description":"maximum bytes per subject"}}`, []string{"free disk"}, jetstream.ErrNoSpace},
		"TooLarge":  {`{"error":{"err_code":10054,"description":"maximum message size exceeded"}}`, []string{"--max-job"}, jetstream.ErrTooLarge},
		"Other":     {`{"stream":"COMFY_JOBS","error":{"err_code":10071,"description":"per subject"}}`, []string{"NATS refuses it: per subject (error 10071)"}, nil},
		"NoAck":     {`{}`, []string{"no ack of a stream"}, nil},
		"NoJSON":    {`{"stream":"COMFY_JOBS","seq":"x"}`, []string{"no ack of a stream"}, nil},
	} {
		reply = c.reply
		_, err := acme.Submit(t.Context(), 7, spec)
		for _, text := range append(c.want, "comfy.jobs.acme.7") {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %v, want %q", name, err, text)
			}
		}
		for _, is := range []error{jetstream.ErrLaneFull, jetstream.ErrNoSpace, jetstream.ErrTooLarge} {
			if errors.Is(err, is) != errors.Is(c.is, is) {
				t.Errorf("%s: %v is %v: %t", name, err, is, errors.Is(err, is))
			}
		}
	}
	reply = `{"stream":"COMFY_JOBS","seq":41}`
	for _, trace := range []string{"", "00-a"} {
		spec.Traceparent = trace
		got, err := acme.Submit(t.Context(), 7, spec)
		if got != (jetstream.Receipt{Tenant: "acme", Job: "a", Sequence: 41}) || err != nil || header.Get("Comfy-Job-Id") != "a" || header.Get("traceparent") != trace || (len(header["traceparent"]) > 0) != (trace != "") {
			t.Errorf("%+v, %v, with the header %v", got, err, header)
		}
	}
}
