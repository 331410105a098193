package daemon

import (
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	gatherMost   = 256 << 10 // bytes that wait before a writer waits too
	gatherKeep   = 512 << 10 // a buffer that has grown larger is not kept for the next write
	writeTimeout = time.Minute
	closeTimeout = time.Second // for what was written before Close
)

// gathered is a connection that sends what several goroutines write at about the same time in one system call. nats.go
// writes as soon as one of them waits for its answer, so that a busy process makes a call, and its server too, for
// nearly each message. Here the sending goroutine lets the others that can run go first, which on an idle machine takes
// no time. Without it a job of the bench takes 10 % more CPU (see "Hand-written against plain" in docs/performance.md).
// A call that fails closes the connection, so that its reader notices, and fails all writes that follow.
type gathered struct {
	net.Conn
	wake chan struct{} // has a value: something is to be sent, or err was set
	done chan struct{} // closed when nothing more will be sent

	mu   sync.Mutex // guards the two below
	room sync.Cond  // the buffer was taken, or err was set
	buf  []byte
	err  error // of a write, or net.ErrClosed
}

func gather(c net.Conn) *gathered {
	g := &gathered{Conn: c, wake: make(chan struct{}, 1), done: make(chan struct{})}
	g.room.L = &g.mu
	go g.send()
	return g
}

// Write hands p to the sending goroutine. It waits while gatherMost or more is still to be sent.
func (g *gathered) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.buf) >= gatherMost && g.err == nil {
		g.room.Wait()
	}
	if g.err != nil {
		return 0, g.err
	}
	first := len(g.buf) == 0
	g.buf = append(g.buf, p...)
	if first {
		g.poke()
	}
	return len(p), nil
}

func (g *gathered) poke() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

func (g *gathered) send() {
	defer close(g.done)
	var batch []byte
	for closed := false; !closed; {
		<-g.wake
		runtime.Gosched()
		g.mu.Lock()
		batch, g.buf = g.buf, batch[:0]
		closed = g.err != nil
		g.mu.Unlock()
		g.room.Broadcast()
		if len(batch) == 0 {
			continue
		}
		if err := g.flush(batch); err != nil {
			g.fail(err)
			_ = g.Conn.Close() // why it failed is kept already
			return
		}
		if cap(batch) > gatherKeep {
			batch = nil
		}
	}
}

func (g *gathered) flush(batch []byte) error {
	if err := g.Conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := g.Conn.Write(batch)
	return err
}

// fail has all writes fail from now on.
func (g *gathered) fail(err error) {
	g.mu.Lock()
	if g.err == nil {
		g.err = err
	}
	g.mu.Unlock()
	g.room.Broadcast()
	g.poke()
}

// Read reports the failed write rather than the failed read that it caused.
func (g *gathered) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	if err != nil {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.err != nil {
			err = g.err
		}
	}
	return n, err
}

// Close sends what was written, for at most closeTimeout, and closes the connection.
func (g *gathered) Close() error {
	g.fail(net.ErrClosed)
	late := time.NewTimer(closeTimeout)
	defer late.Stop()
	select {
	case <-g.done:
	case <-late.C:
	}
	err := g.Conn.Close()
	<-g.done
	return err
}

// SetWriteDeadline does nothing: each write of the sending goroutine has writeTimeout.
func (g *gathered) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline bounds reads only, as SetWriteDeadline says.
func (g *gathered) SetDeadline(t time.Time) error { return g.SetReadDeadline(t) }

// gatherer has the connections of one nats.Conn gather their writes. nats.go leaves a connection whose handshake failed to the
// garbage collector, which cannot free it while its sending goroutine waits. So the goroutine is ended when the next connection is
// made.
type gatherer struct {
	last *gathered // nats.go makes one after the other
}

// option comes after all other options. With a dialer of its own nats.go gives each address of a name the whole
// Timeout, instead of a share.
func (g *gatherer) option(o *nats.Options) error {
	switch {
	case o.InProcessServer != nil:
		o.InProcessServer = gatheringServer{o.InProcessServer, g}
	case o.CustomDialer == nil:
		o.CustomDialer = gatheringDialer{net.Dialer{Timeout: o.Timeout}, g}
	}
	return nil
}

func (g *gatherer) next(dial func() (net.Conn, error)) (net.Conn, error) {
	g.end()
	c, err := dial()
	if err != nil {
		return nil, err
	}
	g.last = gather(c)
	return g.last, nil
}

// end closes the connection that was made last.
func (g *gatherer) end() {
	if g.last != nil {
		_ = g.last.Close() // in most cases it is closed already
		g.last = nil
	}
}

type gatheringDialer struct {
	net.Dialer
	by *gatherer
}

// Dial connects over TCP.
func (d gatheringDialer) Dial(network, address string) (net.Conn, error) {
	return d.by.next(func() (net.Conn, error) { return d.Dialer.Dial(network, address) })
}

type gatheringServer struct {
	nats.InProcessConnProvider
	by *gatherer
}

// InProcessConn connects through memory.
func (s gatheringServer) InProcessConn() (net.Conn, error) {
	return s.by.next(s.InProcessConnProvider.InProcessConn)
}
