package integration_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/outside"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// delivered is a request to a receiver.
type delivered struct {
	http.Header

	Body []byte
}

// receiver is an address for webhooks; it answers with a status, or with what answer says.
type receiver struct {
	*httptest.Server

	got    chan delivered
	status atomic.Int32
}

func receive(t *testing.T, status int) *receiver {
	t.Helper()
	r := &receiver{got: make(chan delivered, 256)}
	r.status.Store(int32(status))
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		r.got <- delivered{req.Header, body}
		w.WriteHeader(int(r.status.Load()))
	}))
	t.Cleanup(r.Close)
	return r
}

// next waits for the next delivery.
func (r *receiver) next(f *fleet) delivered {
	f.t.Helper()
	select {
	case d := <-r.got:
		return d
	case <-f.context().Done():
		f.t.Fatal("nothing was delivered")
		return delivered{}
	}
}

// delivers starts what delivers to webhooks, on loopback too.
func (f *fleet) delivers(cfg outside.WebhookConfig) (stop, kill func()) {
	f.t.Helper()
	cfg.Logger, cfg.Allow = f.logger(), "127.0.0.0/8"
	if cfg.Schedule == nil {
		cfg.Schedule = []time.Duration{0, 200 * time.Millisecond, 400 * time.Millisecond, time.Second, 2 * time.Second, time.Hour}
	}
	return f.actor(func(q *queue.Queue) func(stop, kill context.Context) error {
		w, err := outside.NewWebhooks(q, cfg)
		if err != nil {
			f.t.Fatal(err)
		}
		return func(stop, _ context.Context) error {
			_ = w.Run(stop) // it ends with its context only
			return nil
		}
	})
}

func (f *fleet) setWebhook(tenant jetstream.Tenant, r jetstream.SetWebhookRequest) (secret string) {
	f.t.Helper()
	answer, err := jetstream.NewClient(f.nc, tenant).SetWebhook(f.context(), r)
	if err != nil {
		f.t.Fatal(err)
	}
	return answer.Secret
}

// outcomes are those of the last tries of a tenant's webhook, newest first.
func (f *fleet) outcomes(tenant jetstream.Tenant, name string) (outcomes []jetstream.Outcome, hook jetstream.Webhook) {
	f.t.Helper()
	answer, err := jetstream.NewClient(f.nc, tenant).Webhooks(f.context(), jetstream.WebhooksRequest{Name: name, Tries: 20})
	if err != nil || len(answer.Webhooks) != 1 {
		f.t.Fatalf("%d webhooks, %v", len(answer.Webhooks), err)
	}
	for _, try := range answer.Webhooks[0].Tries {
		outcomes = append(outcomes, try.Outcome)
	}
	return outcomes, answer.Webhooks[0]
}

// told is what a delivery says.
type told struct {
	Type string
	Data job.Event
}

func (d *delivered) told(t *testing.T) told {
	t.Helper()
	var what told
	if err := json.Unmarshal(d.Body, &what); err != nil {
		t.Fatal(err)
	}
	return what
}

func TestAWebhookReceivesTheEndsOfItsTenantsJobs(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 1, hosts: names("a")})
	f.delivers(outside.WebhookConfig{})
	own, other, named := receive(t, 200), receive(t, 200), receive(t, 204)
	secret := f.setWebhook("acme", jetstream.SetWebhookRequest{Name: "orders", URL: own.URL + "/hooks"})
	f.setWebhook("bolt", jetstream.SetWebhookRequest{Name: "orders", URL: other.URL})
	yes := true
	f.setWebhook("acme", jetstream.SetWebhookRequest{Name: "named", URL: named.URL, Named: &yes, Events: []string{"job.*"}})

	plain := f.submit("acme", job.Spec{ID: "plain", Workflow: picture(0x102030)})
	d := own.next(f)
	if err := jetstream.VerifyWebhook(secret, d.Header, d.Body, time.Now()); err != nil {
		t.Error(err)
	}
	if what := d.told(t); what.Type != "job.completed" || what.Data.Job != plain.Job || len(what.Data.Outputs) != 1 {
		t.Errorf("delivered was %s", d.Body)
	}
	f.submit("acme", job.Spec{ID: "named", Workflow: picture(0x102031), Webhook: "named"})
	for _, kind := range []string{"job.queued", "job.started", "job.completed"} { // it receives a few at once, in any order
		d := named.next(f)
		if what := d.told(t); what.Data.Job != "named" || !strings.HasPrefix(what.Type, "job.") {
			t.Errorf("delivered for %s was %s", kind, d.Body)
		}
	}
	if d := own.next(f); d.told(t).Data.Job != "named" {
		t.Errorf("delivered was %s", d.Body)
	}
	f.end(f.submit("bolt", job.Spec{ID: "theirs", Workflow: picture(0x102032)}))
	if d := other.next(f); d.told(t).Data.Job != "theirs" || len(own.got) != 0 || len(named.got) != 0 {
		t.Errorf("bolt received %s, and acme %d more", d.Body, len(own.got)+len(named.got))
	}
	f.eventually("the tries are listed", func() bool {
		outcomes, hook := f.outcomes("acme", "orders")
		return slices.Equal(outcomes, []jetstream.Outcome{jetstream.Delivered, jetstream.Delivered}) && hook.Pending == 0
	})
}

