package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// nats.go 1.55 leaks a goroutine when an object is stored so fast that the store's publisher is cleaned up before its
// goroutine has read the channel of the connection's states: it then waits on a nil channel for ever.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect"),
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*stream).trySetupSourceConsumer.func3")) // a NATS that is closed at once still asks itself for the source of COMFY_JOBS
}

const testTimeout = time.Minute

// saves is a workflow with one output node and a seed to draw.
const saves = `{"1":{"class_type":"EmptyImage","inputs":{"width":8,"height":4,"batch_size":2,"seed":-1}},` +
	`"2":{"class_type":"SaveImage","inputs":{"images":["1",0],"filename_prefix":"shot/pic"}}}`

// house is a NATS of its own with one agent on it.
type house struct {
	t    *testing.T
	ctx  context.Context //nolint:containedctx // the test's own, for its helpers
	q    *queue.Queue
	nats *server.Server
	nc   *nats.Conn
	wire *wire // between the agent and NATS, when it is cut from it
	fake *fake
	a    *agent.Agent
	stop context.CancelFunc
	kill context.CancelFunc
	done chan error
}

func startNATS(t testing.TB, folder string, port int) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: folder, NoLog: true, NoSigs: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(testTimeout) {
		t.Fatal("NATS does not start")
	}
	return s
}

func build(t *testing.T, cfg agent.Config) *house {
	t.Helper()
	h := found(t)
	h.hire(h.q, cfg)
	return h
}

// found makes a house without an agent.
func found(t *testing.T) *house {
	t.Helper()
	h := &house{t: t, fake: newFake(), nats: startNATS(t, t.TempDir(), -1)}
	t.Cleanup(func() { h.nats.Shutdown(); h.nats.WaitForShutdown() })
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	t.Cleanup(cancel)
	h.ctx = ctx
	h.nc, h.q = h.connect(h.nats.ClientURL())
	return h
}

