package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxMemory bounds what a test process may map, in KiB: some changes make a loop allocate for ever.
const maxMemory = 6 << 20

// session is one run over a room.
type session struct {
	build    *built
	parallel int
	slow     time.Duration // what a test may take; 0 = any time
	deadline time.Time
	only     string // a regular expression for the names of tests
	tests    []test
	broken   []string // tests that fail without any change
	left     []string // tests that take longer

	lock    sync.Mutex
	killers map[string][]string // tests that killed changes of a function, the last first
}

// test is one top-level test with the changes it reaches and the time it takes.
type test struct {
	binary  binary
	name    string
	took    time.Duration
	reaches map[int]bool
}

// measure runs each test alone and without a change, to see what it reaches.
func (s *session) measure(ctx context.Context, work string) error {
	var all []test
	for _, b := range s.build.binaries {
		out, err := command(ctx, b, "-test.list", s.only).Output()
		if err != nil {
			return fmt.Errorf("list the tests: %w", err)
		}
		for name := range strings.Lines(string(out)) {
			name = strings.TrimSpace(name)
			if name != "" && !strings.HasPrefix(name, "Benchmark") && !strings.Contains(name, " ") {
				all = append(all, test{binary: b, name: name})
			}
		}
	}
	var lock sync.Mutex
	s.each(len(all), func(i int) {
		t, err := s.run(ctx, all[i], filepath.Join(work, "trace"+strconv.Itoa(i)))
		lock.Lock()
		defer lock.Unlock()
		switch {
		case errors.Is(err, errSlow):
			s.left = append(s.left, t.name)
		case err != nil:
			s.broken = append(s.broken, t.name)
		default:
			s.tests = append(s.tests, t)
		}
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if len(s.tests) == 0 {
		return fmt.Errorf("no test is left: %d fail without a change, and %d take more than %s", len(s.broken), len(s.left), s.slow)
	}
	slices.SortFunc(s.tests, func(a, b test) int { return cmp.Compare(a.took, b.took) })
	return nil
}

var errSlow = errors.New("the test is slow")

// run runs one test without a change and notes what it reaches and how long it takes. Of a test that must not be slow the
// processor time counts, which other work on the machine changes little; it gets ten times as long by the clock.
func (s *session) run(ctx context.Context, t test, trace string) (test, error) {
	if s.slow > 0 {
		timed, cancel := context.WithTimeout(ctx, 10*s.slow)
		defer cancel()
		ctx = timed
	}
	cmd := command(ctx, t.binary, "-test.run", "^"+t.name+"$", "-test.timeout", "5m")
	cmd.Env = append(os.Environ(), "MUTATE_TRACE="+trace)
	begun := time.Now()
	err := cmd.Run()
	t.took = time.Since(begun)
	t.reaches = readTrace(trace)
	if s.slow > 0 && (ctx.Err() != nil || err == nil && cmd.ProcessState.UserTime() > s.slow) {
		err = errSlow
	}
	return t, err
}

func readTrace(path string) map[int]bool {
	reached := map[int]bool{}
	text, err := os.ReadFile(path)
	if err != nil {
		return reached // the test reaches nothing
	}
	for line := range bytes.Lines(text) {
		if id, err := strconv.Atoi(string(bytes.TrimSpace(line))); err == nil {
			reached[id] = true
		}
	}
	return reached
}

// each calls a function for every number below n, a few at a time.
func (s *session) each(n int, f func(int)) {
	next := make(chan int)
	var workers sync.WaitGroup
	for range s.parallel {
		workers.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	workers.Wait()
}

// command is a test binary in its folder, with bounded memory where there is a shell.
func command(ctx context.Context, b binary, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, b.path, args...)
	if sh, err := exec.LookPath("sh"); err == nil {
		limited := fmt.Sprintf(`ulimit -v %d 2>/dev/null; exec "$0" "$@"`, maxMemory)
		cmd = exec.CommandContext(ctx, sh, append([]string{"-c", limited, b.path}, args...)...)
	}
	cmd.Dir = b.dir
	cmd.WaitDelay = time.Second
	return cmd
}
