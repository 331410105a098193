package daemon_test

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/comfyherd/comfyherd/internal/daemon"
)

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// answer is a NATS that greets a client and gives one answer to its first ping.
func answer(t *testing.T, l net.Listener, with string) net.Conn {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_, err = io.WriteString(c, `INFO {"server_id":"x","version":"2.12.0","proto":1,"headers":true,"max_payload":1048576}`+"\r\n")
	lines := bufio.NewReader(c)
	for line := ""; err == nil && !strings.HasPrefix(line, "PING"); {
		line, err = lines.ReadString('\n')
	}
	if err == nil {
		_, err = io.WriteString(c, with+"\r\n")
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAConnectionThatIsRefusedWhenItReturnsIsClosed(t *testing.T) {
	t.Parallel()
	l := listen(t)
	connected, refused, over := make(chan error), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		nc, err := daemon.Connect(t.Context(), daemon.NATS{URL: l.Addr().String()})
		connected <- err
		<-refused
		if err == nil {
			nc.Close()
		}
	}()
	first := answer(t, l, "PONG")
	err := <-connected
	if err == nil {
		err = first.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		c := answer(t, l, "-ERR 'Authorization Violation'")
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil { // so that nobody waits for a greeting
		t.Fatal(err)
	}
	close(refused)
	<-over
}

func TestAConnectionThatIsNoWebsocketIsClosed(t *testing.T) {
	t.Parallel()
	l := listen(t)
	over := make(chan error)
	go func() {
		nc, err := daemon.Connect(t.Context(), daemon.NATS{URL: "ws://" + l.Addr().String()})
		if err == nil {
			nc.Close()
		}
		over <- err
	}()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "INFO {}\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := <-over; err == nil {
		t.Error("it connected")
	}
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Error(err)
	}
}
