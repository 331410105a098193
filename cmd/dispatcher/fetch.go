package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

// fetch writes the files of a completed job to <out>/<job>/<file> and prints their paths.
func (w *waiter) fetch(ctx context.Context, e *jetstream.Event, show display) {
	taken := map[string]bool{}
	for i := range e.Outputs {
		o := &e.Outputs[i]
		if o.Object == "" && !isText(o) {
			show.say(fmt.Sprintf("%s: %s was left on host %s", e.Job, o.Filename, e.Host))
			continue
		}
		path := filepath.Join(w.out, string(e.Job), fileName(o, taken))
		if err := keep(ctx, w.q, o, path); err != nil {
			show.say(fmt.Sprintf("%s: %v", e.Job, err))
			w.fail(fmt.Errorf("%w; the file stays in COMFY_OUTPUTS for a time: submit the same id with --out again", err))
			continue
		}
		show.result(path)
	}
}

// keep writes an output to a file: from COMFY_OUTPUTS, or out of the event where a short text stands.
func keep(ctx context.Context, q *jetstream.Queue, o *job.Output, path string) error {
	if o.Object == "" {
		return write(path, strings.NewReader(o.Text), "")
	}
	from, _, err := q.OpenOutput(ctx, o.Object)
	if err != nil {
		return err
	}
	return errors.Join(write(path, from, o.Digest), from.Close())
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
		if isText(o) {
			name = clean(filepath.Base(o.Node)) + ".txt"
		}
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

// write makes a file that is whole or not there. A digest that is not empty, as the job's event has it, must be that of
// what was read: the store may have got another file of that name since.
func write(path string, from io.Reader, digest string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	part, err := os.CreateTemp(filepath.Dir(path), ".part-*")
	if err != nil {
		return err
	}
	defer os.Remove(part.Name()) // it was renamed when all went well
	sum := sha256.New()
	_, err = io.Copy(io.MultiWriter(part, sum), from)
	if err = errors.Join(err, part.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if got := digestForm + base64.URLEncoding.EncodeToString(sum.Sum(nil)); strings.HasPrefix(digest, digestForm) && got != digest {
		return fmt.Errorf("%s was not written: what COMFY_OUTPUTS has is not the file that the job made (%s, want %s)", path, got, digest)
	}
	if err := os.Chmod(part.Name(), 0o644); err != nil {
		return err
	}
	return os.Rename(part.Name(), path)
}

const digestForm = "SHA-256=" // and the sum in base64url, as the object store has it
