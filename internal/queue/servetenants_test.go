package queue_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// serveCalls has a queue answer calls until the test ends, or stop is called.
func serveCalls(t *testing.T, q *queue.Queue, nc *nats.Conn, api queue.API) (stop func()) {
	t.Helper()
	api.Version = "1.0.0"
	ctx, cancel := context.WithCancel(context.Background())
	var over sync.WaitGroup
	over.Go(func() {
		if err := q.ServeAPI(ctx, api); !errors.Is(err, context.Canceled) {
			t.Errorf("the service ended: %v", err)
		}
	})
	stop = func() { cancel(); over.Wait() }
	t.Cleanup(stop)
	awaitCalls(nc, len(api.Calls)+len(api.TenantCalls))
	return stop
}

// raw asks as any NATS client does, and gives the error's code and text.
func raw(t *testing.T, nc *nats.Conn, subject, body string) (answer, code, text string) {
	t.Helper()
	msg, err := nc.Request(subject, []byte(body), time.Minute)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	return string(msg.Data), msg.Header.Get("Nats-Service-Error-Code"), msg.Header.Get("Nats-Service-Error")
}

type greeting struct {
	Tenant job.Tenant `json:"tenant"`
	Word   string     `json:"word"`
}

func TestATenantsCallHasTheTenantOfItsSubject(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	q, nc := openOn(t, url), connect(t, url)
	fails := map[string]error{
		"400": &jetstream.BadRequest{Message: "no"}, "404": &jetstream.NotFound{Message: "no"}, "409": &jetstream.Conflict{Message: "no"},
		"413": &jetstream.TooBig{Message: "no"}, "429": &jetstream.TooMany{Message: "no"}, "500": errors.New("no"), "503": &jetstream.Stopping{Message: "no"},
	}
	serveCalls(t, q, nc, queue.API{TenantCalls: map[string]queue.TenantEndpoint{
		"greet": queue.TenantJSON(func(_ context.Context, tenant job.Tenant, r greeting) (greeting, error) {
			return greeting{Tenant: tenant, Word: r.Word}, fails[r.Word]
		}),
		"raw.echo": func(_ context.Context, tenant job.Tenant, r queue.TenantRequest) (queue.TenantReply, error) {
			return queue.TenantReply{Header: nats.Header{"X": {string(tenant) + r.Header.Get("X")}}, Body: r.Body}, nil
		},
		"large": func(context.Context, job.Tenant, queue.TenantRequest) (queue.TenantReply, error) {
			return queue.TenantReply{Body: make([]byte, nc.MaxPayload()+1)}, nil
		},
	}})
	for name, want := range map[string][4]string{ // subject, request, answer, code
		"Own":      {"comfy.tenants.acme.greet", `{"word":"hi"}`, `{"tenant":"acme","word":"hi"}`, ""},
		"Named":    {"comfy.tenants.acme.greet", `{"tenant":"acme","word":"hi"}`, `{"tenant":"acme","word":"hi"}`, ""},
		"Empty":    {"comfy.tenants.acme.greet", ``, `{"tenant":"acme","word":""}`, ""},
		"Another":  {"comfy.tenants.bolt.greet", `{"tenant":"acme","word":"hi"}`, "", "400"},
		"Shouted":  {"comfy.tenants.bolt.greet", `{"TENANT":"acme","word":"hi"}`, "", "400"},
		"NoJSON":   {"comfy.tenants.acme.greet", `hi`, "", "400"},
		"NoTenant": {"comfy.tenants.a$b.greet", `{}`, "", "400"},
		"TooBig":   {"comfy.tenants.acme.large", ``, "", "413"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if answer, code, text := raw(t, nc, want[0], want[1]); answer != want[2] || code != want[3] {
				t.Errorf("%s got %q, %s %s", want[1], answer, code, text)
			}
		})
	}
	for code := range fails {
		if _, got, _ := raw(t, nc, "comfy.tenants.acme.greet", `{"word":"`+code+`"}`); got != code {
			t.Errorf("%T is told with code %s", fails[code], got)
		}
	}
	msg, err := nc.RequestMsg(&nats.Msg{Subject: "comfy.tenants.acme.raw.echo", Header: nats.Header{"X": {"!"}}, Data: []byte{0, 1, 2}}, time.Minute)
	if err != nil || msg.Header.Get("X") != "acme!" || string(msg.Data) != "\x00\x01\x02" {
		t.Errorf("headers and bytes come back as %+v, %v", msg, err)
	}
}

