package daemon

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
)

// Saver writes the outputs of jobs to files. A file is complete or does not exist; a download that was interrupted lies
// beside it under another name, and the next Save continues it.
type Saver struct {
	Folder string // the folder
	Open   func(ctx context.Context, object string, offset int64) (io.ReadCloser, error)
}

// Path is the file of an output of a job; taken are the names of the job's outputs before it.
func (s *Saver) Path(id job.ID, o *job.Output, taken map[string]bool) string {
	return filepath.Join(s.Folder, string(id), FileName(o, taken))
}

// Save writes an output, unless the file is complete already. The stored object must have the digest that the job's event
// says: another object may have got its name since.
func (s *Saver) Save(ctx context.Context, o *job.Output, path string) error {
	if o.Object == "" { // a short text is in the event
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
			return fmt.Errorf("%s was not written: what COMFY_OUTPUTS has is not the file that the job made (its digest is %s and should be %s)", path, got, o.Digest)
		}
	}
}

// fill appends what is missing.
func (s *Saver) fill(ctx context.Context, p *partial, o *job.Output) error {
	if p.size > 0 && p.size == o.Size {
		return nil
	}
	from, err := s.Open(ctx, o.Object, p.size)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.MultiWriter(p.file, p.sum), from)
	return errors.Join(err, from.Close())
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

// FileName is the output's own name without folders. Of two with the same name, the second gets its node in front.
func FileName(o *job.Output, taken map[string]bool) string {
	name := filepath.Base(filepath.Clean("/" + Printable(o.Filename)))
	if name == "/" || name == "." {
		name = "file"
		if IsText(o) {
			name = Printable(filepath.Base(o.Node)) + ".txt"
		}
	}
	if taken[name] {
		name = Printable(filepath.Base(o.Node)) + "-" + name
	}
	for taken[name] {
		name = "_" + name
	}
	taken[name] = true
	return name
}
