package queue

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"math"
	"strconv"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/jetstream"
)

// Upload is the state of a file that is stored piece by piece, each piece perhaps by another dispatcher. AppendBinary and
// UnmarshalBinary carry it between them, as the cursor of a call. NewUpload begins one.
type Upload struct {
	store, name, parts string

	offset  int64
	count   uint32
	largest uint32
	sum     hash.Hash
}

// NewUpload begins a file. parts names its parts in the store: up to three words of 1 to 128 of A-Z a-z 0-9 _ - with dots between
// them. It must be used for no other file, and others must not be able to guess it.
func NewUpload(store, name, parts string) (*Upload, error) {
	if !partNames.MatchString(parts) {
		return nil, fmt.Errorf("%.80q cannot name the parts of file %s: up to three words of 1 to 128 of A-Z a-z 0-9 _ - with dots between them", parts, name)
	}
	return &Upload{store: store, name: name, parts: parts, sum: sha256.New()}, nil
}

// Offset is how many bytes of the file are stored.
func (u *Upload) Offset() int64 { return u.offset }

// AppendBinary writes how far the upload is in a form for this package only.
func (u *Upload) AppendBinary(to []byte) ([]byte, error) {
	to = binary.AppendUvarint(to, uint64(u.offset))
	to = binary.AppendUvarint(to, uint64(u.count))
	to = binary.AppendUvarint(to, uint64(u.largest))
	return u.sum.(encoding.BinaryAppender).AppendBinary(to) //nolint:forcetypeassert // crypto/sha256 says that it is one
}

// UnmarshalBinary reads what AppendBinary wrote into an upload of the same file.
func (u *Upload) UnmarshalBinary(from []byte) error {
	r := numbers{from: from}
	offset, count, largest := r.next(), r.next(), r.next()
	sum := sha256.New()
	err := sum.(encoding.BinaryUnmarshaler).UnmarshalBinary(r.from) //nolint:forcetypeassert // as above
	if err != nil || r.broken || offset > math.MaxInt64 || count > math.MaxUint32 || largest > math.MaxUint32 {
		return errors.New("it was not made by Upload.AppendBinary")
	}
	u.offset, u.count, u.largest, u.sum = int64(offset), uint32(count), uint32(largest), sum
	return nil
}

// AddPart stores the next bytes of a file as one part. After an error that leaves open whether they were stored it may be repeated,
// by any process, with the state from before: a part that is stored already is not stored again. A Conflict says that other parts
// of the upload were stored meanwhile. Before a part is stored, room is called unless it is nil; its error is returned unchanged. An
// upload that is never finished is removed when it is older than FilesAge.
//
// The number of stored parts shows whether a part is the next one, and of two that are sent at the same time NATS drops the second
// by its message id. An expected last sequence would do both, but makes NATS load every part again, and keep it in memory for 10 s.
func (q *Queue) AddPart(ctx context.Context, u *Upload, body []byte, room func() error) error {
	if u.count == 0 {
		if err := q.ensureStore(ctx, u.store); err != nil {
			return fmt.Errorf("store file %s: %w", u.name, err)
		}
	}
	there, err := q.countParts(ctx, u)
	switch {
	case err != nil:
		return err
	case there == uint64(u.count)+1:
		err = q.storedBefore(ctx, u, body)
	case there == uint64(u.count):
		if room != nil {
			err = room()
		}
		if err == nil {
			err = q.storePart(ctx, u, body)
		}
	default:
		err = u.conflict(fmt.Sprintf("%d parts are stored instead of %d", there, u.count))
	}
	if err != nil {
		return err
	}
	u.offset += int64(len(body))
	u.count++
	u.largest = max(u.largest, uint32(len(body)))
	u.sum.Write(body)
	return nil
}

