package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/comfyherd/comfyherd/jetstream"
)

// FileSeeker reads a stored file from anywhere in it, as answers to requests for ranges need it. It is opened by the first Read after
// a Seek, since most ranges begin elsewhere. Only a file that is read from its beginning to its end is compared with its digest.
type FileSeeker struct {
	File jetstream.File

	ctx    context.Context //nolint:containedctx // of the one request that reads it
	q      *Queue
	store  string
	offset int64
	body   io.ReadCloser // nil: not open at offset
}

// SeekFile finds a file of a store; ErrNoFile when there is none. The caller closes it.
func (q *Queue) SeekFile(ctx context.Context, store, name string) (*FileSeeker, error) {
	file, err := q.StatFile(ctx, store, name)
	if err != nil {
		return nil, err
	}
	return &FileSeeker{File: file, ctx: ctx, q: q, store: store}, nil
}

// Read fails when the file was replaced since SeekFile.
func (f *FileSeeker) Read(p []byte) (int, error) {
	if f.offset >= f.File.Size {
		return 0, io.EOF
	}
	if f.body == nil {
		body, now, err := f.q.openFile(f.ctx, f.store, f.File.Name, f.offset)
		if err != nil {
			return 0, err
		}
		if now.Size != f.File.Size || now.Digest != f.File.Digest {
			return 0, errors.Join(fmt.Errorf("read file %s: %w", f.File.Name, jetstream.ErrReplaced), body.Close())
		}
		f.body = body
	}
	n, err := f.body.Read(p)
	f.offset += int64(n)
	return n, err
}

// Seek moves to an offset; the file is opened there by the next Read.
func (f *FileSeeker) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += f.offset
	case io.SeekEnd:
		offset += f.File.Size
	}
	if offset < 0 {
		return 0, fmt.Errorf("move to byte %d of file %s: %w", offset, f.File.Name, fs.ErrInvalid)
	}
	if offset != f.offset {
		_ = f.Close()
		f.offset = offset
	}
	return offset, nil
}

// Close ends the reading; another Read begins again.
func (f *FileSeeker) Close() error {
	if f.body == nil {
		return nil
	}
	err := f.body.Close()
	f.body = nil
	return err
}
