package jetstream

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"strconv"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/names"
)

// getsInFlight is how many pieces of a file, each of ChunkSize bytes, are asked for at the same time.
const getsInFlight = 4

// StatFile describes the file that is stored in COMFY_OUTPUTS under a name, <tenant>/<job>/<node>/<file>; a NotFound when there is
// none.
func (c *Client) StatFile(ctx context.Context, name string) (File, error) {
	return c.statFile(ctx, FileRequest{Name: name})
}

// StatInput describes the file that is stored in COMFY_INPUTS under a name, as StatFile does.
func (c *Client) StatInput(ctx context.Context, name string) (File, error) {
	return c.statFile(ctx, FileRequest{Name: name, Store: Inputs})
}

func (c *Client) statFile(ctx context.Context, r FileRequest) (file File, err error) {
	err = c.call(ctx, "file.stat", r, &file)
	return file, err
}

// OpenFile streams a file of COMFY_OUTPUTS from an offset, in bytes, to its end. The caller closes it. While it is open, calls
// without an answer are repeated until ctx ends, so outages of dispatchers and NATS only delay it. When the file is replaced or
// removed meanwhile, Read fails with a Conflict or NotFound and gives no bytes of the new file. A file that is read from 0 to its end
// is compared with its digest; when they differ, the last Read fails with ErrDamaged. At most 2 MiB of the file are in memory.
func (c *Client) OpenFile(ctx context.Context, name string, offset int64) (io.ReadCloser, File, error) {
	return c.openFile(ctx, FileRequest{Name: name, Offset: offset})
}

// OpenInput streams a file of COMFY_INPUTS, as OpenFile does.
func (c *Client) OpenInput(ctx context.Context, name string, offset int64) (io.ReadCloser, File, error) {
	return c.openFile(ctx, FileRequest{Name: name, Store: Inputs, Offset: offset})
}

func (c *Client) openFile(ctx context.Context, r FileRequest) (io.ReadCloser, File, error) {
	var first FileAnswer
	err := retried(ctx, true, func(ctx context.Context) (err error) {
		first, err = c.getPiece(ctx, r)
		return err
	})
	if err != nil {
		return nil, File{}, err
	}
	ctx, stop := context.WithCancel(ctx)
	f := &remoteFile{
		file: first.File, stop: stop, piece: piece{first.Body, first.Cursor, nil}, asked: r.Offset + int64(len(first.Body)),
		stride: ChunkSize(c.nc), window: getsInFlight,
	}
	if first.InOrder {
		f.window = 1
	}
	if r.Offset == 0 {
		f.sum = sha256.New()
		f.sum.Write(first.Body)
	}
	f.get = func(cursor string, offset int64, size int) piece {
		return c.getWhole(ctx, FileRequest{Name: r.Name, Store: r.Store, Offset: offset, Limit: size, Cursor: cursor}, first.File)
	}
	return f, first.File, nil
}

// getPiece asks for a piece once.
func (c *Client) getPiece(ctx context.Context, r FileRequest) (FileAnswer, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return FileAnswer{}, fmt.Errorf("encode the request for a file: %w", err)
	}
	msg, err := c.exchange(ctx, "file.get", nil, body)
	if err != nil {
		return FileAnswer{}, err
	}
	a, err := fileAnswer(r.Name, msg)
	switch {
	case err != nil:
	case len(a.Body) > 0 && a.Offset != r.Offset:
		err = &Failed{Message: fmt.Sprintf("read file %s: the answer begins at byte %d instead of %d", r.Name, a.Offset, r.Offset)}
	case len(a.Body) == 0 && a.Offset >= r.Offset && r.Offset < a.Size: // below r.Offset it says how far the dispatcher has searched
		err = &Failed{Message: fmt.Sprintf("read file %s: the answer has no bytes, and of %d the byte %d was asked for", r.Name, a.Size, r.Offset)}
	}
	return a, err
}

