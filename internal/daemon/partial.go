package daemon

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// partial is a file that is being written. No other process writes to it: what an earlier command left is renamed first.
type partial struct {
	file *os.File
	path string // of the file to be
	sum  hash.Hash
	size int64 // that were in it when it was opened
}

// restName is the name under which an unfinished file is kept while no process writes it.
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

// rest keeps what was written, for the next openPart.
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

// Writable makes a folder and checks that files can be written there.
func Writable(dir string) error {
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
