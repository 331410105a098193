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

// getsInFlight is how many pieces of a file are requested at a time, each of FileChunkSize bytes.
const getsInFlight = 4

// StatFile returns the size, digest and type of a file of COMFY_OUTPUTS.
func (c *Client) StatFile(ctx context.Context, name string) (File, error) {
	return c.statFile(ctx, FileRequest{Name: name})
}

// StatInput is StatFile for a file of COMFY_INPUTS.
func (c *Client) StatInput(ctx context.Context, name string) (File, error) {
	return c.statFile(ctx, FileRequest{Name: name, Store: Inputs})
}

func (c *Client) statFile(ctx context.Context, r FileRequest) (file File, err error) {
	err = c.call(ctx, "file.stat", r, &file)
	return file, err
}

// OpenFile streams a file of COMFY_OUTPUTS from an offset on. The caller closes it. Once it is open, it goes on after outages of
// NATS and of dispatchers until ctx ends. If the file is replaced or removed meanwhile, Read fails with a Conflict or NotFound
// and returns no bytes of the other file. A file that is read from 0 to its end is compared with its digest, and the last Read
// fails with ErrDamaged when it differs. At most 2 MiB of the file are in memory.
func (c *Client) OpenFile(ctx context.Context, name string, offset int64) (io.ReadCloser, File, error) {
	return c.openFile(ctx, FileRequest{Name: name, Offset: offset})
}

// OpenInput streams a file of COMFY_INPUTS, as OpenFile does.
func (c *Client) OpenInput(ctx context.Context, name string, offset int64) (io.ReadCloser, File, error) {
	return c.openFile(ctx, FileRequest{Name: name, Store: Inputs, Offset: offset})
}

func (c *Client) openFile(ctx context.Context, r FileRequest) (io.ReadCloser, File, error) {
	var first FileAnswer
	err := surely(ctx, true, func(ctx context.Context) (err error) {
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

// getPiece sends one request.
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
	if err == nil && len(a.Body) > 0 && a.Offset != r.Offset {
		err = &Failed{Message: fmt.Sprintf("read file %s: the answer begins at byte %d, and not at %d", r.Name, a.Offset, r.Offset)}
	}
	return a, err
}

// getWhole requests a piece until it has all its r.Limit bytes, also after errors that may pass.
func (c *Client) getWhole(ctx context.Context, r FileRequest, file File) piece {
	p := piece{cursor: r.Cursor}
	for end := r.Offset + int64(r.Limit); r.Offset < end; {
		r.Cursor, r.Limit = p.cursor, int(end-r.Offset)
		var a FileAnswer
		p.err = surely(ctx, false, func(ctx context.Context) (err error) {
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

// piece are some bytes of a file and the cursor for the next ones, or the error instead.
type piece struct {
	body   []byte
	cursor string
	err    error
}

// remoteFile reads pieces in order, and requests some ahead.
type remoteFile struct {
	file File
	sum  hash.Hash // nil when not read from the beginning
	stop func()
	get  func(cursor string, offset int64, size int) piece

	piece   piece // that is being read
	coming  []chan piece
	asked   int64 // so far
	stride  int
	window  int
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

// ask requests pieces until as many are on the way as there may be.
func (f *remoteFile) ask() {
	for len(f.coming) < f.window && f.asked < f.file.Size {
		comes := make(chan piece, 1)
		cursor, offset, size := f.piece.cursor, f.asked, int(min(int64(f.stride), f.file.Size-f.asked))
		f.getting.Go(func() { comes <- f.get(cursor, offset, size) })
		f.coming = append(f.coming, comes)
		f.asked += int64(size)
	}
}

// next waits for a piece, or ends the file.
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

// Close cancels the requests that are on the way and waits for them.
func (f *remoteFile) Close() error {
	f.stop()
	f.getting.Wait()
	return nil
}

// fileAnswer decodes an answer to file.get.
func fileAnswer(name string, msg *nats.Msg) (FileAnswer, error) {
	size, sizeErr := strconv.ParseInt(msg.Header.Get(names.FileSizeHeader), 10, 64)
	offset, offsetErr := strconv.ParseInt(msg.Header.Get(names.OffsetHeader), 10, 64)
	if sizeErr != nil || offsetErr != nil || offset < 0 || offset > size-int64(len(msg.Data)) {
		return FileAnswer{}, &Failed{Message: fmt.Sprintf("read file %s: the answer says that it has %d bytes from %.40q of %.40q on",
			name, len(msg.Data), msg.Header.Get(names.OffsetHeader), msg.Header.Get(names.FileSizeHeader))}
	}
	file := File{Name: name, Size: size, Digest: msg.Header.Get(names.FileDigestHeader), ContentType: msg.Header.Get(names.ContentTypeHeader)}
	return FileAnswer{
		File: file, Offset: offset, Body: msg.Data, Cursor: msg.Header.Get(names.CursorHeader), InOrder: msg.Header.Get(names.InOrderHeader) != "",
	}, nil
}
