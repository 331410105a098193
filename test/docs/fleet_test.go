package docs_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// nats.go 1.55 can leak this one when an object is stored very fast.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect"),
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*stream).trySetupSourceConsumer.func3")) // a NATS that is closed at once still asks itself for the source of COMFY_JOBS
}

// testTimeout bounds every wait for an event; a test that needs it all has failed.
const testTimeout = 60 * time.Second

// picture is a workflow that every simulated host can run; its text makes it one of a kind.
func picture(text string) string {
	return `{"1":{"class_type":"EmptyImage","inputs":{"width":8,"height":8,"batch_size":1,"color":1}},` +
		`"2":{"class_type":"SaveImage","inputs":{"images":["1",0],"filename_prefix":"` + text + `"}}}`
}

// startNATS gives a server with all streams and buckets, and a plain connection to it.
func startNATS(t *testing.T) (*nats.Conn, *queue.Queue) {
	t.Helper()
	server, err := natsserver.Start(natsserver.Config{Port: -1, StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(server.URL(), nats.Timeout(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	q, err := queue.Open(ctx, nc, queue.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		q.Close()
		nc.Close()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return nc, q
}

// startFleet adds a dispatcher and two simulated hosts, on which every workflow with the text "boom" raises.
func startFleet(t *testing.T) (*nats.Conn, *queue.Queue) {
	t.Helper()
	nc, q := startNATS(t)
	boom := comfysim.Fault{Kind: comfysim.FaultRaise, Text: "boom", Exception: "ValueError", Message: "boom"}
	var hosts []agent.HostConfig
	for _, name := range []string{"gpu-1", "gpu-2"} {
		sim, err := comfysim.Start(comfysim.Config{Name: name, Faults: []comfysim.Fault{boom}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(sim.Close)
		hosts = append(hosts, agent.HostConfig{Name: name, URL: sim.URL()})
	}
	a, err := agent.New(q, agent.Config{Hosts: hosts})
	if err != nil {
		t.Fatal(err)
	}
	d, err := dispatcher.New(q, dispatcher.Config{CountEvents: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, run := range []func(stop, kill context.Context) error{a.Run, d.Run} {
		ctx, stop := context.WithCancel(context.Background())
		var done sync.WaitGroup
		done.Go(func() {
			if err := run(ctx, ctx); err != nil {
				t.Errorf("actor ended: %v", err)
			}
		})
		t.Cleanup(func() { stop(); done.Wait() })
	}
	awaitHosts(t, q, 2)
	return nc, q
}

// awaitHosts waits until the dispatcher knows what n hosts can run; no event tells that.
func awaitHosts(t *testing.T, q *queue.Queue, n int) {
	t.Helper()
	eventually(t, "hosts that are known", func() bool {
		var answer queue.HostsAnswer
		capable := 0
		if q.Call(t.Context(), "hosts", struct{}{}, &answer) == nil {
			for _, h := range answer.Hosts {
				if h.State == queue.Online && h.Capability > 0 {
					capable++
				}
			}
		}
		return capable >= n
	})
}

// eventually asks until done says yes; for what no event tells.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.NewTimer(testTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited %v in vain: %s", testTimeout, what)
		}
	}
}

// ask sends a request as any NATS client would and reads the JSON answer.
func ask(t *testing.T, nc *nats.Conn, subject, request string, answer any) {
	t.Helper()
	msg, err := nc.Request(subject, []byte(request), testTimeout)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	if text := msg.Header.Get("Nats-Service-Error"); text != "" {
		t.Fatalf("%s: %s", subject, text)
	}
	if err := json.Unmarshal(msg.Data, answer); err != nil {
		t.Fatalf("%s answered %s: %v", subject, msg.Data, err)
	}
}

// publish stores a job with the header Comfy-Job-Id and demands the ack.
func publish(t *testing.T, nc *nats.Conn, subject string, header nats.Header, body string) {
	t.Helper()
	ack, err := nc.RequestMsg(&nats.Msg{Subject: subject, Header: header, Data: []byte(body)}, testTimeout)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(ack.Data), `"stream":"COMFY_JOBS"`) {
		t.Fatalf("publish to %s: %s", subject, ack.Data)
	}
}

// awaitKind reads events until one of a kind comes.
func awaitKind(t *testing.T, sub *nats.Subscription, kind string) {
	t.Helper()
	for {
		msg, err := sub.NextMsg(testTimeout)
		if err != nil {
			t.Fatalf("no event %s on %s: %v", kind, sub.Subject, err)
		}
		if strings.HasSuffix(msg.Subject, "."+kind) {
			return
		}
	}
}