func TestAWebhookThatNeverAnswersDelaysNoOther(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 1, hosts: names("a")})
	f.delivers(outside.WebhookConfig{Timeout: time.Minute})
	release := make(chan struct{})
	asked := make(chan string, 256)
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- r.Header.Get("webhook-id")
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(silent.Close)
	t.Cleanup(func() { close(release) })
	works := receive(t, 200)
	f.setWebhook("acme", jetstream.SetWebhookRequest{Name: "silent", URL: silent.URL, Events: []string{"job.*"}})
	f.setWebhook("acme", jetstream.SetWebhookRequest{Name: "works", URL: works.URL})
	const jobs = 40 // each has three events or more, so that the silent one has many more than it may have under way
	want := map[job.ID]bool{}
	for range jobs {
		want[f.submit("acme", job.Spec{Workflow: picture(0x202020)}).Job] = true
	}
	for range jobs {
		d := works.next(f)
		delete(want, d.told(t).Data.Job)
	}
	if len(want) != 0 {
		t.Errorf("of %d jobs nothing was delivered", len(want))
	}
	if n := len(asked); n != 4 {
		t.Errorf("the silent one has %d requests at once, want 4", n)
	}
}

func TestADeliveryOutlivesWhoeverMakesIt(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 1, hosts: names("a")})
	r := receive(t, 503)
	secret := f.setWebhook("acme", jetstream.SetWebhookRequest{Name: "orders", URL: r.URL})
	f.end(f.submit("acme", job.Spec{ID: "j", Workflow: picture(0x303030)}))
	f.restartNATS(func() {}) // while nothing delivers
	_, kill := f.delivers(outside.WebhookConfig{Name: "first"})
	first := r.next(f)
	kill()
	r.status.Store(200)
	for len(r.got) > 0 { // tries of the first process that failed too
		<-r.got
	}
	f.delivers(outside.WebhookConfig{Name: "second"})
	again := r.next(f)
	if first.Get("Webhook-Id") != again.Get("Webhook-Id") || string(first.Body) != string(again.Body) {
		t.Errorf("delivered was %s %s, then %s %s", first.Get("Webhook-Id"), first.Body, again.Get("Webhook-Id"), again.Body)
	}
	if err := jetstream.VerifyWebhook(secret, again.Header, again.Body, time.Now()); err != nil {
		t.Error(err)
	}
	f.eventually("the dispatcher has reconnected", func() bool {
		_, err := jetstream.NewClient(f.nc, "acme").Webhooks(f.context(), jetstream.WebhooksRequest{})
		return err == nil
	})
	f.eventually("it is delivered", func() bool {
		outcomes, hook := f.outcomes("acme", "orders")
		return len(outcomes) > 0 && outcomes[0] == jetstream.Delivered && hook.Tries[0].By == "second" && hook.Pending == 0
	})
}

