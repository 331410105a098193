package jetstream

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"math"
	"strconv"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// Upload is a file that comes piece by piece, each piece perhaps to another process: all that is known of it stands here,
// and AppendBinary and UnmarshalBinary carry it from one to the next. Begin one with NewUpload.
type Upload struct {
	store, name, parts string

	last    uint64 // sequence of the part before
	offset  int64
	count   uint32
	largest uint32
	sum     hash.Hash
}

// NewUpload begins a file. parts names its parts in the store: 1 to 128 of A-Z a-z 0-9 _ -, for no other file ever, and
// nothing that others can guess.
func NewUpload(store, name, parts string) (*Upload, error) {
	if !partNames.MatchString(parts) {
		return nil, fmt.Errorf("%.80q cannot name the parts of file %s: 1 to 128 of A-Z a-z 0-9 _ -", parts, name)
	}
	return &Upload{store: store, name: name, parts: parts, sum: sha256.New()}, nil
}

// Offset is how many bytes there are.
func (u *Upload) Offset() int64 { return u.offset }

// AppendBinary writes how far the upload is in a form for this package only.
func (u *Upload) AppendBinary(to []byte) ([]byte, error) {
	to = binary.AppendUvarint(to, u.last)
	to = binary.AppendUvarint(to, uint64(u.offset))
	to = binary.AppendUvarint(to, uint64(u.count))
	to = binary.AppendUvarint(to, uint64(u.largest))
	return u.sum.(encoding.BinaryAppender).AppendBinary(to) //nolint:forcetypeassert // crypto/sha256 says that it is one
}

// UnmarshalBinary reads what AppendBinary wrote into an upload of the same file.
func (u *Upload) UnmarshalBinary(from []byte) error {
	r := numbers{from: from}
	last, offset, count, largest := r.next(), r.next(), r.next(), r.next()
	sum := sha256.New()
	err := sum.(encoding.BinaryUnmarshaler).UnmarshalBinary(r.from) //nolint:forcetypeassert // as above
	if err != nil || r.broken || offset > math.MaxInt64 || count > math.MaxUint32 || largest > math.MaxUint32 {
		return errors.New("it is no state of an upload")
	}
	u.last, u.offset, u.count, u.largest, u.sum = last, int64(offset), uint32(count), uint32(largest), sum
	return nil
}

// AddPart stores the next bytes of a file, as one part. After an error that leaves open whether they were stored it may be
// repeated, by any process, with the state from before: what is there already is not stored again. A Conflict says that
// the upload went on in another way meanwhile. What is never finished is removed by its age.
func (q *Queue) AddPart(ctx context.Context, u *Upload, body []byte) error {
	if u.count == 0 {
		if err := q.storeThere(ctx, u.store); err != nil {
			return fmt.Errorf("store file %s: %w", u.name, err)
		}
	}
	msg := &nats.Msg{Subject: partsSubject(u.store, u.parts), Data: body, Header: partHeader(fileKey(u.name), u.offset)}
	msg.Header.Set(natsjs.ExpectedLastSubjSeqHeader, strconv.FormatUint(u.last, 10))
	sequence, err := q.store(ctx, msg)
	switch api, _ := errors.AsType[*natsjs.APIError](err); {
	case err == nil:
	case api != nil && api.ErrorCode == wrongLastSequenceInFlight:
		return fmt.Errorf("store file %s: a part is still being stored: %w", u.name, ErrBusy)
	case conflict(err):
		if sequence, err = q.storedBefore(ctx, u, body); err != nil {
			return err
		}
	default:
		return fmt.Errorf("store file %s: %w", u.name, q.explainStore(ctx, u.store, err))
	}
	u.last = sequence
	u.offset += int64(len(body))
	u.count++
	u.largest = max(u.largest, uint32(len(body)))
	u.sum.Write(body)
	return nil
}

