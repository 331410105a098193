package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// report prints what was not killed, by file and line, and the counts.
func report(out io.Writer, path string, results []result, unbuilt int, s *session) {
	count := map[outcome]int{}
	for _, r := range results {
		count[r.outcome]++
		switch r.outcome {
		case survived:
			fmt.Fprintf(out, "survived   %s   (%s)\n", r.change, r.reach())
		case unreached:
			fmt.Fprintf(out, "unreached  %s\n", r.change)
		case hung:
			fmt.Fprintf(out, "hung       %s\n", r.change)
		case killed, untried: // are counted only
		}
	}
	for _, name := range s.broken {
		fmt.Fprintf(out, "left out   %s fails without any change\n", name)
	}
	for _, name := range s.left {
		fmt.Fprintf(out, "left out   %s takes more than %s\n", name, s.slow)
	}
	fmt.Fprintf(out, "%s: %d changes: %d killed, %d hung, %d survived, %d unreached, %d not tried; %d more do not compile\n",
		path, len(results), count[killed], count[hung], count[survived], count[unreached], count[untried], unbuilt)
}

// reach says what a change has survived.
func (r result) reach() string {
	if r.former {
		return "in a former run"
	}
	return fmt.Sprintf("%d tests reach it", r.ran)
}

// past is what became of the changes in former runs.
type past struct {
	file     string
	outcomes map[string]outcome
}

// readPast reads them when -resume asks for it.
func readPast(o options, path string) past {
	name := strings.Trim(strings.ReplaceAll(filepath.ToSlash(path), "/", "-"), ".-") + ".json"
	p := past{file: filepath.Join(o.state, name), outcomes: map[string]outcome{}}
	if !o.resume {
		return p
	}
	text, err := os.ReadFile(p.file)
	if err != nil {
		return p // there was no former run
	}
	var known map[string]outcome
	if json.Unmarshal(text, &known) == nil && known != nil {
		p.outcomes = known
	}
	return p
}

// fill gives the changes for which there was no time, or of the tests in use none that reaches them, the outcome of a former run.
func (p past) fill(results []result) []result {
	for i, r := range results {
		if r.outcome == untried || r.outcome == unreached {
			results[i].outcome, results[i].former = p.outcomes[r.change.key()], true
		}
	}
	return results
}

// write stores the outcomes for the next run with -resume.
func (p past) write(results []result) error {
	for _, r := range results {
		if r.outcome != untried {
			p.outcomes[r.change.key()] = r.outcome
		}
	}
	text, err := json.Marshal(p.outcomes)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(p.file), 0o700); err != nil {
		return err
	}
	return os.WriteFile(p.file, text, 0o600)
}
