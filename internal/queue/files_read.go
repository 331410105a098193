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

// Files are read by direct gets and not by a consumer, as nats.go reads them: what a consumer delivers does not leave the
// fleet's account, and who may make one can have stored bytes delivered anywhere.

const (
	fileBatch   = 16               // parts asked for at once, at most
	batchBytes  = 2 << 20          // and what they have together
	fileTimeout = 30 * time.Second // without any part
)

// fileReader reads what a goroutine fetches.
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

// rest writes what begins at offset; only the whole file has a digest.
func (f *storedFile) rest(ctx context.Context, offset int64, to io.Writer) error {
	if offset == f.size() {
		return nil
	}
	p, err := f.seekSurely(ctx, offset)
	if err == nil {
		_, err = to.Write(p.body[offset-p.offset:])
	}
	if err != nil {
		return err
	}
	return f.walk(ctx, p.behind(), f.batch(), fileTimeout, func(p *part) error {
		_, err := to.Write(p.body)
		return err
	})
}

// batch is how many parts are asked for at once.
func (f *storedFile) batch() int { return int(max(1, min(fileBatch, batchBytes/f.largest()))) }
