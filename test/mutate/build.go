package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// switchText is the file that is added to a changed package; it says which change is in force.
//
//go:embed switch.go.txt
var switchText string

// built is a room with all its changes in test binaries.
type built struct {
	room     *room
	changes  []change
	unbuilt  map[int]bool
	binaries []binary
}

// binary is the compiled test of one package, which runs in that package's folder.
type binary struct {
	path string
	dir  string
}

// build compiles the tests of the packages with every change of the room that the compiler accepts.
func build(ctx context.Context, r *room, tests []string, work string) (*built, error) {
	b := &built{room: r, unbuilt: map[int]bool{}}
	for {
		all, texts := find(r, b.unbuilt)
		if len(all) == 0 {
			return nil, errors.New("there is nothing to change")
		}
		overlay, err := writeOverlay(r, texts, len(all), work)
		if err != nil {
			return nil, err
		}
		b.binaries, err = compile(ctx, r.root, tests, overlay, work)
		if err == nil {
			b.changes = slices.DeleteFunc(all, func(c change) bool { return b.unbuilt[c.id] })
			return b, nil
		}
		if !b.leaveOut(all, err.Error()) {
			return nil, err
		}
	}
}

// writeOverlay writes the changed sources and the file that tells the compiler to take them for the real ones.
func writeOverlay(r *room, texts map[string][]byte, count int, work string) (string, error) {
	replace := map[string]string{}
	texts[filepath.Join(r.dir, "mutate_switch.go")] = fmt.Appendf(nil, "package %s\n%s\nconst µcount = %d\n", r.name, switchText, count)
	for path, text := range texts {
		changed := filepath.Join(work, filepath.Base(path))
		if err := os.WriteFile(changed, text, 0o600); err != nil {
			return "", err
		}
		replace[path] = changed
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(work, "overlay.json")
	return overlay, os.WriteFile(overlay, text, 0o600)
}

func compile(ctx context.Context, root string, tests []string, overlay, work string) ([]binary, error) {
	var found []binary
	for i, path := range tests {
		pkg, _, err := list(ctx, root, path)
		if err != nil {
			return nil, err
		}
		bin := filepath.Join(work, fmt.Sprintf("tests%d", i))
		cmd := exec.CommandContext(ctx, "go", "test", "-c", "-overlay", overlay, "-gcflags=-e", "-o", bin, path)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("go test -c %s: %w\n%s", path, err, out)
		}
		if _, err := os.Stat(bin); err != nil {
			return nil, fmt.Errorf("%s has no tests", path)
		}
		found = append(found, binary{bin, pkg.Dir})
	}
	return found, nil
}

var compileError = regexp.MustCompile(`(?m)^(\S+\.go):(\d+):\d+: `)

// leaveOut marks the changes on the lines that the compiler refuses. The answer is whether there was one.
func (b *built) leaveOut(changes []change, errors string) bool {
	found := false
	for _, m := range compileError.FindAllStringSubmatch(errors, -1) {
		line, err := strconv.Atoi(m[2])
		if err != nil {
			continue
		}
		for _, c := range changes {
			if filepath.Base(c.file) == filepath.Base(m[1]) && c.line <= line && line <= c.last && !b.unbuilt[c.id] {
				b.unbuilt[c.id], found = true, true
			}
		}
	}
	return found
}
