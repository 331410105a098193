package agent_test

import (
	"bytes"
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// wire passes bytes between the agent and NATS until it is cut.
type wire struct {
	listener net.Listener
	to       string
	q        *queue.Queue // the agent's
	work     sync.WaitGroup
	swapped  chan struct{} // what is swapped has come, as long as there is room

	mu    sync.Mutex // guards all below
	conns []net.Conn
	cut   bool
	until []byte    // what the agent sends is cut off when this comes, which is lost
	swaps [2]string // what the agent sends has the second instead of the first
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: listener, to: to, swapped: make(chan struct{}, 100)}
	w.work.Go(w.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		w.sever()
		w.work.Wait()
	})
	return w
}

func (w *wire) url() string { return "nats://" + w.listener.Addr().String() }

func (w *wire) accept() {
	for {
		near, err := w.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", w.to)
		w.mu.Lock()
		if w.cut || err != nil {
			_ = near.Close()
			if err == nil {
				_ = far.Close()
			}
		} else {
			w.conns = append(w.conns, near, far)
			w.work.Go(func() { w.pass(near, far, true) })
			w.work.Go(func() { w.pass(far, near, false) })
		}
		w.mu.Unlock()
	}
}

func (w *wire) pass(from, to net.Conn, watched bool) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		w.mu.Lock()
		lost := w.cut
		if watched && w.until != nil && bytes.Contains(buffer[:n], w.until) {
			w.until, w.cut, lost = nil, true, true
		}
		sent := buffer[:n]
		if watched && w.swaps[0] != "" {
			if bytes.Contains(sent, []byte(w.swaps[0])) {
				select {
				case w.swapped <- struct{}{}:
				default:
				}
			}
			sent = bytes.ReplaceAll(sent, []byte(w.swaps[0]), []byte(w.swaps[1]))
		}
		w.mu.Unlock()
		if err != nil || lost {
			return
		}
		if _, err := to.Write(sent); err != nil {
			return
		}
	}
}

// sever cuts the wire until mend.
func (w *wire) sever() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = true
	for _, c := range w.conns {
		_ = c.Close()
	}
	w.conns = nil
}

func (w *wire) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = false
}

// cutAt cuts the wire when the agent sends this, which does not arrive.
func (w *wire) cutAt(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.until = []byte(what)
}

// swap has one text arrive instead of another of the same length, as that of a subject to which nobody answers.
func (w *wire) swap(what, instead string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.swaps = [2]string{what, instead}
}

// noticed waits until the agent is, or is not, connected.
func (h *house) noticed(connected bool) {
	h.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for h.wire.q.Connected() != connected {
		select {
		case <-tick.C:
		case <-h.ctx.Done():
			h.t.Fatal("the connection does not change")
		}
	}
}

// followed waits until the agent hears the events of a job, and unfollowed until nobody does.
func (h *house) followed(id job.ID)   { h.t.Helper(); h.awaitInterest(id, true) }
func (h *house) unfollowed(id job.ID) { h.t.Helper(); h.awaitInterest(id, false) }

func (h *house) awaitInterest(id job.ID, want bool) {
	h.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for h.nats.GlobalAccount().SubscriptionInterest("comfy.events.jobs.acme."+string(id)+".completed") != want {
		select {
		case <-tick.C:
		case <-h.ctx.Done():
			h.t.Fatalf("that somebody follows the job does not become %t", want)
		}
	}
}

func TestAnAckThatWasLostWithTheConnectionIsSentAgain(t *testing.T) {
	t.Parallel()
	h := startOnAWire(t, agent.Config{})
	h.fake.returns(now(), &comfy.Result{}, nil)
	o := h.queued(job.Spec{ID: "one"})
	h.wire.cutAt("+ACK")
	h.accepted(o)
	h.event(o, job.Completed)
	h.noticed(false)
	h.unacked(o)
	h.wire.mend()
	h.acked(o)
}

func TestACancelThatWasToldWhileTheAgentWasAwayIsFoundAfterwards(t *testing.T) {
	t.Parallel()
	h := startOnAWire(t, agent.Config{})
	o := h.queued(job.Spec{ID: "one"})
	h.accepted(o)
	p := await(h, h.fake.posted, "the POST")
	h.followed("one") // or the chain would be read afterwards anyway
	h.wire.sever()
	h.noticed(false)
	h.append(o, job.Event{EventKind: job.Cancelled, By: "test"})
	h.wire.mend()
	if id := await(h, h.fake.cancelled, "the cancel"); id != p.ID {
		t.Errorf("prompt %s was cancelled, not %s", id, p.ID)
	}
	h.acked(o)
}

// Progress and previews that are published while NATS is away would take the room of acks in the connection's buffer.
func TestProgressAndPreviewsOfATimeWithoutNATSAreNeverSent(t *testing.T) {
	t.Parallel()
	h := startOnAWire(t, agent.Config{})
	tell, told := make(chan comfy.Progress), make(chan struct{})
	h.fake.set(func() {
		h.fake.perform = func(ctx context.Context, _ comfy.Prompt, w comfy.Watch) (*comfy.Result, error) {
			w.Running()
			for p := range tell {
				w.Progress(p)
				w.Preview("image/png", []byte(p.Node))
				told <- struct{}{}
			}
			return &comfy.Result{}, nil
		}
	})
	progress := hears[jetstream.Progress](h, "comfy.live.jobs.acme.one.progress")
	previews := make(chan string, 10)
	if _, err := h.nc.Subscribe("comfy.live.jobs.acme.one.preview", func(m *nats.Msg) { previews <- string(m.Data) }); err != nil {
		t.Fatal(err)
	}
	o := h.queued(job.Spec{ID: "one"})
	h.accepted(o)
	await(h, h.fake.posted, "the POST")
	h.wire.sever()
	h.noticed(false)
	tell <- comfy.Progress{Node: "1"}
	<-told
	h.wire.mend()
	h.noticed(true)
	second := comfy.Progress{Node: "2", Class: "SaveImage", Value: 1, Max: 4, NodesDone: 1, NodesTotal: 2}
	tell <- second
	<-told
	close(tell)
	want := jetstream.Progress{Node: "2", Class: "SaveImage", Value: 1, Max: 4, NodesDone: 1, NodesTotal: 2}
	if got := await(h, progress, "progress"); got != want {
		t.Errorf("%+v came first, want %+v", got, want)
	}
	h.event(o, job.Completed)
	if err := h.nc.FlushWithContext(h.ctx); err != nil { // what the server has passed on by then has come
		t.Fatal(err)
	}
	for len(previews) > 0 {
		if p := <-previews; p == "1" {
			t.Error("the preview of a time without NATS was sent")
		}
	}
}

func TestAResultIsStoredWhenNATSComesBackAndNothingIsCounted(t *testing.T) {
	t.Parallel()
	h := startOnAWire(t, agent.Config{})
	h.fake.returns(now(), &comfy.Result{Outputs: []comfy.Output{picture}}, nil)
	begun, release := h.fake.blocks(10)
	o := h.queued(job.Spec{ID: "one"})
	h.accepted(o)
	await(h, begun, "the storing of the result")
	h.wire.sever()
	h.noticed(false)
	if err := h.a.Health(); err == nil || err.Error() != "NATS is not connected" {
		t.Errorf("Health is %v", err)
	}
	close(release)
	h.wire.mend()
	if e := h.event(o, job.Completed); e.Attempt != 1 || e.Outputs[0].Object == "" {
		t.Errorf("completed is %+v", e)
	}
	h.wantChain(o, "queued started completed")
	h.acked(o)
}
