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
func report(out io.Writer, path string, results []result, unbuilt int, broken []string) {
	count := map[outcome]int{}
	for _, r := range results {
		count[r.outcome]++
		switch r.outcome {
		case survived:
			fmt.Fprintf(out, "survived   %s   (%d tests reach it)\n", r.change, r.ran)
		case unreached:
			fmt.Fprintf(out, "unreached  %s\n", r.change)
		case hung:
			fmt.Fprintf(out, "hung       %s\n", r.change)
		case killed, untried: // are counted only
		}
	}
	for _, name := range broken {
		fmt.Fprintf(out, "left out   %s fails without any change\n", name)
	}
	fmt.Fprintf(out, "%s: %d changes: %d killed, %d hung, %d survived, %d unreached, %d not tried; %d more do not compile\n",
		path, len(results), count[killed], count[hung], count[survived], count[unreached], count[untried], unbuilt)
}

// past are the changes that former runs have killed.
type past struct {
	file   string
	killed map[string]bool
}

// readPast reads them when -resume asks for it.
func readPast(o options, path string) past {
	name := strings.Trim(strings.ReplaceAll(filepath.ToSlash(path), "/", "-"), ".-") + ".json"
	p := past{file: filepath.Join(o.state, name), killed: map[string]bool{}}
	if !o.resume {
		return p
	}
	text, err := os.ReadFile(p.file)
	if err != nil {
		return p // there was no former run
	}
	var keys []string
	if json.Unmarshal(text, &keys) == nil {
		for _, k := range keys {
			p.killed[k] = true
		}
	}
	return p
}

// write stores what is killed now for the next run with -resume.
func (p past) write(results []result) error {
	for _, r := range results {
		if r.outcome == killed {
			p.killed[r.change.key()] = true
		}
	}
	keys := make([]string, 0, len(p.killed))
	for k := range p.killed {
		keys = append(keys, k)
	}
	text, err := json.Marshal(keys)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(p.file), 0o700); err != nil {
		return err
	}
	return os.WriteFile(p.file, text, 0o600)
}