// Calls that one tenant leaves under way delay no other call, neither of other tenants nor of its own: beyond the limit they are
// refused at once.
func TestMoreCallsThanATenantMayHaveAreRefusedAtOnce(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	q, nc := openOn(t, url), connect(t, url)
	began, release := make(chan struct{}, 100), make(chan struct{})
	stop := serveCalls(t, q, nc, queue.API{TenantCalls: map[string]queue.TenantEndpoint{
		"hold": func(ctx context.Context, _ job.Tenant, _ queue.TenantRequest) (queue.TenantReply, error) {
			began <- struct{}{}
			select {
			case <-release:
			case <-ctx.Done():
			}
			return queue.TenantReply{}, ctx.Err()
		},
		"greet": queue.TenantJSON(func(_ context.Context, tenant job.Tenant, r greeting) (greeting, error) { return r, nil }),
	}})
	answers, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	for range 64 {
		if err := nc.PublishRequest("comfy.tenants.acme.hold", answers.Subject, nil); err != nil {
			t.Fatal(err)
		}
		<-began
	}
	if _, code, text := raw(t, nc, "comfy.tenants.acme.greet", ""); code != "429" || !strings.Contains(text, "too many calls at once") {
		t.Errorf("the call beyond is answered %s %s", code, text)
	}
	if _, code, text := raw(t, nc, "comfy.tenants.bolt.greet", ""); code != "" {
		t.Errorf("another tenant's call is answered %s %s", code, text)
	}
	release <- struct{}{}
	if msg, err := answers.NextMsg(time.Minute); err != nil || msg.Header.Get("Nats-Service-Error-Code") != "" {
		t.Fatalf("the call that was let go is answered %+v, %v", msg, err)
	}
	stop()
	for range 63 { // the calls that are still under way end with an error
		if msg, err := answers.NextMsg(time.Minute); err != nil || msg.Header.Get("Nats-Service-Error-Code") != "500" {
			t.Fatalf("a call under way at the end is answered %+v, %v", msg, err)
		}
	}
}

// A service that ends answers the requests that NATS has sent it before, and NATS answers the later ones: no caller waits until its
// timeout.
func TestWhoAsksAServiceThatEndsIsAnswered(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	q, nc, asker := openOn(t, url), connect(t, url), connect(t, url)
	begun := make(chan struct{}, 1000)
	stop := serveCalls(t, q, nc, queue.API{
		Calls: map[string]queue.Endpoint{"greet": func(context.Context, []byte) (any, error) { return greeting{}, nil }},
		TenantCalls: map[string]queue.TenantEndpoint{
			"greet": func(context.Context, job.Tenant, queue.TenantRequest) (queue.TenantReply, error) {
				begun <- struct{}{}
				return queue.TenantReply{}, nil
			},
		},
	})
	answers, err := asker.SubscribeSync(asker.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	const asked = 400
	for i := range asked {
		for _, subject := range []string{"comfy.tenants.acme.greet", "comfy.api.greet"} {
			if err := asker.PublishRequest(subject, answers.Subject, nil); err != nil {
				t.Fatal(err)
			}
		}
		if i == asked/2 {
			if err := asker.Flush(); err != nil {
				t.Fatal(err)
			}
			<-begun
			go stop()
		}
	}
	for n := range 2 * asked {
		if _, err := answers.NextMsg(time.Minute); err != nil && !errors.Is(err, nats.ErrNoResponders) {
			t.Fatalf("answer %d: %v", n, err)
		}
	}
}