func (h *house) connect(url string) (*nats.Conn, *queue.Queue) {
	h.t.Helper()
	nc, err := nats.Connect(url, nats.Timeout(10*time.Second), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(nc.Close)
	q, err := queue.Open(h.ctx, nc, queue.Config{AckWait: 5 * time.Second, PresenceTTL: 3 * time.Second})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(q.Close)
	return nc, q
}

func (h *house) hire(q *queue.Queue, cfg agent.Config) {
	h.t.Helper()
	if cfg.Hosts == nil {
		cfg.Hosts = []agent.HostConfig{{Name: "gpu", Comfy: h.fake}}
	}
	a, err := agent.New(q, cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	h.a = a
}

// startOnAWire is start with a wire between the agent and NATS that can be cut; h.q and h.nc do not go through it.
func startOnAWire(t *testing.T, cfg agent.Config) *house {
	t.Helper()
	h := found(t)
	h.wire = newWire(t, h.nats.Addr().String())
	_, q := h.connect(h.wire.url())
	h.wire.q = q
	h.hire(q, cfg)
	h.run()
	h.online()
	return h
}

// start runs the agent and waits until its host has a presence.
func start(t *testing.T, cfg agent.Config) *house {
	t.Helper()
	h := build(t, cfg)
	h.run()
	return h
}

func (h *house) run() {
	h.t.Helper()
	stop, stopNow := context.WithCancel(context.Background())
	kill, killNow := context.WithCancel(context.Background())
	done := make(chan error, 1)
	h.stop, h.kill, h.done = stopNow, killNow, done
	go func() { done <- h.a.Run(stop, kill) }()
	h.t.Cleanup(func() {
		killNow()
		stopNow()
		select {
		case <-done:
		case <-time.After(testTimeout):
			h.t.Error("the agent does not end")
		}
	})
	h.awaitState("gpu", func(s queue.HostState) bool { return true })
}

// ended waits for Run's return.
func (h *house) ended() {
	h.t.Helper()
	select {
	case err := <-h.done:
		if err != nil {
			h.t.Fatalf("Run returned %v", err)
		}
		h.done <- nil
	case <-h.ctx.Done():
		h.t.Fatal("the agent does not end")
	}
}

func (h *house) awaitState(host string, is func(queue.HostState) bool) {
	h.t.Helper()
	ctx, cancel := context.WithCancel(h.ctx)
	defer cancel()
	found := false
	_ = h.q.WatchHosts(ctx, func(c queue.Change[queue.HostState]) {
		if c.Phase == queue.Put && c.Key == host && is(c.Value) {
			found = true
			cancel()
		}
	})
	if !found {
		h.t.Fatalf("host %s did not come to the state that was waited for", host)
	}
}

// queued submits a job and does what a dispatcher does before it offers it.
func (h *house) queued(spec job.Spec) queue.Offer {
	h.t.Helper()
	return h.queuedBy("acme", spec)
}

// queuedBy is queued for a tenant.
func (h *house) queuedBy(tenant job.Tenant, spec job.Spec) queue.Offer {
	h.t.Helper()
	if spec.Workflow == nil {
		spec.Workflow = json.RawMessage(saves)
	}
	r, err := h.q.Submit(h.ctx, job.Lane{Tenant: tenant, Priority: 5}, spec)
	if err != nil {
		h.t.Fatal(err)
	}
	var d queue.Delivery
	puller, err := h.q.Puller(5, func(got queue.Delivery) { d = got })
	if err != nil {
		h.t.Fatal(err)
	}
	defer puller.Close()
	for d.Sequence != r.Sequence { // another is one whose lease has run out
		if n, err := puller.Pull(h.ctx, 1, testTimeout); err != nil || n != 1 {
			h.t.Fatalf("%d jobs were delivered: %v", n, err)
		}
	}
	j, err := job.Parse(d.Message)
	if err != nil {
		h.t.Fatal(err)
	}
	e := j.NewEvent(job.Queued, time.Now())
	last, err := h.q.Append(h.ctx, &e, 0, "test", "")
	if err != nil {
		h.t.Fatal(err)
	}
	return queue.Offer{Message: d.Message, Job: j.ID, Hash: j.Graph.Hash(), Attempt: 1, Lease: d.Lease, AckWait: h.q.AckWait(), LastInChain: last}
}

// offer is made again until the agent listens and answers in time: the presence of a killed agent may still be stored, and the
// machine may be too slow. A job that was accepted is accepted again.
func (h *house) offer(o queue.Offer) queue.Reply {
	h.t.Helper()
	reply, err := h.q.Offer(h.ctx, "gpu", &o)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for (errors.Is(err, queue.ErrNoAgent) || errors.Is(err, queue.ErrNoAnswer)) && h.ctx.Err() == nil {
		<-tick.C
		reply, err = h.q.Offer(h.ctx, "gpu", &o)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return reply
}

func (h *house) accepted(o queue.Offer) {
	h.t.Helper()
	if r := h.offer(o); r.Answer != queue.Accepted {
		h.t.Fatalf("the offer was answered %s: %s", r.Answer, r.Reason)
	}
}

// event waits for the first event of a kind.
func (h *house) event(o queue.Offer, kind job.EventKind) job.Event {
	h.t.Helper()
	for e, err := range h.q.Follow(h.ctx, job.Tenant(o.Message.Tenant), o.Job) {
		if err != nil {
			h.t.Fatalf("waiting for %s: %v; the chain is %s", kind, err, h.kinds(o))
		}
		if e.EventKind == kind {
			return e
		}
	}
	h.t.Fatalf("no %s came; the chain is %s", kind, h.kinds(o))
	return job.Event{}
}

func (h *house) kinds(o queue.Offer) string {
	chain, err := h.q.Chain(context.Background(), job.Tenant(o.Message.Tenant), o.Job)
	if err != nil {
		return err.Error()
	}
	kinds := make([]string, 0, len(chain))
	for _, link := range chain {
		kinds = append(kinds, string(link.EventKind))
	}
	return strings.Join(kinds, " ")
}

func (h *house) wantChain(o queue.Offer, want string) {
	h.t.Helper()
	if got := h.kinds(o); got != want {
		h.t.Errorf("the chain is %q, want %q", got, want)
	}
}

func (h *house) last(o queue.Offer) queue.Link {
	h.t.Helper()
	link, _, err := h.q.Last(h.ctx, "acme", o.Job)
	if err != nil {
		h.t.Fatal(err)
	}
	return link
}

// append adds an event as somebody else.
func (h *house) append(o queue.Offer, e job.Event) {
	h.t.Helper()
	e.Tenant, e.Job, e.Priority, e.Time = "acme", o.Job, 5, time.Now()
	if _, err := h.q.Append(h.ctx, &e, h.last(o).ChainSequence, "test", ""); err != nil {
		h.t.Fatal(err)
	}
}

// acked waits until the job is no longer in COMFY_JOBS: an ack sent before returns nothing to wait for.
func (h *house) acked(o queue.Offer) {
	h.t.Helper()
	for {
		_, err := h.q.Stored(h.ctx, o.Message.Sequence)
		if errors.Is(err, queue.ErrGone) {
			return
		}
		if err != nil {
			h.t.Fatalf("the job was not acked: %v", err)
		}
	}
}

func (h *house) unacked(o queue.Offer) {
	h.t.Helper()
	if _, err := h.q.Stored(h.ctx, o.Message.Sequence); err != nil {
		h.t.Errorf("the job is not stored any more: %v", err)
	}
}

// hears gives the messages on a subject from now on. It misses nothing that the agent sends after hears has returned.
func hears[T any](h *house, subject string) <-chan T {
	h.t.Helper()
	told := make(chan T, 100)
	_, err := h.nc.Subscribe(subject, func(msg *nats.Msg) {
		var v T
		if err := json.Unmarshal(msg.Data, &v); err != nil {
			h.t.Errorf("on %s: %v", msg.Subject, err)
		}
		select {
		case told <- v:
		case <-h.ctx.Done():
		}
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return told
}

// await gives the next value of a channel.
func await[T any](h *house, c <-chan T, what string) T {
	h.t.Helper()
	select {
	case v := <-c:
		return v
	case <-h.ctx.Done():
		h.t.Fatalf("%s did not come", what)
		panic("unreachable")
	}
}

// words tells of every message with a text on a subject.
func (h *house) words(subject, text string) <-chan string {
	h.t.Helper()
	told := make(chan string, 1000)
	_, err := h.nc.Subscribe(subject, func(msg *nats.Msg) {
		if string(msg.Data) == text {
			told <- msg.Subject
		}
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return told
}
