package daemon_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/daemon"
)

func TestWhatWasPublishedBeforeCloseArrives(t *testing.T) {
	t.Parallel()
	s := natsServer(t, &server.Options{Websocket: server.WebsocketOpts{Host: "127.0.0.1", Port: -1, NoTLS: true}})
	for name, to := range map[string]daemon.NATS{
		"socket":    {URL: s.ClientURL()},
		"memory":    {URL: s.ClientURL(), Options: []nats.Option{nats.InProcessServer(s)}},
		"websocket": {URL: s.WebsocketURL()},
	} {
		t.Run(name, func(t *testing.T) {
			listener, err := nats.Connect(s.ClientURL(), nats.Timeout(10*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			sub, err := listener.SubscribeSync(name)
			if err == nil {
				err = errors.Join(sub.SetPendingLimits(-1, -1), listener.Flush())
			}
			if err != nil {
				t.Fatal(err)
			}
			nc, err := daemon.Connect(t.Context(), to)
			if err != nil {
				t.Fatal(err)
			}
			const each, writers = 5000, 4
			var all sync.WaitGroup
			for range writers {
				all.Go(func() {
					for i := range each {
						if err := nc.Publish(name, []byte(strconv.Itoa(i))); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
			nc.Close()
			for i := range each * writers {
				if _, err := sub.NextMsgWithContext(t.Context()); err != nil {
					t.Fatalf("message %d of %d: %v", i, each*writers, err)
				}
			}
		})
	}
}

// chunks notes what each write had.
type chunks struct {
	net.Conn
	mu    sync.Mutex
	sizes []int
}

func (c *chunks) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.sizes = append(c.sizes, len(p))
	c.mu.Unlock()
	return c.Conn.Write(p)
}

func TestWritesThatComeTogetherAreSentTogetherAndInOrder(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	c := &chunks{Conn: ours}
	g := daemon.Gather(c)
	var want []byte
	for i := range 1000 { // nobody reads yet: the first is under way at most, the others gather
		line := []byte("message " + strconv.Itoa(i) + "\r\n")
		want = append(want, line...)
		if n, err := g.Write(line); n != len(line) || err != nil {
			t.Fatalf("wrote %d of %d bytes: %v", n, len(line), err)
		}
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(theirs, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%d bytes came in another order or changed", len(got))
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if len(c.sizes) > 2 {
		t.Fatalf("sent in %d writes, of %v bytes", len(c.sizes), c.sizes)
	}
}

func TestAWriterWaitsForAPeerThatDoesNotReadAndCloseEndsThat(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	defer theirs.Close()
	g := daemon.Gather(ours)
	block := make([]byte, daemon.GatherMost/4)
	taken, over := 0, make(chan error, 1)
	much := make(chan struct{}) // closed when as much was taken as may wait
	go func() {
		for {
			if _, err := g.Write(block); err != nil {
				over <- err
				return
			}
			if taken += len(block); taken == daemon.GatherMost {
				close(much)
			}
		}
	}()
	<-much
	if err := g.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
	if err := <-over; !errors.Is(err, net.ErrClosed) {
		t.Fatalf("the writer heard %v", err)
	}
	if most := 2*daemon.GatherMost + len(block); taken > most { // one buffer under way and one that waits
		t.Fatalf("%d bytes were taken for a peer that reads nothing, of at most %d", taken, most)
	}
}

func TestAWriteThatFailsEndsTheConnection(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	g := daemon.Gather(ours)
	if err := theirs.Close(); err != nil {
		t.Fatal(err)
	}
	for { // the first write is taken, and a later one gets its error
		if _, err := g.Write([]byte("x")); err != nil {
			if !errors.Is(err, io.ErrClosedPipe) {
				t.Fatal(err)
			}
			break
		}
	}
	if _, err := g.Read(make([]byte, 1)); err == nil {
		t.Fatal("the reader heard nothing")
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
}

// broken fails all writes.
type broken struct{ net.Conn }

var errBroken = errors.New("broken")

func (broken) Write([]byte) (int, error) { return 0, errBroken }

func TestTheReaderHearsWhyAWriteFailed(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	defer theirs.Close()
	g := daemon.Gather(broken{ours})
	if _, err := g.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Read(make([]byte, 1)); !errors.Is(err, errBroken) {
		t.Fatalf("the reader heard %v", err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
}
