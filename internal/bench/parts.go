package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// PartArgument is the only argument of a program that must call ServePart.
const PartArgument = "bench-part"

const (
	partAnswer = 30 * time.Second // how long a part may take for an answer
	partEnd    = 10 * time.Second // and for its end, before it is killed
	partStderr = 4096             // bytes of a part's standard error that are kept, the last ones
)

// process is a part that this process has started. It ends with its standard input, also when this process is killed.
type process struct {
	name   string
	child  *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Scanner
	stderr tail
	over   chan struct{} // closed when the process has ended
	err    error         // of its end; read after over
}

// begin starts a part. fail is called when it ends before end was called.
func begin(name string, o order, fail func(error)) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	child := exec.CommandContext(context.Background(), self, PartArgument) // end ends it, after its standard input
	p := &process{name: name, child: child, over: make(chan struct{})}
	p.child.Stderr = &p.stderr
	out, err := p.child.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	if p.in, err = p.child.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	if err := p.child.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p.out = bufio.NewScanner(out)
	go func() {
		defer close(p.over)
		if p.err = p.child.Wait(); p.err != nil {
			p.err = fmt.Errorf("%s has ended: %w: %s", name, p.err, p.stderr.text())
			fail(p.err)
		}
	}()
	return p, p.write(o)
}

func (p *process) write(o order) error {
	line, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("encode the order of %s: %w", p.name, err)
	}
	_, err = p.in.Write(append(line, '\n'))
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	return nil
}

// ask gives a report of the part.
func (p *process) ask(ctx context.Context, what string) (partReport, error) {
	return p.askWithin(ctx, what, partAnswer)
}

func (p *process) askWithin(ctx context.Context, what string, limit time.Duration) (partReport, error) {
	var r partReport
	answered := make(chan error, 1)
	go func() { answered <- p.exchange(what, &r) }()
	late := time.NewTimer(limit)
	defer late.Stop()
	var err error
	select {
	case err = <-answered:
	case <-late.C:
		err = fmt.Errorf("no answer for %s", limit)
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = p.child.Process.Kill() // it may have ended already; the goroutine above ends with it
		return partReport{}, fmt.Errorf("ask %s: %w", p.name, err)
	}
	return r, nil
}

func (p *process) exchange(what string, r *partReport) error {
	if _, err := io.WriteString(p.in, what+"\n"); err != nil {
		return err
	}
	if !p.out.Scan() {
		return errors.Join(io.ErrUnexpectedEOF, p.out.Err())
	}
	return json.Unmarshal(p.out.Bytes(), r)
}

// end ends the part, and kills it when it takes too long.
func (p *process) end() error {
	_ = p.in.Close() // it may have ended already
	late := time.NewTimer(partEnd)
	defer late.Stop()
	select {
	case <-p.over:
	case <-late.C:
		_ = p.child.Process.Kill() // it may have ended since
		<-p.over
	}
	return p.err
}

// endAll ends all parts at the same time.
func endAll(parts []*process) error {
	var ends sync.WaitGroup
	errs := make([]error, len(parts))
	for i, p := range parts {
		ends.Go(func() { errs[i] = p.end() })
	}
	ends.Wait()
	return errors.Join(errs...)
}

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex // guards end
	end []byte
}

// Write keeps the last bytes.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = append(t.end, b...)
	if extra := len(t.end) - partStderr; extra > 0 {
		t.end = t.end[extra:]
	}
	return len(b), nil
}

func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.end))
}
