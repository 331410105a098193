//go:build unix

package chaos_test

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
)

// proxy is the network between one agent and NATS. It can be cut, which drops the connections and refuses new ones,
// and frozen, which keeps them open and lets nothing through.
type proxy struct {
	listener net.Listener
	targets  []string
	done     sync.WaitGroup

	mu     sync.Mutex // guards all below
	conns  map[net.Conn]bool
	next   int
	cut    bool
	closed bool
	frozen chan struct{} // nil when not; closed at the thaw
}

func startProxy(t *testing.T, targets ...string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, targets: targets, conns: map[net.Conn]bool{}}
	p.done.Go(p.acceptLoop)
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) acceptLoop() {
	for {
		from, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			p.done.Go(func() { p.carry(from) })
		}
	}
}

// carry connects to one of the targets after the other, so that a client behind it finds a server that is up.
func (p *proxy) carry(from net.Conn) {
	defer from.Close()
	if !p.add(from) {
		return
	}
	defer p.remove(from)
	to, err := net.Dial("tcp", p.target())
	if err != nil {
		return
	}
	defer to.Close()
	if !p.add(to) {
		return
	}
	defer p.remove(to)
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{from, to}, {to, from}} {
		both.Go(func() {
			defer way[0].Close()
			defer way[1].Close()
			_, _ = io.Copy(gatedWriter{p, way[1]}, way[0]) // either end may hang up
		})
	}
	both.Wait()
}

func (p *proxy) target() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next++
	return p.targets[p.next%len(p.targets)]
}

func (p *proxy) add(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut || p.closed {
		return false
	}
	p.conns[c] = true
	return true
}

func (p *proxy) remove(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// gatedWriter lets nothing through while the proxy is frozen.
type gatedWriter struct {
	p  *proxy
	to net.Conn
}

func (w gatedWriter) Write(b []byte) (int, error) {
	w.p.mu.Lock()
	frozen := w.p.frozen
	w.p.mu.Unlock()
	if frozen != nil {
		<-frozen
	}
	return w.to.Write(b)
}

// setCut drops all connections and refuses new ones (true), or takes new ones again (false).
func (p *proxy) setCut(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = cut
	if cut {
		p.dropAll()
	}
}

// dropAll must be called with mu held.
func (p *proxy) dropAll() {
	for c := range p.conns {
		_ = c.Close()
	}
}

func (p *proxy) setFrozen(frozen bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case frozen && p.frozen == nil:
		p.frozen = make(chan struct{})
	case !frozen && p.frozen != nil:
		close(p.frozen)
		p.frozen = nil
	}
}

func (p *proxy) close() {
	p.setFrozen(false)
	_ = p.listener.Close()
	p.mu.Lock()
	p.closed = true
	p.dropAll()
	p.mu.Unlock()
	p.done.Wait()
}
