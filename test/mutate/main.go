// Command mutate finds lines that no test guards. It changes one thing of a package at a time (a condition, a bound, a
// number, a value that is returned, a statement), runs the tests of that package, and lists the changes after which
// they still pass.
//
//	make mutate PKG=./internal/route
//	go run ./test/mutate -time 8m -resume ./internal/route ./internal/job
//
// All changes of a package are built into one test binary, and a variable of the environment says which of them is in
// force, so that a change costs the time of its tests and no compilation. The sources are left alone: the changed ones
// lie in a temporary folder and reach the compiler by -overlay. Of each test is measured once which changes it reaches,
// and a change is tried with these tests only, the fast ones first.
//
// A change is reported as
//
//	survived     every test that reaches it passes: a test is missing, or the line does nothing
//	unreached    no test runs the line
//	hung         its tests had not ended after several times their usual time; something in it waits or loops for ever
//
// and counted only when it was killed (a test failed), not tried (the time was up), or not built. What survives costs the time
// of all tests that reach it: in a room with slow tests, try everything with the fast ones first (-slow 500ms), and then what
// is left with all of them (-resume, without -slow). A test that has killed a change of a function is tried first with the
// next change of it. After new tests were written, -resume -run 'TestA|TestB' tries what had survived with these alone. Logging and locking are
// not changed: the first is for people, and of the second the race detector says more.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		stop()
		os.Exit(1)
	}
}

// options are what the command line says.
type options struct {
	time     time.Duration
	parallel int
	resume   bool
	state    string
	tests    []string
	slow     time.Duration
	only     *regexp.Regexp
	run      string
	dir      string
	list     bool
}

func run(ctx context.Context, args []string, out io.Writer) error {
	o, packages, err := parseFlags(args, out)
	if err != nil {
		return err
	}
	end := time.Now().Add(o.time)
	for i, path := range packages {
		deadline := time.Now().Add(time.Until(end) / time.Duration(len(packages)-i)) // what one room leaves goes to the next
		if err := mutateRoom(ctx, path, o, deadline, out); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

func parseFlags(args []string, out io.Writer) (options, []string, error) {
	var o options
	var tests, only string
	flags := flag.NewFlagSet("mutate", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.Usage = func() {
		fmt.Fprintln(out, "usage: go run ./test/mutate [flags] package...")
		flags.PrintDefaults()
	}
	flags.DurationVar(&o.time, "time", 10*time.Minute, "stop trying after this time, shared by the packages, and report what was tried until then")
	flags.IntVar(&o.parallel, "p", 2, "changes that are tried at the same time")
	flags.BoolVar(&o.resume, "resume", false, "leave out what former runs have killed, as long as its function is the same, and try first what they have not tried")
	flags.StringVar(&o.state, "state", "bin/mutate", "folder for the results that -resume reads")
	flags.StringVar(&tests, "tests", "", "further packages, separated by commas, whose tests may kill a change")
	flags.DurationVar(&o.slow, "slow", 0, "leave out tests that take more processor time than this; 0 = none")
	flags.StringVar(&only, "only", "", "try only changes whose line of the report matches this regular expression")
	flags.StringVar(&o.run, "run", "", "use only tests whose name matches this regular expression, as when new ones are to kill what has survived (with -resume)")
	flags.StringVar(&o.dir, "C", ".", "folder of the module")
	flags.BoolVar(&o.list, "list", false, "print the changes and try none")
	if err := flags.Parse(args); err != nil {
		return o, nil, err
	}
	if flags.NArg() == 0 {
		return o, nil, errors.New("no package given, for example ./internal/route")
	}
	if tests != "" {
		o.tests = strings.Split(tests, ",")
	}
	var err error
	if o.only, err = regexp.Compile(only); err != nil {
		return o, nil, fmt.Errorf("-only: %w", err)
	}
	return o, flags.Args(), nil
}

// mutateRoom tries the changes of one package and prints its report.
func mutateRoom(ctx context.Context, path string, o options, deadline time.Time, out io.Writer) error {
	r, err := loadRoom(ctx, o.dir, path)
	if err != nil {
		return err
	}
	if o.list {
		changes, _ := find(r, nil)
		for _, c := range changes {
			fmt.Fprintln(out, c)
		}
		return nil
	}
	work, err := os.MkdirTemp("", "mutate-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	b, err := build(ctx, r, append([]string{path}, o.tests...), work)
	if err != nil {
		return err
	}
	past := readPast(o, path)
	fresh, again, results := selectChanges(b.changes, o, past)
	s := session{build: b, parallel: o.parallel, slow: o.slow, deadline: deadline, only: cmp.Or(o.run, "."), killers: map[string][]string{}}
	if len(fresh)+len(again) > 0 {
		if err := s.measure(ctx, work); err != nil {
			return err
		}
		results = append(results, tried(s.tryAll(ctx, fresh), o.run != "")...)
		results = append(results, past.fill(s.tryAll(ctx, again))...)
	}
	slices.SortFunc(results, func(a, b result) int { return cmp.Compare(a.change.id, b.change.id) })
	report(out, path, results, len(b.unbuilt), &s)
	return past.write(results)
}

// tried gives the results of changes that are new. With some of the tests only, one that survives counts as not tried.
func tried(results []result, some bool) []result {
	for i, r := range results {
		if some && (r.outcome == survived || r.outcome == unreached) {
			results[i].outcome = untried
		}
	}
	return results
}

// selectChanges divides the changes into those that no former run has tried, those that it has not killed, and those that
// it has, which are not tried again.
func selectChanges(changes []change, o options, past past) (fresh, again []change, known []result) {
	for _, c := range changes {
		if !o.only.MatchString(c.String()) {
			continue
		}
		switch past.outcomes[c.key()] {
		case killed:
			known = append(known, result{change: c, outcome: killed})
		case untried:
			fresh = append(fresh, c)
		case survived, unreached, hung:
			again = append(again, c)
		}
	}
	return fresh, again, known
}
