package jetstream

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/names"
)

// PutFile streams a file into COMFY_INPUTS, where jobs can name it in "inputs". The name is <tenant>/ and a path of your choice. A
// file of the same name is replaced when this one is complete. Calls without an answer are repeated until ctx ends, so outages of
// dispatchers and NATS only delay it. One piece of at most FileChunkSize bytes is in memory. An upload that is never completed is
// removed when it is older than FilesAge (24 h by default).
func (c *Client) PutFile(ctx context.Context, name, contentType string, body io.Reader) (File, error) {
	p := FilePut{Name: name, Upload: rand.Text(), Size: sizeOf(body), ContentType: contentType}
	sum, buffer := sha256.New(), make([]byte, ChunkSize(c.nc))
	for {
		n, err := io.ReadFull(body, buffer)
		switch p.Body = buffer[:n]; {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			p.Last = true
		case err != nil:
			return File{}, fmt.Errorf("put file %s: read it: %w", name, err)
		}
		sum.Write(p.Body)
		if p.Last {
			p.Digest = digestOf(sum)
		}
		a, err := c.putPiece(ctx, &p)
		if err != nil {
			return File{}, fmt.Errorf("put file %s: %w", name, err)
		}
		if p.Last {
			return *a.File, nil
		}
		p.Offset, p.Cursor = a.Offset, a.Cursor
	}
}

func (c *Client) putPiece(ctx context.Context, p *FilePut) (a FilePutAnswer, err error) {
	err = retried(ctx, p.Offset == 0, func(ctx context.Context) error {
		msg, err := c.exchange(ctx, "file.put", p.header(), p.Body)
		if err == nil {
			a, err = putAnswer(p, msg)
		}
		return err
	})
	return a, err
}

// header has the headers of a piece. The file's name is percent-encoded, since a header may not hold every byte.
func (p *FilePut) header() nats.Header {
	h := nats.Header{
		names.FileHeader: {url.PathEscape(p.Name)}, names.UploadHeader: {p.Upload}, names.OffsetHeader: {strconv.FormatInt(p.Offset, 10)},
	}
	if p.Size >= 0 {
		h.Set(names.FileSizeHeader, strconv.FormatInt(p.Size, 10))
	}
	if p.Cursor != "" {
		h.Set(names.CursorHeader, p.Cursor)
	}
	if p.Last {
		h.Set(names.LastHeader, "true")
		h.Set(names.FileDigestHeader, p.Digest)
		h.Set(names.ContentTypeHeader, p.ContentType)
	}
	return h
}

// putAnswer reads the answer to a call file.put.
func putAnswer(p *FilePut, msg *nats.Msg) (FilePutAnswer, error) {
	end := p.Offset + int64(len(p.Body))
	a := FilePutAnswer{Offset: end, Cursor: msg.Header.Get(names.CursorHeader)}
	if got := msg.Header.Get(names.OffsetHeader); got != fmt.Sprint(end) {
		return a, &Failed{Message: fmt.Sprintf("the answer says that %.40q bytes are stored instead of %d", got, end)}
	}
	if !p.Last {
		return a, nil
	}
	err := json.Unmarshal(msg.Data, &a.File)
	if err == nil && (a.File == nil || a.File.Digest != p.Digest) {
		err = fmt.Errorf("the stored file has another digest than %s: %.300s: %w", p.Digest, msg.Data, ErrDamaged)
	}
	if err != nil {
		return a, fmt.Errorf("read the answer: %w", err)
	}
	return a, nil
}

// sizeOf is how many bytes there are to read; less than 0 when the reader does not tell, or is behind the end of its file.
func sizeOf(body io.Reader) int64 {
	switch body := body.(type) {
	case *bytes.Buffer:
		return int64(body.Len())
	case *bytes.Reader:
		return int64(body.Len())
	case *strings.Reader:
		return int64(body.Len())
	case *os.File:
		about, err := body.Stat()
		at, seekErr := body.Seek(0, io.SeekCurrent)
		if err == nil && seekErr == nil && about.Mode().IsRegular() {
			return about.Size() - at
		}
	}
	return -1
}

const (
	fileTry      = 10 * time.Second       // for one answer, before the call is made again
	fileRetries  = 8                      // after answers that are a Failed
	fileWait     = 100 * time.Millisecond // before the first retry; it doubles
	mostFileWait = 5 * time.Second
)

// retried makes a call again until it succeeds, ctx ends, or a further try is of no use. That no dispatcher is running ends only
// the first call of a file (begins): later ones wait for a dispatcher.
func retried(ctx context.Context, begins bool, once func(context.Context) error) error {
	failures := 0
	for wait := fileWait; ; wait = min(2*wait, mostFileWait) {
		try, cancel := context.WithTimeout(ctx, fileTry)
		err := once(try)
		cancel()
		if _, failed := errors.AsType[*Failed](err); failed {
			failures++
		}
		switch {
		case err == nil, final(err), failures > fileRetries, begins && errors.Is(err, nats.ErrNoResponders):
			return err
		case !pause(ctx, wait):
			return fmt.Errorf("%w; the last answer was: %w", context.Cause(ctx), err)
		}
	}
}

// final reports whether the same call would give the same error again.
func final(err error) bool {
	if errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, ErrDamaged) {
		return true
	}
	switch Code(err) {
	case "400", "404", "409", "413":
		return true
	}
	return false
}