func (q *Queue) storePart(ctx context.Context, u *Upload, body []byte) error {
	sum := sha256.Sum256(body)
	msg := &nats.Msg{Subject: names.PartsSubject(u.store, u.parts), Data: body, Header: partHeader(names.FileKey(u.name), u.offset)}
	msg.Header.Set(names.MsgIDHeader, fmt.Sprintf("%s-%d-%x", u.parts, u.offset, sum[:8]))
	_, err := q.store(ctx, msg)
	if api, refused := errors.AsType[*natsjs.APIError](err); refused && api.ErrorCode == names.DuplicateInFlightCode {
		return fmt.Errorf("store file %s: this part is being stored at the moment: %w", u.name, ErrBusy)
	}
	if err != nil {
		return fmt.Errorf("store file %s: %w", u.name, q.explainStore(ctx, u.store, err))
	}
	return nil
}

func (u *Upload) conflict(why string) error {
	return &jetstream.Conflict{Message: fmt.Sprintf("store file %s: %s: begin again with another upload", u.name, why)}
}

// storedBefore checks that the part after those of the state has these bytes: it was stored, and the answer was lost.
func (q *Queue) storedBefore(ctx context.Context, u *Upload, body []byte) error {
	there, err := q.readFiles[u.store].GetLastMsgForSubject(ctx, names.PartsSubject(u.store, u.parts))
	switch {
	case err != nil:
		return fmt.Errorf("store file %s: look for a part of it: %w", u.name, err)
	case there.Header.Get(names.OffsetHeader) != strconv.FormatInt(u.offset, 10) || !bytes.Equal(there.Data, body):
		return u.conflict(fmt.Sprintf("other bytes were stored after byte %d of this upload", u.offset))
	}
	return nil
}

// FinishUpload stores the description that makes the parts a file, in place of an earlier file of the name. It may be repeated. A
// digest that does not match the parts is a BadRequest, and the parts are removed.
func (q *Queue) FinishUpload(ctx context.Context, u *Upload, contentType, digest string) (jetstream.File, error) {
	if u.count == 0 { // no AddPart has made sure yet that the store exists
		if err := q.ensureStore(ctx, u.store); err != nil {
			return jetstream.File{}, fmt.Errorf("store file %s: %w", u.name, err)
		}
	}
	subject := names.PartsSubject(u.store, u.parts)
	info := natsjs.ObjectInfo{
		ObjectMeta: natsjs.ObjectMeta{
			Name: u.name, Headers: nats.Header{names.ContentTypeHeader: {contentType}}, Opts: &natsjs.ObjectMetaOptions{ChunkSize: max(1, u.largest)},
		},
		Bucket: u.store, NUID: u.parts, Size: uint64(u.offset), Chunks: u.count, Digest: natsjs.GetObjectDigestValue(u.sum),
	}
	if digest != info.Digest {
		q.removeParts(ctx, u.store, subject)
		return jetstream.File{}, &jetstream.BadRequest{Message: fmt.Sprintf("the %d bytes of the upload have the digest %s instead of %.80q: begin again with another upload", u.offset, info.Digest, digest)}
	}
	if there, err := q.countParts(ctx, u); err != nil {
		return jetstream.File{}, err
	} else if there != uint64(u.count) {
		return jetstream.File{}, u.conflict(fmt.Sprintf("%d parts are stored instead of %d", there, u.count))
	}
	before := q.storedParts(ctx, u.store, u.name)
	if err := q.describe(ctx, &info); err != nil {
		return jetstream.File{}, fmt.Errorf("store file %s: %w", u.name, q.explainStore(ctx, u.store, err))
	}
	if before != "" && before != subject {
		q.removeParts(ctx, u.store, before)
	}
	return fileOf(&info), nil
}

// countParts says how many parts are stored.
func (q *Queue) countParts(ctx context.Context, u *Upload) (uint64, error) {
	subject := names.PartsSubject(u.store, u.parts)
	answer, err := q.storeInfo(ctx, u.store, subject, 0)
	if err != nil {
		return 0, fmt.Errorf("store file %s: count its parts: %w", u.name, q.explainStore(ctx, u.store, err))
	}
	return answer.State.Subjects[subject], nil
}

// DropUpload removes the parts of an upload that was given up.
func (q *Queue) DropUpload(ctx context.Context, u *Upload) {
	q.removeParts(ctx, u.store, names.PartsSubject(u.store, u.parts))
}
