package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/comfyherd/comfyherd/internal/job"
)

// saver writes what jobs made to files. A file is whole or not there; what was begun and not finished lies beside it under
// another name, and is gone on with the next time.
type saver struct {
	out  string // the folder
	open func(ctx context.Context, object string, offset int64) (io.ReadCloser, error)
}

// path is where an output of a job goes; taken are the names of those before it.
func (s *saver) path(id job.ID, o *job.Output, taken map[string]bool) string {
	return filepath.Join(s.out, string(id), fileName(o, taken))
}

// save writes an output, unless the file is there. What is stored must be what the job's event says: the store may have
// got another file of that name since.
func (s *saver) save(ctx context.Context, o *job.Output, path string) error {
	if o.Object == "" { // a short text stands in the event
		return writeText(path, o.Text)
	}
	if sum, err := sumOf(path); err == nil && knownDigest(o.Digest) && sum == o.Digest {
		return nil
	}
	for {
		p, err := openPart(path)
		if err != nil {
			return err
		}
		begun := p.size > 0
		if p.size > o.Size || !knownDigest(o.Digest) {
			begun = false
			err = p.clear()
		}
		if err == nil {
			err = s.fill(ctx, p, o)
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", path, errors.Join(err, p.rest()))
		}
		got := digestForm + base64.URLEncoding.EncodeToString(p.sum.Sum(nil))
		if !knownDigest(o.Digest) || got == o.Digest {
			return p.finish()
		}
		if err := p.drop(); err != nil {
			return err
		}
		if !begun {
			return fmt.Errorf("%s was not written: what COMFY_OUTPUTS has is not the file that the job made (%s, want %s)", path, got, o.Digest)
		}
	}
}

// fill appends what is missing.
func (s *saver) fill(ctx context.Context, p *partial, o *job.Output) error {
	if p.size > 0 && p.size == o.Size {
		return nil
	}
	from, err := s.open(ctx, o.Object, p.size)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.MultiWriter(p.file, p.sum), from)
	return errors.Join(err, from.Close())
}

// partial is a file that is being written. Nobody else writes to it: what an earlier command left is taken by renaming it.
type partial struct {
	file *os.File
	path string // of the file to be
	sum  hash.Hash
	size int64 // that stood in it when it was opened
}

// restName is where the beginning of a file lies when nobody writes it.
func restName(path string) string {
	name := filepath.Base(path)
	if len(name) > 200 { // file systems take some 255 bytes
		name = fmt.Sprintf("%x", sha256.Sum256([]byte(name)))
	}
	return filepath.Join(filepath.Dir(path), "."+name+".partial")
}

func openPart(path string) (*partial, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".partial-*")
	if err != nil {
		return nil, err
	}
	if err := file.Close(); err != nil {
		return nil, err
	}
	if err := os.Rename(restName(path), file.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, os.Remove(file.Name()))
	}
	p := &partial{path: path, sum: sha256.New()}
	if p.file, err = os.OpenFile(file.Name(), os.O_RDWR, 0o600); err != nil {
		return nil, err
	}
	if p.size, err = io.Copy(p.sum, p.file); err != nil {
		return nil, errors.Join(err, p.drop())
	}
	return p, nil
}

func (p *partial) clear() error {
	p.size = 0
	p.sum.Reset()
	if _, err := p.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return p.file.Truncate(0)
}

// rest leaves what there is for the next time.
func (p *partial) rest() error {
	if info, err := p.file.Stat(); err != nil || info.Size() == 0 {
		return p.drop()
	}
	return errors.Join(p.file.Close(), os.Rename(p.file.Name(), restName(p.path)))
}

func (p *partial) drop() error { return errors.Join(p.file.Close(), os.Remove(p.file.Name())) }

func (p *partial) finish() error {
	if err := errors.Join(p.file.Chmod(0o644), p.file.Close()); err != nil {
		return fmt.Errorf("write %s: %w", p.path, errors.Join(err, os.Remove(p.file.Name())))
	}
	return os.Rename(p.file.Name(), p.path)
}

func writeText(path, text string) error {
	if there, err := os.ReadFile(path); err == nil && string(there) == text {
		return nil
	}
	p, err := openPart(path)
	if err == nil {
		err = p.clear()
	}
	if err != nil {
		return err
	}
	if _, err := p.file.WriteString(text); err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, p.drop()))
	}
	return p.finish()
}

const digestForm = "SHA-256=" // and the sum in base64url, as the object store has it

func knownDigest(digest string) bool { return strings.HasPrefix(digest, digestForm) }

func sumOf(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", err
	}
	return digestForm + base64.URLEncoding.EncodeToString(sum.Sum(nil)), nil
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
		if probe, err = os.CreateTemp(dir, ".partial-*"); err == nil {
			err = errors.Join(probe.Close(), os.Remove(probe.Name()))
		}
	}
	if err != nil {
		return fmt.Errorf("%w; choose a folder that can be written to", err)
	}
	return nil
}
