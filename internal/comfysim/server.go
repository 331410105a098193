package comfysim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Server is one simulated host: an address whose files, faults and list of runs stay when its process is killed and started again.
// All methods may be called from any goroutine.
type Server struct {
	cfg     Config
	addr    string
	store   *store
	faults  *faultSet
	painter painter
	ctx     context.Context //nolint:containedctx // the life of the server; ends at Close
	cancel  context.CancelFunc
	wg      sync.WaitGroup // deaths, restarts and thaws under way

	life    sync.Mutex        // held through a start or a stop, so that they come one after another
	mu      sync.Mutex        // guards the fields below; taken after life
	catalog map[string]*class // replaced as a whole
	proc    *process          // nil while the process is down
	log     runLog
	news    chan struct{} // closed and renewed at every change
}

// ErrRunning is what Restart answers while the process is up.
var ErrRunning = errors.New("simulated ComfyUI is already running")

// ErrClosed is what Restart answers after Close.
var ErrClosed = errors.New("simulated ComfyUI was closed")

// Start brings up a simulated ComfyUI on a free port of 127.0.0.1.
func Start(cfg Config) (*Server, error) { return start(listenAnywhere, cfg) }

// StartAt brings up a simulated ComfyUI on a TCP address, host:port.
func StartAt(addr string, cfg Config) (*Server, error) {
	return start(func() (net.Listener, error) { return net.Listen("tcp", addr) }, cfg)
}

// The ports below those that systems give to programs that ask for any: none of them is given away by chance while the
// process is down, so that it comes up again on the same address.
const lowestPort, highestPort = 10_000, 24_999

func listenAnywhere() (net.Listener, error) {
	for range 100 {
		port := lowestPort + rand.IntN(highestPort-lowestPort+1)
		if ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return ln, nil
		}
	}
	return net.Listen("tcp", "127.0.0.1:0")
}

