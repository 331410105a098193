package queue_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// A delivery that the server has sent is taken, however late it is read. Otherwise its job would wait for AckWait until it is
// delivered again.
func TestADeliveryThatComesAfterItsPullIsTaken(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), startNATS(t)
	publisher := openOn(t, url)
	held := &heldDialer{}
	q := openOn(t, url, nats.SetCustomDialer(held))

	came := make(chan queue.Delivery, 1)
	puller, err := q.Puller(job.Usual, func(d queue.Delivery) { came <- d })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(puller.Close)
	if n, err := puller.Pull(ctx, 1, time.Millisecond); n != 0 || err != nil { // makes the consumer
		t.Fatalf("of an empty stream %d came, %v", n, err)
	}

	release := held.hold()
	pulling, giveUp := context.WithCancel(ctx)
	returned := make(chan error, 1)
	go func() {
		_, err := puller.Pull(pulling, 1, time.Minute)
		returned <- err
	}()
	awaitConsumer(t, url, func(info *natsjs.ConsumerInfo) bool { return info.NumWaiting == 1 })
	if _, err := publisher.Submit(ctx, jetstream.Lane{Tenant: "acme", Priority: job.Usual}, jetstream.Spec{ID: "late", Workflow: []byte(smallWorkflow)}); err != nil {
		t.Fatal(err)
	}
	awaitConsumer(t, url, func(info *natsjs.ConsumerInfo) bool { return info.NumAckPending == 1 })
	giveUp()
	if err := <-returned; !errors.Is(err, context.Canceled) {
		t.Errorf("Pull returned %v", err)
	}
	release()
	if d := <-came; d.Tenant != "acme" || d.Lease == "" {
		t.Errorf("the delivery is %+v", d)
	}
}

// A consumer that was deleted is an error, and made again by the next Pull.
func TestAPullMakesItsConsumerAgain(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), startNATS(t)
	q := openOn(t, url)
	came := make(chan queue.Delivery, 1)
	puller, err := q.Puller(job.Usual, func(d queue.Delivery) { came <- d })
	if err != nil {
		t.Fatal(err)
	}
	defer puller.Close()
	if _, err := puller.Pull(ctx, 1, time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if err := bareStream(t, url).DeleteConsumer(ctx, "dispatch_5"); err != nil {
		t.Fatal(err)
	}
	if _, err := puller.Pull(ctx, 1, time.Minute); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("without its consumer Pull returned %v", err)
	}
	if _, err := q.Submit(ctx, jetstream.Lane{Tenant: "acme", Priority: job.Usual}, jetstream.Spec{ID: "one", Workflow: []byte(smallWorkflow)}); err != nil {
		t.Fatal(err)
	}
	if n, err := puller.Pull(ctx, 1, time.Minute); n != 1 || err != nil {
		t.Fatalf("%d came, %v", n, err)
	}
	if d := <-came; d.Tenant != "acme" {
		t.Errorf("the delivery is %+v", d)
	}
}

// Requests from an outage would all be met when it ends, on the subscription that stands all the time.
func TestNothingIsAskedForWhileNATSIsAway(t *testing.T) {
	t.Parallel()
	server, err := natsserver.Start(natsserver.Config{Port: -1, StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	away := make(chan struct{})
	nc := connect(t, server.URL(), nats.DisconnectErrHandler(func(*nats.Conn, error) { close(away) }))
	q, err := queue.Open(t.Context(), nc, queue.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	puller, err := q.Puller(job.Usual, func(queue.Delivery) {})
	if err != nil {
		t.Fatal(err)
	}
	defer puller.Close()
	if _, err := puller.Pull(t.Context(), 1, time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	<-away
	sent := nc.Stats().OutMsgs
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if n, err := puller.Pull(ctx, 1, time.Minute); n != 0 || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%d came, %v", n, err)
	}
	if now := nc.Stats().OutMsgs; now != sent {
		t.Errorf("%d messages were sent", now-sent)
	}
}

func bareStream(t *testing.T, url string) natsjs.Stream {
	t.Helper()
	js, err := natsjs.New(connect(t, url))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "COMFY_JOBS")
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func awaitConsumer(t *testing.T, url string, is func(*natsjs.ConsumerInfo) bool) {
	t.Helper()
	consumer, err := bareStream(t, url).Consumer(t.Context(), "dispatch_5")
	if err != nil {
		t.Fatal(err)
	}
	for info := consumer.CachedInfo(); !is(info); {
		if info, err = consumer.Info(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// heldDialer makes connections whose reader can be kept from what has come.
type heldDialer struct{ conn *heldConn }

func (d *heldDialer) Dial(network, address string) (net.Conn, error) {
	c, err := net.Dial(network, address)
	d.conn = &heldConn{Conn: c, gate: make(chan struct{}, 1)}
	d.conn.gate <- struct{}{}
	return d.conn, err
}

// hold keeps everything from the reader until release is called.
func (d *heldDialer) hold() (release func()) {
	gate := d.conn.gate
	<-gate
	return func() { gate <- struct{}{} }
}

type heldConn struct {
	net.Conn
	gate chan struct{}
}

func (c *heldConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	<-c.gate
	c.gate <- struct{}{}
	return n, err
}
