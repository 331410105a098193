package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

// outcome is what became of a change.
type outcome int

const (
	untried outcome = iota
	killed
	hung
	survived
	unreached
)

type result struct {
	change  change
	outcome outcome
	by      string // the test that failed
	ran     int    // tests that reach it
	former  bool   // it is the outcome of a former run
}

// Fast tests run first and together: most changes do not outlive them.
const fastTogether = time.Second

// tryAll tries the changes until the time is up. They are taken in an order that visits the whole room early, so that
// a run which ends before is a fair sample.
func (s *session) tryAll(ctx context.Context, todo []change) []result {
	stride := max(1, len(todo)/61)
	var order []int
	for first := range stride {
		for i := first; i < len(todo); i += stride {
			order = append(order, i)
		}
	}
	results := make([]result, len(todo))
	s.each(len(order), func(i int) {
		c := todo[order[i]]
		results[order[i]] = result{change: c}
		if ctx.Err() == nil && time.Now().Before(s.deadline) {
			results[order[i]] = s.try(ctx, c)
		}
	})
	return results
}

// try runs the tests that reach a change while it is in force.
func (s *session) try(ctx context.Context, c change) result {
	r := result{change: c, outcome: unreached}
	killers := s.killersOf(c)
	var first, fast, slow []test
	var sum time.Duration
	for _, t := range s.tests { // sorted by time
		if !t.reaches[c.id] {
			continue
		}
		r.ran++
		if slices.Contains(killers, t.name) {
			first = append(first, t)
		} else if sum += t.took; sum <= fastTogether {
			fast = append(fast, t)
		} else {
			slow = append(slow, t)
		}
	}
	batches := [][]test{first, fast}
	for _, t := range slow {
		batches = append(batches, []test{t})
	}
	for _, batch := range batches {
		if len(batch) == 0 {
			continue
		}
		if r.outcome, r.by = s.runBatch(ctx, c, batch); r.outcome != survived {
			s.killed(c, r)
			return r
		}
	}
	return r
}

// killersKept is how many tests are remembered for a function: a change of it is tried with them first.
const killersKept = 3

func (s *session) killersOf(c change) []string {
	s.lock.Lock()
	defer s.lock.Unlock()
	return slices.Clone(s.killers[c.function()])
}

// killed remembers the test that has killed a change.
func (s *session) killed(c change, r result) {
	if r.outcome != killed {
		return
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	known := slices.DeleteFunc(s.killers[c.function()], func(name string) bool { return name == r.by })
	known = slices.Insert(known, 0, r.by)
	s.killers[c.function()] = known[:min(len(known), killersKept)]
}

// runBatch runs tests in one process for each binary.
func (s *session) runBatch(ctx context.Context, c change, batch []test) (outcome, string) {
	for _, b := range s.build.binaries {
		var names []string
		limit := 3 * time.Second
		for _, t := range batch {
			if t.binary == b {
				names = append(names, t.name)
				limit += 5 * t.took
			}
		}
		if len(names) == 0 {
			continue
		}
		if o, by := s.runTests(ctx, c, b, names, limit); o != survived {
			return o, by
		}
	}
	return survived, ""
}

var failedTest = regexp.MustCompile(`(?m)^--- FAIL: (\S+)`)

func (s *session) runTests(ctx context.Context, c change, b binary, names []string, limit time.Duration) (outcome, string) {
	timed, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := command(timed, b, "-test.failfast", "-test.run", "^("+strings.Join(names, "|")+")$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("MUTATE_CHANGE=%d", c.id))
	out, err := cmd.CombinedOutput()
	switch {
	case err == nil:
		return survived, ""
	case ctx.Err() != nil:
		return untried, ""
	case errors.Is(timed.Err(), context.DeadlineExceeded):
		return hung, strings.Join(names, "|")
	}
	if m := failedTest.FindSubmatch(out); m != nil {
		return killed, string(m[1])
	}
	return killed, names[0]
}