// getWhole asks until it has all r.Limit bytes of a piece, and repeats calls that fail for the moment.
func (c *Client) getWhole(ctx context.Context, r FileRequest, file File) piece {
	p := piece{cursor: r.Cursor}
	for end := r.Offset + int64(r.Limit); r.Offset < end; {
		r.Cursor, r.Limit = p.cursor, int(end-r.Offset)
		var a FileAnswer
		p.err = retried(ctx, false, func(ctx context.Context) (err error) {
			a, err = c.getPiece(ctx, r)
			return err
		})
		switch {
		case p.err != nil:
			return p
		case a.File != file:
			p.err = &Conflict{Message: fmt.Sprintf("read file %s: %v", r.Name, ErrReplaced)}
			return p
		case p.body == nil:
			p.body = a.Body
		default:
			p.body = append(p.body, a.Body...)
		}
		p.cursor = a.Cursor
		r.Offset += int64(len(a.Body))
	}
	return p
}

// piece is some bytes of a file and the cursor for the next ones, or the error by which they are missing.
type piece struct {
	body   []byte
	cursor string
	err    error
}

// remoteFile reads pieces in order, and asks for some in advance.
type remoteFile struct {
	file File
	sum  hash.Hash // nil when the reading did not begin at 0, so that there is no digest to compare with
	stop func()
	get  func(cursor string, offset int64, size int) piece

	piece   piece        // the one that is being read
	coming  []chan piece // those that were asked for, in order
	asked   int64        // offset up to which pieces were asked for
	stride  int          // bytes of a piece
	window  int          // pieces that are asked for at the same time
	getting sync.WaitGroup
}

// Read returns the same error again after it has failed.
func (f *remoteFile) Read(p []byte) (int, error) {
	for len(f.piece.body) == 0 {
		if f.piece.err != nil {
			return 0, f.piece.err
		}
		f.ask()
		f.next()
	}
	n := copy(p, f.piece.body)
	f.piece.body = f.piece.body[n:]
	return n, nil
}

// ask requests further pieces until as many are under way as the window allows.
func (f *remoteFile) ask() {
	for len(f.coming) < f.window && f.asked < f.file.Size {
		comes := make(chan piece, 1)
		cursor, offset, size := f.piece.cursor, f.asked, int(min(int64(f.stride), f.file.Size-f.asked))
		f.getting.Go(func() { comes <- f.get(cursor, offset, size) })
		f.coming = append(f.coming, comes)
		f.asked += int64(size)
	}
}

// next waits for the next piece; at the end of the file it compares the digest.
func (f *remoteFile) next() {
	if len(f.coming) == 0 {
		if f.piece.err = io.EOF; f.sum != nil && digestOf(f.sum) != f.file.Digest {
			f.piece.err = fmt.Errorf("read file %s: %w", f.file.Name, ErrDamaged)
		}
		return
	}
	f.piece = <-f.coming[0]
	f.coming = append(f.coming[:0], f.coming[1:]...)
	if f.sum != nil {
		f.sum.Write(f.piece.body)
	}
}

// Close cancels the calls under way and waits for their end.
func (f *remoteFile) Close() error {
	f.stop()
	f.getting.Wait()
	return nil
}

// fileAnswer reads the answer to a call file.get.
func fileAnswer(name string, msg *nats.Msg) (FileAnswer, error) {
	size, sizeErr := strconv.ParseInt(msg.Header.Get(names.FileSizeHeader), 10, 64)
	offset, offsetErr := strconv.ParseInt(msg.Header.Get(names.OffsetHeader), 10, 64)
	if sizeErr != nil || offsetErr != nil || offset < 0 || offset > size-int64(len(msg.Data)) {
		return FileAnswer{}, &Failed{Message: fmt.Sprintf("read file %s: the answer has %d bytes, and its headers %s %.40q and %s %.40q do not fit them",
			name, len(msg.Data), names.OffsetHeader, msg.Header.Get(names.OffsetHeader), names.FileSizeHeader, msg.Header.Get(names.FileSizeHeader))}
	}
	file := File{Name: name, Size: size, Digest: msg.Header.Get(names.FileDigestHeader), ContentType: msg.Header.Get(names.ContentTypeHeader)}
	return FileAnswer{
		File: file, Offset: offset, Body: msg.Data, Cursor: msg.Header.Get(names.CursorHeader), InOrder: msg.Header.Get(names.InOrderHeader) != "",
	}, nil
}
