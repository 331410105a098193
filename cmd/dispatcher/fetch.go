package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

// fetch writes the files of a completed job to <out>/<job>/<file> and prints their paths.
func (w *waiter) fetch(ctx context.Context, e *jetstream.Event, show display) {
	taken := map[string]bool{}
	for _, output := range e.Outputs {
		if output.Object == "" {
			show.say(fmt.Sprintf("%s: %s was left on host %s", e.Job, clean(output.Filename), e.Host))
			continue
		}
		path := filepath.Join(w.out, string(e.Job), fileName(&output, taken))
		if err := download(ctx, w.q, output.Object, path); err != nil {
			show.say(fmt.Sprintf("%s: %v", e.Job, err))
			w.fail(fmt.Errorf("%w; the file stays in COMFY_OUTPUTS for a time: submit the same id with --out again", err))
			continue
		}
		show.result(path)
	}
}

func (w *waiter) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed == nil {
		w.failed = err
	}
}

// fileName is the output's own name without folders; of two that are alike the second gets its node in front.
func fileName(o *job.Output, taken map[string]bool) string {
	name := filepath.Base(filepath.Clean("/" + clean(o.Filename)))
	if name == "/" || name == "." {
		name = "file"
	}
	if taken[name] {
		name = clean(filepath.Base(o.Node)) + "-" + name
	}
	for taken[name] {
		name = "_" + name
	}
	taken[name] = true
	return name
}

// writable makes a folder and proves that files can be written there, before work is done for them.
func writable(dir string) error {
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		var probe *os.File
		if probe, err = os.CreateTemp(dir, ".part-*"); err == nil {
			err = errors.Join(probe.Close(), os.Remove(probe.Name()))
		}
	}
	if err != nil {
		return fmt.Errorf("%w; choose a folder that can be written to", err)
	}
	return nil
}

// download writes an object to a file that is whole or not there.
func download(ctx context.Context, q *jetstream.Queue, object, path string) (err error) {
	from, _, err := q.OpenOutput(ctx, object)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	part, err := os.CreateTemp(filepath.Dir(path), ".part-*")
	if err != nil {
		return err
	}
	defer os.Remove(part.Name()) // it was renamed when all went well
	_, err = io.Copy(part, from)
	if err = errors.Join(err, part.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Chmod(part.Name(), 0o644); err != nil {
		return err
	}
	return os.Rename(part.Name(), path)
}
