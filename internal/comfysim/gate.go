package comfysim

import (
	"net"
	"sync"
)

// gate simulates a stopped process: while it is shut, all that wait at it stand still.
type gate struct {
	mu   sync.Mutex
	shut chan struct{} // nil while open; closed when it opens again
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut == nil {
		g.shut = make(chan struct{})
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut != nil {
		close(g.shut)
		g.shut = nil
	}
}

func (g *gate) isShut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.shut != nil
}

// wait returns when the gate is open or done is closed.
func (g *gate) wait(done <-chan struct{}) {
	for {
		g.mu.Lock()
		shut := g.shut
		g.mu.Unlock()
		if shut == nil {
			return
		}
		select {
		case <-shut:
		case <-done:
			return
		}
	}
}

// gatedListener hands out connections that stand still while the gate is shut, and can drop them all at once.
type gatedListener struct {
	net.Listener
	gate  *gate
	mu    sync.Mutex
	conns map[*gatedConn]struct{}
	gone  bool
}

func newGatedListener(inner net.Listener, g *gate) *gatedListener {
	return &gatedListener{Listener: inner, gate: g, conns: map[*gatedConn]struct{}{}}
}

func (l *gatedListener) Accept() (net.Conn, error) {
	inner, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &gatedConn{Conn: inner, owner: l, closed: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone {
		_ = inner.Close()
		return nil, net.ErrClosed
	}
	l.conns[c] = struct{}{}
	return c, nil
}

// drop closes the port and every connection, as the kernel does for a killed process.
func (l *gatedListener) drop() {
	_ = l.Close()
	l.mu.Lock()
	l.gone = true
	conns := make([]*gatedConn, 0, len(l.conns))
	for c := range l.conns {
		conns = append(conns, c)
	}
	l.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
}

type gatedConn struct {
	net.Conn
	owner  *gatedListener
	once   sync.Once
	closed chan struct{}
}

func (c *gatedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.owner.gate.wait(c.closed)
	return n, err
}

func (c *gatedConn) Write(b []byte) (int, error) {
	c.owner.gate.wait(c.closed)
	return c.Conn.Write(b)
}

func (c *gatedConn) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.owner.mu.Lock()
		delete(c.owner.conns, c)
		c.owner.mu.Unlock()
	})
	return c.Conn.Close()
}

// reset closes the connection so that the peer sees ECONNRESET instead of an orderly end.
func (c *gatedConn) reset() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}
