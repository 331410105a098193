package queue

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"sync"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/jetstream"
)

// Files are read by direct gets. nats.go reads them with a consumer, but a consumer cannot deliver into another account than the
// fleet's, and a program that may make one can have stored bytes delivered to any subject.

const (
	fileBatch   = 16               // the most parts of one request
	batchBytes  = 2 << 20          // the most bytes of one request
	fileTimeout = 30 * time.Second // the longest wait for a part
)

// fileReader reads the bytes that a goroutine fetches.
type fileReader struct {
	*io.PipeReader
	stop context.CancelFunc
	done sync.WaitGroup
}

// Close ends the fetching and waits for it.
func (r *fileReader) Close() error {
	r.stop()
	err := r.PipeReader.Close()
	r.done.Wait()
	return err
}

// read streams a file from an offset on. It ends with ctx, with Close, or at the end of the file.
func (f *storedFile) read(ctx context.Context, offset int64) io.ReadCloser {
	ctx, stop := context.WithCancel(ctx)
	out, in := io.Pipe()
	r := &fileReader{PipeReader: out, stop: stop}
	r.done.Go(func() {
		if offset == 0 {
			_ = in.CloseWithError(f.all(ctx, in)) // never fails
			return
		}
		_ = in.CloseWithError(f.rest(ctx, offset, in))
	})
	return r
}

// all writes the whole file and compares it with its digest.
func (f *storedFile) all(ctx context.Context, to io.Writer) error {
	var size int64
	sum := sha256.New()
	err := f.walk(ctx, start, f.batch(), fileTimeout, func(p *part) error {
		size = p.end()
		sum.Write(p.body)
		_, err := to.Write(p.body)
		return err
	})
	if err == nil && (size != f.size() || natsjs.GetObjectDigestValue(sum) != f.info.Digest) {
		err = fmt.Errorf("read file %s: %w", f.info.Name, jetstream.ErrDamaged)
	}
	return err
}

// rest writes the file from an offset to its end. There is no digest of that to compare with.
func (f *storedFile) rest(ctx context.Context, offset int64, to io.Writer) error {
	if offset == f.size() {
		return nil
	}
	p, err := f.seekAll(ctx, offset)
	if err == nil {
		_, err = to.Write(p.body[offset-p.offset:])
	}
	if err != nil {
		return err
	}
	return f.walk(ctx, p.after(), f.batch(), fileTimeout, func(p *part) error {
		_, err := to.Write(p.body)
		return err
	})
}

// batch is how many parts are asked for at once.
func (f *storedFile) batch() int { return int(max(1, min(fileBatch, batchBytes/f.largest()))) }