func start(listen func() (net.Listener, error), cfg Config) (*Server, error) {
	cfg = cfg.withDefaults()
	catalog, err := newCatalog(cfg)
	if err != nil {
		return nil, fmt.Errorf("start simulated ComfyUI: %w", err)
	}
	ln, err := listen()
	if err != nil {
		return nil, fmt.Errorf("start simulated ComfyUI: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{
		cfg: cfg, addr: ln.Addr().String(), store: newStore(), faults: newFaultSet(cfg.Seed),
		catalog: catalog, ctx: ctx, cancel: cancel, news: make(chan struct{}),
	}
	s.proc = newProcess(s, ln)
	for _, f := range cfg.Faults {
		s.AddFault(f)
	}
	cfg.Logger.Info("simulated ComfyUI is up", "name", cfg.Name, "url", s.URL())
	return s, nil
}

// URL is the base URL, http://host:port. It stays the same through restarts.
func (s *Server) URL() string { return "http://" + s.addr }

// Close stops everything and waits for it. It may be called twice.
func (s *Server) Close() {
	s.cancel()
	s.Kill()
	s.wg.Wait()
	s.Kill() // a restart that was under way
}

// Kill ends the process like kill -9: connections drop without a close frame, the port refuses, and queue, history,
// counter, cache and temporary files are lost. It returns when nothing of the process runs any more.
func (s *Server) Kill() { s.end(nil) }

// end kills the process, unless only is set and another one is up.
func (s *Server) end(only *process) {
	s.life.Lock()
	defer s.life.Unlock()
	s.mu.Lock()
	p := s.proc
	if p == nil || (only != nil && p != only) {
		s.mu.Unlock()
		return
	}
	s.proc = nil
	s.mu.Unlock()
	p.die()
	s.cfg.Logger.Info("simulated ComfyUI is down", "name", s.cfg.Name, "url", s.URL())
	s.changed()
}

// Restart brings the process up again on the same address, with empty memory and a new log; files are kept. It fails
// with ErrRunning, ErrClosed, or when another program holds the port for two seconds.
func (s *Server) Restart() error {
	s.life.Lock()
	defer s.life.Unlock()
	if s.current() != nil {
		return ErrRunning
	}
	ln, err := s.listenAgain()
	if err != nil {
		return fmt.Errorf("restart simulated ComfyUI: %w", err)
	}
	p := newProcess(s, ln)
	s.mu.Lock()
	s.proc = p
	s.mu.Unlock()
	s.changed()
	return nil
}

func (s *Server) listenAgain() (net.Listener, error) {
	deadline := time.Now().Add(2 * time.Second)
	for {
		if s.ctx.Err() != nil {
			return nil, ErrClosed
		}
		ln, err := net.Listen("tcp", s.addr)
		if err == nil || time.Now().After(deadline) {
			return ln, err
		}
		select {
		case <-s.ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Freeze stops the process like SIGSTOP: connections are accepted and stay open, nothing answers, the job stands still.
func (s *Server) Freeze() {
	if p := s.current(); p != nil {
		p.gate.close()
		s.changed()
	}
}

// Thaw lets a frozen process go on.
func (s *Server) Thaw() {
	if p := s.current(); p != nil {
		p.gate.open()
		s.changed()
	}
}

// FillDisk makes the host's disk full: nodes that save raise, and uploads are answered with HTTP 500 and leave an empty
// file. MakeRoom ends that.
func (s *Server) FillDisk() { s.store.fill(true) }

// MakeRoom gives the disk room again.
func (s *Server) MakeRoom() { s.store.fill(false) }

// Working says whether the process is up and has a thread that runs prompts.
func (s *Server) Working() bool {
	p := s.current()
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.wedged
}

// Up says whether the process is running (frozen or not).
func (s *Server) Up() bool { return s.current() != nil }

// Frozen says whether the process stands still.
func (s *Server) Frozen() bool {
	p := s.current()
	return p != nil && p.gate.isShut()
}

// Sockets counts the open websockets.
func (s *Server) Sockets() int {
	if p := s.current(); p != nil {
		return p.hub.connected()
	}
	return 0
}

// Pending returns the ids of pending prompts in the order they will run, and the id of the running one, "" when idle.
func (s *Server) Pending() (running string, pending []string) {
	p := s.current()
	if p == nil {
		return "", nil
	}
	now, waiting := p.snapshot()
	if now != nil {
		running = now.id
	}
	return running, idsInOrder(waiting)
}

// Interrupt does what a person's click does: it interrupts whatever runs.
func (s *Server) Interrupt() {
	if p := s.current(); p != nil {
		p.interrupt("")
	}
}

// Files lists the files of a folder (input, output or temp) with their sub folders, sorted.
func (s *Server) Files(folder string) []string { return s.store.names(folder) }

// AddModel puts a file into a model folder, as Config.Models has them. The running process offers it from now on, as
// ComfyUI does, which lists its folders for every question. It fails when the simulation's own classes cannot be read.
func (s *Server) AddModel(folder, file string) error {
	return s.changeModels(folder, func(files []string) []string { return append(files, file) })
}

// RemoveModel takes a file out of a model folder again.
func (s *Server) RemoveModel(folder, file string) error {
	return s.changeModels(folder, func(files []string) []string {
		return slices.DeleteFunc(files, func(f string) bool { return f == file })
	})
}

func (s *Server) changeModels(folder string, edit func(files []string) []string) error {
	s.life.Lock()
	defer s.life.Unlock()
	models := maps.Clone(s.cfg.Models)
	if models == nil {
		models = map[string][]string{}
	}
	models[folder] = edit(slices.Clone(models[folder]))
	cfg := s.cfg
	cfg.Models = models
	catalog, err := newCatalog(cfg)
	if err != nil {
		return fmt.Errorf("change the models in %s: %w", folder, err)
	}
	s.mu.Lock()
	s.cfg.Models, s.catalog = models, catalog
	s.mu.Unlock()
	s.changed()
	return nil
}

// classes are those that the host has now.
func (s *Server) classes() map[string]*class {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.catalog
}

// RemoveFile deletes a file, named as Files names it, behind the back of the process. Its counter may be used again.
func (s *Server) RemoveFile(folder, name string) { s.store.remove(folder, "", name) }

func (s *Server) current() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc
}

// dieSoon kills one process from within. A restart of 0 leaves it down and calls OnDeath.
func (s *Server) dieSoon(p *process, restart time.Duration) {
	s.wg.Go(func() {
		s.end(p)
		if restart <= 0 {
			if s.cfg.OnDeath != nil && s.ctx.Err() == nil {
				s.cfg.OnDeath()
			}
			return
		}
		if s.pause(restart) {
			_ = s.Restart() // closed or started by hand in the meantime
		}
	})
}

// freezeSoon freezes one process from within; 0 is until Thaw.
func (s *Server) freezeSoon(p *process, d time.Duration) {
	p.gate.close()
	s.changed()
	if d <= 0 {
		return
	}
	s.wg.Go(func() {
		s.pause(d)
		p.gate.open()
		s.changed()
	})
}

func (s *Server) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.ctx.Done():
		return false
	}
}
