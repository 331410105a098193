//go:build unix

package chaos_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a program that is started, killed, stopped and continued any number of times. Its output of all lives
// goes to one file.
type process struct {
	name string
	path string
	args []string
	env  []string
	log  string
	reap *reaper
	read int64 // how much of the log was searched; used by the checker only

	mu      sync.Mutex // guards all below
	running *life
	lives   int
	wanted  bool   // it should run
	clock   string // of its next life, in the form of clockVariable
	ends    []lifeEnd
}

// life is one run of the program. Only the goroutine that waits for it closes ended.
type life struct {
	cmd   *exec.Cmd
	stdin io.Closer
	asked bool // the test has asked it to end; guarded by process.mu
	ended chan struct{}
}

// lifeEnd is how one life ended.
type lifeEnd struct {
	pid   int
	at    time.Time
	asked bool // by the test
	how   string
}

// start starts it unless it runs.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted = true
	return p.startNow()
}

// supervise starts it again when it should run and does not, as an operator's supervisor would do.
func (p *process) supervise() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.wanted {
		return nil
	}
	return p.startNow()
}

// startNow must be called with mu held.
func (p *process) startNow() error {
	if p.running != nil {
		return nil
	}
	out, err := os.OpenFile(p.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(p.path, p.args...)
	cmd.Env = append(append(os.Environ(), clockVariable+"="+p.clock), p.env...)
	cmd.Stdout, cmd.Stderr = out, out
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "=== %s is started at %s\n", p.name, time.Now().Format(time.RFC3339Nano))
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.reap.tell('+', cmd.Process.Pid)
	l := &life{cmd: cmd, stdin: stdin, ended: make(chan struct{})}
	p.running = l
	p.lives++
	go p.await(l)
	return nil
}

func (p *process) await(l *life) {
	err := l.cmd.Wait()
	p.reap.tell('-', l.cmd.Process.Pid)
	how := "exit code 0"
	if err != nil {
		how = err.Error()
	}
	p.mu.Lock()
	p.running = nil
	p.ends = append(p.ends, lifeEnd{pid: l.cmd.Process.Pid, at: time.Now(), asked: l.asked, how: how})
	p.mu.Unlock()
	close(l.ended)
}

// signal sends s to the process if it runs; ending is true for a signal by which it ends.
func (p *process) signal(s syscall.Signal, ending bool) *life {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == nil {
		return nil
	}
	p.running.asked = p.running.asked || ending
	_ = p.running.cmd.Process.Signal(s) // it may just have ended
	return p.running
}

// kill is kill -9. It stays away until start.
func (p *process) kill() {
	p.mu.Lock()
	p.wanted = false
	p.mu.Unlock()
	if l := p.signal(syscall.SIGKILL, true); l != nil {
		<-l.ended
	}
}

func (p *process) freeze() { p.signal(syscall.SIGSTOP, false) }

func (p *process) thaw() { p.signal(syscall.SIGCONT, false) }

// setClock sets how wrong the clock of its next life is.
func (p *process) setClock(clock string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clock = clock
}

// bounce sends SIGTERM; supervise starts the process again.
func (p *process) bounce() {
	p.thaw()
	p.signal(syscall.SIGTERM, true)
}

// terminate sends SIGTERM, waits for the end of the process and gives how it ended.
func (p *process) terminate(testTimeout time.Duration) string {
	p.mu.Lock()
	p.wanted = false
	p.mu.Unlock()
	l := p.signal(syscall.SIGTERM, true)
	if l == nil {
		return "exit code 0"
	}
	timer := time.NewTimer(testTimeout)
	defer timer.Stop()
	select {
	case <-l.ended:
	case <-timer.C:
		p.signal(syscall.SIGQUIT, true) // its goroutines go to the log
		select {
		case <-l.ended:
		case <-time.After(5 * time.Second):
			p.kill()
		}
		return fmt.Sprintf("still there %v after SIGTERM", testTimeout)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ends[len(p.ends)-1].how
}

// born counts its lives.
func (p *process) born() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lives
}

// up reports whether it runs, frozen or not.
func (p *process) up() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running != nil
}

// died lists the lives that ended without having been asked.
func (p *process) died() []lifeEnd {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []lifeEnd
	for _, e := range p.ends {
		if !e.asked {
			all = append(all, e)
		}
	}
	return all
}

// endOf gives when a life ended.
func (p *process) endOf(pid int) (time.Time, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.ends {
		if e.pid == pid {
			return e.at, true
		}
	}
	return time.Time{}, false
}

// panicked finds a Go panic, a data race or a fatal error in the process's output. It reads on where it stopped.
func (p *process) panicked() string {
	file, err := os.Open(p.log)
	if err != nil {
		return ""
	}
	defer file.Close()
	lines := io.NewSectionReader(file, p.read, 1<<40)
	log, err := io.ReadAll(lines)
	if err != nil {
		return ""
	}
	for _, sign := range []string{"\npanic: ", "\nfatal error: ", "WARNING: DATA RACE"} {
		if at := bytes.Index(log, []byte(sign)); at >= 0 {
			return string(log[at+1 : min(len(log), at+600)])
		}
	}
	if end := bytes.LastIndexByte(log, '\n'); end > 0 {
		p.read += int64(end) // the line break stays, for a sign after it
	}
	return ""
}

// reaper is the helper that outlives the test if that is killed.
type reaper struct {
	cmd  *exec.Cmd
	mu   sync.Mutex // guards pipe
	pipe io.WriteCloser
}

func startReaper(t *testing.T) *reaper {
	t.Helper()
	r := &reaper{cmd: exec.Command(self(t))}
	r.cmd.Env = append(os.Environ(), helperVariable+"=reaper")
	var err error
	if r.pipe, err = r.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *reaper) tell(sign byte, pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, _ = fmt.Fprintf(r.pipe, "%c%d\n", sign, pid)
}

func (r *reaper) close() error {
	_ = r.pipe.Close()
	return r.cmd.Wait()
}

func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// helper is a process of the test binary itself.
func (f *fleet) helper(kind, name string, config any) *process {
	body, err := json.Marshal(config)
	if err != nil {
		f.t.Fatal(err)
	}
	p := f.process(name, self(f.t))
	p.env = []string{helperVariable + "=" + kind, configVariable + "=" + string(body)}
	return p
}

func (f *fleet) process(name, path string, args ...string) *process {
	p := &process{name: name, path: path, args: args, log: filepath.Join(f.dir, name+".log"), reap: f.reaper}
	f.all = append(f.all, p)
	return p
}