func TestSecretsRotateAndEventsAreDeliveredAgain(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 1, hosts: names("a")})
	f.delivers(outside.WebhookConfig{})
	r := receive(t, 200)
	former := f.setWebhook("acme", jetstream.SetWebhookRequest{Name: "orders", URL: r.URL})
	f.end(f.submit("acme", job.Spec{ID: "j", Workflow: picture(0x404040)}))
	first := r.next(f)
	client := jetstream.NewClient(f.nc, "acme")
	rotated, err := client.RotateWebhook(f.context(), jetstream.RotateWebhookRequest{Name: "orders"})
	if err != nil || rotated.Secret == former {
		t.Fatalf("the secret is %s, %v", rotated.Secret, err)
	}
	f.eventually("the first is counted as delivered", func() bool {
		outcomes, _ := f.outcomes("acme", "orders")
		return len(outcomes) == 1
	})
	if a, err := client.RedeliverWebhook(f.context(), jetstream.RedeliverRequest{Name: "orders", Since: "1h"}); err != nil || a.Count != 0 {
		t.Errorf("%d are to be delivered that were, %v", a.Count, err)
	}
	if a, err := client.RedeliverWebhook(f.context(), jetstream.RedeliverRequest{Name: "orders", Since: "1h", All: true}); err != nil || a.Count != 1 {
		t.Errorf("%d are to be delivered again, %v", a.Count, err)
	}
	again := r.next(f)
	if again.Get("Webhook-Id") != first.Get("Webhook-Id") {
		t.Errorf("the ids are %s and %s", first.Get("Webhook-Id"), again.Get("Webhook-Id"))
	}
	for _, secret := range []string{former, rotated.Secret} {
		if err := jetstream.VerifyWebhook(secret, again.Header, again.Body, time.Now()); err != nil {
			t.Errorf("with %s: %v", secret, err)
		}
	}
	if err := jetstream.VerifyWebhook(rotated.Secret, first.Header, first.Body, time.Now()); err == nil {
		t.Error("the first delivery has the later secret")
	}
	none := job.Duration(0)
	last, err := client.RotateWebhook(f.context(), jetstream.RotateWebhookRequest{Name: "orders", Overlap: &none})
	if err != nil {
		t.Fatal(err)
	}
	test, err := client.TestWebhook(f.context(), jetstream.TestWebhookRequest{Name: "orders"})
	if err != nil {
		t.Fatal(err)
	}
	d := r.next(f)
	if d.Get("Webhook-Id") != test.ID || jetstream.VerifyWebhook(last.Secret, d.Header, d.Body, time.Now()) != nil ||
		jetstream.VerifyWebhook(rotated.Secret, d.Header, d.Body, time.Now()) == nil {
		t.Errorf("the test is %s %v", d.Get("Webhook-Id"), d.Header)
	}
}

func TestAReceiverThatIsGoneIsDisabled(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 1, hosts: names("a")})
	f.delivers(outside.WebhookConfig{})
	r := receive(t, http.StatusGone)
	f.setWebhook("acme", jetstream.SetWebhookRequest{Name: "orders", URL: r.URL})
	f.end(f.submit("acme", job.Spec{ID: "j", Workflow: picture(0x505050)}))
	r.next(f)
	f.eventually("it is disabled", func() bool {
		outcomes, hook := f.outcomes("acme", "orders")
		return slices.Equal(outcomes, []jetstream.Outcome{jetstream.Disabled}) && hook.Disabled != nil && strings.Contains(hook.Reason, "410")
	})
	f.end(f.submit("acme", job.Spec{ID: "k", Workflow: picture(0x505051)}))
	r.status.Store(200)
	no := false
	f.setWebhook("acme", jetstream.SetWebhookRequest{Name: "orders", Disable: &no})
	f.end(f.submit("acme", job.Spec{ID: "l", Workflow: picture(0x505052)}))
	if d := r.next(f); d.told(t).Data.Job != "l" {
		t.Errorf("delivered was %s", d.Body)
	}
}

// A webhook's address comes from a tenant, and dispatchers reach what tenants must not.
func TestAWebhookReachesNoPrivateAddress(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 1, hosts: names("a")})
	r := receive(t, 200)
	f.actor(func(q *queue.Queue) func(stop, kill context.Context) error {
		w, err := outside.NewWebhooks(q, outside.WebhookConfig{Logger: f.logger(), Schedule: []time.Duration{0}})
		if err != nil {
			t.Fatal(err)
		}
		return func(stop, _ context.Context) error {
			_ = w.Run(stop)
			return nil
		}
	})
	_, port, _ := strings.Cut(strings.TrimPrefix(r.URL, "http://"), ":")
	urls := []string{r.URL, "http://localhost:" + port, "https://localhost:" + port, "http://[::ffff:127.0.0.1]:" + port, "https://169.254.169.254/latest", "http://10.0.0.1/"}
	for i, url := range urls {
		name := string(rune('a' + i))
		f.setWebhook("acme", jetstream.SetWebhookRequest{Name: name, URL: url})
		if _, err := jetstream.NewClient(f.nc, "acme").TestWebhook(f.context(), jetstream.TestWebhookRequest{Name: name}); err != nil {
			t.Fatal(err)
		}
		f.eventually("a try of "+url, func() bool {
			outcomes, hook := f.outcomes("acme", name)
			if len(outcomes) == 1 && !strings.Contains(hook.Tries[0].Error, "is not public") {
				t.Errorf("%s: %s", url, hook.Tries[0].Error)
			}
			return len(outcomes) == 1
		})
	}
	if len(r.got) != 0 {
		t.Error("the receiver on loopback got a delivery")
	}
}
