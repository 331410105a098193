package comfysim

import (
	"context"
	"fmt"

	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// process is one life of the simulated ComfyUI process: everything that kill -9 forgets.
type process struct {
	srv    *Server
	cfg    Config
	ctx    context.Context //nolint:containedctx // the life of the simulated process; ends when it dies
	cancel context.CancelFunc
	gate   *gate
	loop   *gate // shut while the one thread that answers computes something long
	ln     *gatedListener
	http   *http.Server
	hub    *hub
	cache  *cache // used by the worker only
	loaded string // main model used last; used by the worker only
	images imageCache
	wake   chan struct{}  // cap 1: the worker has something to look at
	wg     sync.WaitGroup // worker, publisher, acceptor, connections, websocket handlers

	mu           sync.Mutex
	counter      int
	pending      entryHeap
	running      *entry
	wedged       bool
	poisoned     bool          // the device is lost
	interrupted  chan struct{} // closed when the running prompt is to be interrupted; renewed at each start
	freeModels   bool
	freeMemory   bool
	history      map[string]*record
	historyOrder []string
	logLines     []logLine // the newest maxLogLines
}

const maxLogLines = 300 // as ComfyUI's own log buffer

// newProcess brings a process up on a listener. ln is owned by the process from here on.
func newProcess(s *Server, inner net.Listener) *process {
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{
		srv: s, cfg: s.cfg, ctx: ctx, cancel: cancel, gate: &gate{}, loop: &gate{}, hub: newHub(),
		cache: newCache(s.cfg.KeepCache), wake: make(chan struct{}, 1),
		interrupted: make(chan struct{}), history: map[string]*record{},
	}
	p.ln = newGatedListener(inner, p.gate)
	s.store.wipe("temp")
	p.logf("Starting server")
	p.logf("To see the GUI go to: http://%s", inner.Addr())
	p.http = &http.Server{Handler: p.routes(), ConnState: p.count, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), ConnContext: withConn}
	p.wg.Go(func() { _ = p.http.Serve(p.ln) })
	p.wg.Go(func() { p.hub.publishLoop(ctx) })
	p.wg.Go(p.workLoop)
	return p
}

// count keeps wg aware of the goroutines that net/http starts.
func (p *process) count(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		p.wg.Add(1)
	case http.StateClosed, http.StateHijacked:
		p.wg.Done()
	case http.StateActive, http.StateIdle:
	}
}

type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// die ends the process like kill -9 and waits until nothing of it runs. It must not be called from one of its own
// goroutines.
func (p *process) die() {
	p.cancel()
	p.ln.drop()
	_ = p.http.Close()
	p.wg.Wait()
}

// logLine is one write to ComfyUI's output: when, by the host's own clock and without a zone, and what.
type logLine struct {
	Time string `json:"t"`
	Text string `json:"m"`
}

func (p *process) logf(format string, args ...any) { p.log(fmt.Sprintf(format, args...) + "\n") }

// log keeps texts, each as one write.
func (p *process) log(texts ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, text := range texts {
		p.logLines = append(p.logLines, logLine{time.Now().UTC().Format("2006-01-02T15:04:05.000000"), text})
	}
	if extra := len(p.logLines) - maxLogLines; extra > 0 {
		p.logLines = append(p.logLines[:0], p.logLines[extra:]...)
	}
}

// logText is the log as /internal/logs shows it: each write after its time.
func (p *process) logText() string {
	var b strings.Builder
	for _, line := range p.logEntries() {
		b.WriteString(line.Time + " - " + line.Text)
	}
	return b.String()
}

func (p *process) logEntries() []logLine {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.logLines)
}

// sleep waits as the worker thread would; it fails with errDead when the process dies, and stands still while frozen.
func (p *process) sleep(d time.Duration) error {
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-p.ctx.Done():
		}
	}
	p.gate.wait(p.ctx.Done())
	if p.ctx.Err() != nil {
		return errDead
	}
	return nil
}

// interrupt asks the running prompt to stop: the one of this id, or any when id is "". It reports whether there was one.
func (p *process) interrupt(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == nil || (id != "" && p.running.id != id) {
		return false
	}
	select {
	case <-p.interrupted:
	default:
		close(p.interrupted)
	}
	return true
}

// rearm clears the interrupt flag, as every start of a prompt does.
func (p *process) rearm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.interrupted:
		p.interrupted = make(chan struct{})
	default:
	}
}

func (p *process) interruption() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.interrupted
}
