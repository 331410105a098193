package jetstream

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// Files are read by direct gets and not by a consumer, as nats.go reads them: what a consumer delivers does not leave the
// fleet's account, and who may make one can have stored bytes delivered anywhere.

const (
	fileBatch   = 16               // chunks asked for at once; of 128 KiB each they are 2 MiB
	fileTimeout = 30 * time.Second // without any chunk
)

// ErrDamaged: the stored bytes of a file are not those of its digest, or some are missing.
var ErrDamaged = errors.New("the stored file is damaged")

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

// read streams a file's chunks. It ends with ctx, with Close, or at the end of the file.
func (q *Queue) read(ctx context.Context, store string, info *natsjs.ObjectInfo) io.ReadCloser {
	ctx, stop := context.WithCancel(ctx)
	out, in := io.Pipe()
	r := &fileReader{PipeReader: out, stop: stop}
	r.done.Go(func() {
		f := fetching{q: q, stream: "OBJ_" + store, chunks: "$O." + store + ".C." + info.NUID, info: info, to: in, sum: sha256.New()}
		_ = in.CloseWithError(f.all(ctx)) // never fails
	})
	return r
}

// fetching is one walk through the chunks of a file.
type fetching struct {
	q              *Queue
	stream, chunks string
	info           *natsjs.ObjectInfo
	to             io.Writer
	sum            hash.Hash

	got   uint32 // chunks
	bytes uint64
	last  uint64 // sequence of the last chunk
}

func (f *fetching) all(ctx context.Context) error {
	sub, err := f.q.nc.SubscribeSync(f.q.nc.NewInbox())
	if err != nil {
		return fmt.Errorf("read file %s: %w", f.info.Name, err)
	}
	defer func() { _ = sub.Unsubscribe() }() // the connection may be closed already
	heard := time.Now()
	for f.got < f.info.Chunks {
		before := f.got
		want := batchGet{Sequence: f.last + 1, Subject: f.chunks, Batch: int(min(fileBatch, f.info.Chunks-f.got))}
		_, err := f.q.gets(ctx, sub, f.stream, want, f.take)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("read file %s: %w", f.info.Name, err)
		case f.got > before:
			heard = time.Now()
		case time.Since(heard) > fileTimeout:
			return fmt.Errorf("read file %s: no chunk after number %d of %d: %w", f.info.Name, f.got, f.info.Chunks, ErrDamaged)
		default:
			pause(ctx, rewatchPause) // a copy of the stream may be behind, or NATS away
		}
	}
	if f.bytes != f.info.Size || natsjs.GetObjectDigestValue(f.sum) != f.info.Digest {
		return fmt.Errorf("read file %s: %w", f.info.Name, ErrDamaged)
	}
	return nil
}

// take hands a chunk on. One that comes twice, since it was asked for again, is left out.
func (f *fetching) take(msg *nats.Msg) error {
	sequence := sequenceOf(msg)
	if sequence <= f.last || msg.Header.Get(natsjs.SubjectHeader) != f.chunks {
		return nil
	}
	f.last = sequence
	f.got++
	f.bytes += uint64(len(msg.Data))
	f.sum.Write(msg.Data)
	_, err := f.to.Write(msg.Data)
	return err
}
