package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/jetstream"
)

// A file in an object store is a description and parts: messages of one subject, in order, with those of other files between them.
// The parts that this package stores have headers with their offset and their file's name, so the part that holds a byte is found
// by a search over sequences. Parts that other programs store have none; they are read from the first one on.

// partNames matches the tokens that name a file's parts: one, or three for a tenant's upload. Wildcards do not match: with them a
// description could name the parts of every file.
var partNames = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}(\.[A-Za-z0-9_-]{1,128}){0,2}$`)

// storedFile is a file as it was described when it was looked up.
type storedFile struct {
	q     *Queue
	store string
	key   string // its name in the form of subjects
	parts string // the subject of its parts
	info  *natsjs.ObjectInfo
}

// place says that the first of the file's parts at or after a sequence begins at an offset of the file.
type place struct {
	sequence uint64
	offset   int64
}

// start is the beginning of every file.
var start = place{sequence: 1}

// part is one of a file's parts.
type part struct {
	sequence uint64
	offset   int64
	placed   bool // its headers have the offset
	body     []byte
}

func (p *part) end() int64 { return p.offset + int64(len(p.body)) }

func (p *part) has(offset int64) bool { return p.offset <= offset && offset < p.end() }

func (p *part) after() place { return place{sequence: p.sequence + 1, offset: p.end()} }

// described looks a file up.
func (q *Queue) described(ctx context.Context, store, name string) (*storedFile, error) {
	info, err := q.objects[store].GetInfo(ctx, name)
	return q.file(store, name, info, err)
}

// describedNow looks a file up at the stream's leader, since a copy may not have it yet. It needs JetStream's API.
func (q *Queue) describedNow(ctx context.Context, store, name string) (*storedFile, error) {
	raw, err := q.readFiles[store].GetLastMsgForSubject(ctx, names.MetaSubject(store, name))
	if errors.Is(err, natsjs.ErrMsgNotFound) {
		err = natsjs.ErrObjectNotFound
	}
	if err != nil {
		return q.file(store, name, nil, err)
	}
	var info natsjs.ObjectInfo
	if err := json.Unmarshal(raw.Data, &info); err != nil {
		return nil, fmt.Errorf("read the description of file %s: %w: %w", name, jetstream.ErrDamaged, err)
	}
	return q.file(store, name, &info, nil)
}

func (q *Queue) file(store, name string, info *natsjs.ObjectInfo, err error) (*storedFile, error) {
	switch {
	case errors.Is(err, natsjs.ErrObjectNotFound), err == nil && info.Deleted:
		return nil, fmt.Errorf("open file %s: %w", name, ErrNoFile)
	case err != nil:
		return nil, fmt.Errorf("open file %s: %w", name, err)
	case info.Opts != nil && info.Opts.Link != nil:
		return nil, fmt.Errorf("open file %s: it is a link to another file; name that one: %w", name, ErrNoFile)
	case info.Name != name || info.Size > math.MaxInt64 || !partNames.MatchString(info.NUID):
		return nil, fmt.Errorf("open file %s: its description in the store is not valid: store the file again: %w", name, jetstream.ErrDamaged)
	}
	return &storedFile{q: q, store: store, key: names.FileKey(name), parts: names.PartsSubject(store, info.NUID), info: info}, nil
}

func (f *storedFile) size() int64 { return int64(f.info.Size) }

// largest is the most bytes of a part, according to the description.
func (f *storedFile) largest() int64 {
	if f.info.Opts != nil && f.info.Opts.ChunkSize > 0 {
		return int64(f.info.Opts.ChunkSize)
	}
	return partSize
}

// at decodes a part. It refuses a part of another file, which a wrong description may name.
func (f *storedFile) at(msg *nats.Msg) (part, error) {
	p := part{sequence: sequenceOf(msg), body: msg.Data}
	if of := msg.Header.Get(names.PartOfHeader); of != "" && of != f.key || msg.Header.Get(natsjs.SubjectHeader) != f.parts {
		return p, fmt.Errorf("read file %s: one of its parts belongs to another file: %w", f.info.Name, jetstream.ErrDamaged)
	}
	text := msg.Header.Get(names.OffsetHeader)
	if text == "" {
		return p, nil
	}
	offset, err := strconv.ParseInt(text, 10, 64)
	if err != nil || offset < 0 || offset > f.size()-int64(len(p.body)) {
		return p, fmt.Errorf("read file %s: a part has the impossible offset %.40q in a file of %d bytes: %w", f.info.Name, text, f.size(), jetstream.ErrDamaged)
	}
	p.offset, p.placed = offset, true
	return p, nil
}

// get asks for one part; false when the copy of the stream that answers has none.
func (f *storedFile) get(ctx context.Context, request any) (part, bool, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return part{}, false, fmt.Errorf("encode the request for a part: %w", err)
	}
	msg, err := f.q.calls.ask(ctx, &nats.Msg{Subject: f.q.apiSubject("DIRECT.GET." + names.StoreStream(f.store)), Data: body}, nextTimeout)
	if err != nil {
		return part{}, false, fmt.Errorf("read file %s: %w", f.info.Name, err)
	}
	switch status := msg.Header.Get("Status"); status {
	case "":
		p, err := f.at(msg)
		return p, err == nil, err
	case "404":
		return part{}, false, nil
	default:
		return part{}, false, fmt.Errorf("read file %s: NATS answers %s %s", f.info.Name, status, msg.Header.Get("Description"))
	}
}

// next is the file's first part at or after a sequence.
func (f *storedFile) next(ctx context.Context, sequence uint64) (part, bool, error) {
	return f.get(ctx, struct {
		Sequence uint64 `json:"seq"`
		Subject  string `json:"next_by_subj"`
	}{sequence, f.parts})
}

// last is the file's last part.
func (f *storedFile) last(ctx context.Context) (part, bool, error) {
	return f.get(ctx, struct {
		Subject string `json:"last_by_subj"`
	}{f.parts})
}

// ErrMissing: a part was not found. It comes with ErrDamaged and may be temporary, since a copy of the stream may be behind.
var ErrMissing = errors.New("a part is missing")

// missing is the error for a part that was not found: ErrReplaced when the file was replaced or removed meanwhile, else ErrMissing.
func (f *storedFile) missing(ctx context.Context, offset int64) error {
	now, err := f.q.described(ctx, f.store, f.info.Name)
	switch {
	case errors.Is(err, ErrNoFile), err == nil && now.info.NUID != f.info.NUID:
		return fmt.Errorf("read file %s: %w", f.info.Name, jetstream.ErrReplaced)
	case err != nil:
		return err
	}
	return fmt.Errorf("read file %s: %w: byte %d of %d: %w", f.info.Name, ErrMissing, offset, f.size(), jetstream.ErrDamaged)
}

// walk calls take for the parts from a place to the end of the file, in order and without gaps, until take returns errEnough. batch
// is how many one request asks for. It waits at most timeout for a part, since a copy of the stream may be behind, or NATS away.
func (f *storedFile) walk(ctx context.Context, from place, batch int, timeout time.Duration, take func(*part) error) error {
	sub, err := f.q.nc.SubscribeSync(f.q.nc.NewInbox())
	if err != nil {
		return fmt.Errorf("read file %s: %w", f.info.Name, err)
	}
	defer func() { _ = sub.Unsubscribe() }() // the connection may be closed already
	w := walking{file: f, at: from, take: take}
	for progress := time.Now(); w.at.offset < f.size(); {
		before := w.at
		_, err := f.q.gets(ctx, sub, names.StoreStream(f.store), batchGet{Sequence: w.at.sequence, Subject: f.parts, Batch: batch}, w.receive)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errEnough):
			return nil
		case err != nil:
			return fmt.Errorf("read file %s: %w", f.info.Name, err)
		case w.at != before:
			progress = time.Now()
			continue
		}
		if err := f.missing(ctx, w.at.offset); errors.Is(err, jetstream.ErrReplaced) || time.Since(progress) > timeout {
			return err
		}
		Pause(ctx, rewatchPause)
	}
	return nil
}

type walking struct {
	file *storedFile
	at   place
	take func(*part) error
}

// receive gives a part to take, unless it came before or lies after a gap.
func (w *walking) receive(msg *nats.Msg) error {
	if sequenceOf(msg) < w.at.sequence {
		return nil
	}
	p, err := w.file.at(msg)
	if err != nil {
		return err
	}
	if p.placed && p.offset != w.at.offset {
		return nil
	}
	p.offset = w.at.offset
	if p.end() > w.file.size() {
		return fmt.Errorf("read file %s: its parts have more than the %d bytes of its description: %w", w.file.info.Name, w.file.size(), jetstream.ErrDamaged)
	}
	w.at = p.after()
	return w.take(&p)
}