func (u *Upload) conflict(why string) error {
	return &Conflict{Message: fmt.Sprintf("store file %s: %s: begin again with another upload", u.name, why)}
}

// storedBefore finds a part that was stored although nobody was told.
func (q *Queue) storedBefore(ctx context.Context, u *Upload, body []byte) (uint64, error) {
	there, err := q.readFiles[u.store].GetLastMsgForSubject(ctx, partsSubject(u.store, u.parts))
	switch {
	case errors.Is(err, natsjs.ErrMsgNotFound):
		return 0, u.conflict("the parts before this one are gone")
	case err != nil:
		return 0, fmt.Errorf("store file %s: look for a part of it: %w", u.name, err)
	case there.Sequence <= u.last || there.Header.Get(offsetHeader) != strconv.FormatInt(u.offset, 10) || !bytes.Equal(there.Data, body):
		return 0, u.conflict(fmt.Sprintf("other bytes were stored behind byte %d of this upload", u.offset))
	}
	return there.Sequence, nil
}

// FinishUpload makes a file of the parts, in place of one that has had the name. It may be repeated. A digest that is not
// that of the parts is a BadRequest.
func (q *Queue) FinishUpload(ctx context.Context, u *Upload, contentType, digest string) (File, error) {
	if u.count == 0 { // nothing has asked for the store yet
		if err := q.storeThere(ctx, u.store); err != nil {
			return File{}, fmt.Errorf("store file %s: %w", u.name, err)
		}
	}
	subject := partsSubject(u.store, u.parts)
	info := natsjs.ObjectInfo{
		ObjectMeta: natsjs.ObjectMeta{
			Name: u.name, Headers: nats.Header{contentTypeHeader: {contentType}}, Opts: &natsjs.ObjectMetaOptions{ChunkSize: max(1, u.largest)},
		},
		Bucket: u.store, NUID: u.parts, Size: uint64(u.offset), Chunks: u.count, Digest: natsjs.GetObjectDigestValue(u.sum),
	}
	if digest != info.Digest {
		q.removeParts(ctx, u.store, subject)
		return File{}, &BadRequest{Message: fmt.Sprintf("the %d bytes that came have the digest %s, and not %.80q: begin again with another upload", u.offset, info.Digest, digest)}
	}
	if err := q.allThere(ctx, u, subject); err != nil {
		return File{}, err
	}
	before := q.storedParts(ctx, u.store, u.name)
	if err := q.describe(ctx, &info); err != nil {
		return File{}, fmt.Errorf("store file %s: %w", u.name, q.explainStore(ctx, u.store, err))
	}
	if before != "" && before != subject {
		q.removeParts(ctx, u.store, before)
	}
	return fileOf(&info), nil
}

// allThere looks whether the first parts are not too old to be there.
func (q *Queue) allThere(ctx context.Context, u *Upload, subject string) error {
	body := fmt.Appendf(nil, `{"subjects_filter":%q}`, subject)
	msg, err := q.calls.ask(ctx, &nats.Msg{Subject: q.apiSubject("STREAM.INFO.OBJ_" + u.store), Data: body}, storeTimeout)
	if err != nil {
		return fmt.Errorf("store file %s: count its parts: %w", u.name, q.explainStore(ctx, u.store, err))
	}
	var answer struct {
		Error *natsjs.APIError   `json:"error"`
		State natsjs.StreamState `json:"state"`
	}
	switch err := json.Unmarshal(msg.Data, &answer); {
	case err != nil:
		return fmt.Errorf("store file %s: count its parts: %w", u.name, err)
	case answer.Error != nil:
		return fmt.Errorf("store file %s: count its parts: %w", u.name, q.explainStore(ctx, u.store, answer.Error))
	}
	if found := answer.State.Subjects[subject]; found != uint64(u.count) {
		return u.conflict(fmt.Sprintf("%d of its %d parts are there", found, u.count))
	}
	return nil
}
