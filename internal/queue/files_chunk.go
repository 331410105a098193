package queue

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/comfyherd/comfyherd/jetstream"
)

// FilePlace is a position in a stored file from which reading continues. The zero value is the beginning of any file; another value
// is valid for the file that it was made for, not for a later file of the same name.
type FilePlace struct {
	parts string // the name of the file's parts, by which the file is recognised
	at    place
}

// AppendBinary writes a place in a form for this package only.
func (p FilePlace) AppendBinary(to []byte) ([]byte, error) {
	to = binary.AppendUvarint(to, p.at.sequence)
	to = binary.AppendUvarint(to, uint64(p.at.offset))
	return append(to, p.parts...), nil
}

// UnmarshalBinary reads what AppendBinary wrote.
func (p *FilePlace) UnmarshalBinary(from []byte) error {
	r := numbers{from: from}
	p.at = place{sequence: r.next(), offset: int64(r.next())}
	p.parts = string(r.from)
	if r.broken || p.at.offset < 0 || !partNames.MatchString(p.parts) {
		return errors.New("it was not made by FilePlace.AppendBinary")
	}
	return nil
}

// numbers reads what binary.AppendUvarint wrote.
type numbers struct {
	from   []byte
	broken bool
}

func (r *numbers) next() uint64 {
	n, size := binary.Uvarint(r.from)
	if size <= 0 {
		r.broken = true
		return 0
	}
	r.from = r.from[size:]
	return n
}

// FileChunk is a piece of a stored file.
type FileChunk struct {
	jetstream.File
	Offset  int64 // where it begins
	Body    []byte
	Next    FilePlace // of the next chunk
	InOrder bool      // the parts have no offsets: ask for one chunk after another, each with the Next of the one before
}

// FileChunk reads at most most bytes of a file from an offset: it may give fewer, and gives none at the file's end. When the parts
// have no offsets, since another program has stored the file, it must be read from from on: a chunk far into the file has no bytes and a
// smaller Offset, and the same request with its Next as from continues there. ErrReplaced: from is a place in an earlier file.
func (q *Queue) FileChunk(ctx context.Context, store, name string, from FilePlace, offset int64, most int) (FileChunk, error) {
	f, err := q.describedNow(ctx, store, name)
	if err != nil {
		return FileChunk{}, err
	}
	if from.parts != "" && from.parts != f.info.NUID {
		return FileChunk{}, fmt.Errorf("read file %s: %w", name, jetstream.ErrReplaced)
	}
	if err := f.checkOffset(offset); err != nil {
		return FileChunk{}, err
	}
	at := start
	if from.parts != "" && from.at.offset <= offset {
		at = from.at
	}
	c := &FileChunk{File: fileOf(f.info), Offset: offset, Next: FilePlace{parts: f.info.NUID, at: at}}
	if offset == f.size() {
		return *c, nil
	}
	p, at, err := f.seek(ctx, at, offset)
	if errors.Is(err, errFar) {
		c.Offset, c.Next.at, c.InOrder = at.offset, at, true
		return *c, nil
	}
	if err != nil {
		return FileChunk{}, err
	}
	c.InOrder = !p.placed
	return *c, c.fill(ctx, f, &p, most)
}

// fill copies the bytes of the part that has the first of them, and of the parts after it.
func (c *FileChunk) fill(ctx context.Context, f *storedFile, p *part, most int) error {
	first := *p
	first.body = p.body[c.Offset-p.offset:]
	c.Body = make([]byte, 0, min(int64(most), f.size()-c.Offset))
	if c.add(&first, p) {
		return nil
	}
	left := int64(cap(c.Body) - len(c.Body))
	batch := min(fileBatch, int(left/f.largest())+1)
	return f.walk(ctx, p.after(), batch, nextTimeout, func(p *part) error {
		if c.add(p, p) {
			return errEnough
		}
		return nil
	})
}

// add copies as many bytes of a part as there is room for, and reports whether the chunk is full.
func (c *FileChunk) add(p, whole *part) (full bool) {
	n := min(len(p.body), cap(c.Body)-len(c.Body))
	c.Body = append(c.Body, p.body[:n]...)
	if n < len(p.body) {
		c.Next.at = place{whole.sequence, whole.offset}
		return true
	}
	c.Next.at = whole.after()
	return len(c.Body) == cap(c.Body)
}

// StatFile describes the file that is stored under a name; ErrNoFile when there is none.
func (q *Queue) StatFile(ctx context.Context, store, name string) (jetstream.File, error) {
	f, err := q.describedNow(ctx, store, name)
	if err != nil {
		return jetstream.File{}, err
	}
	return fileOf(f.info), nil
}
