package queue

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/jetstream"
)

const (
	partSize    = 128 << 10
	partTimeout = 30 * time.Second // for the ack of one part
	// partsInFlight is the most parts of all uploads of a Queue that are sent and not yet acked. NATS refuses parts that come faster
	// than it can write them, and each is kept in memory here.
	partsInFlight = 32
)

// ErrBusy: NATS receives more than it can write at this moment. Try again later.
var ErrBusy = errors.New("NATS cannot write as fast as it receives")

// upload is one file that is being stored in the form of NATS' object stores: parts in order on a subject of their own, then the
// description.
type upload struct {
	q       *Queue
	store   string
	key     string // its name in the form of subjects
	parts   string // the subject of its parts
	info    natsjs.ObjectInfo
	digest  hash.Hash
	waiting sync.WaitGroup // for acks

	failing chan struct{} // closed at the first failure
	fail    sync.Once
	err     error // read only after failing is closed
}

// put stores a file. Parts are sent in order, each once. After a failure no further part is sent and the stored ones are removed. A
// crash leaves parts without a description, which NATS removes by their age.
func (q *Queue) put(ctx context.Context, store string, meta natsjs.ObjectMeta, body io.Reader) (jetstream.File, error) {
	if meta.Name == "" {
		return jetstream.File{}, fmt.Errorf("store a file in %s: it has no name", store)
	}
	var before string
	var looking sync.WaitGroup
	looking.Go(func() { before = q.storedParts(ctx, store, meta.Name) })
	err := q.ensureStore(ctx, store)
	looking.Wait()
	if err != nil {
		return jetstream.File{}, fmt.Errorf("store file %s: %w", meta.Name, err)
	}
	id := rand.Text()
	u := upload{q: q, store: store, key: names.FileKey(meta.Name), parts: names.PartsSubject(store, id), digest: sha256.New(), failing: make(chan struct{})}
	meta.Opts = &natsjs.ObjectMetaOptions{ChunkSize: partSize}
	u.info = natsjs.ObjectInfo{Bucket: store, NUID: id, ObjectMeta: meta}
	err = u.send(ctx, body)
	u.waiting.Wait()
	if err == nil {
		err = u.failure()
	}
	if err == nil {
		err = u.finish(ctx)
	}
	if err != nil {
		q.removeParts(ctx, store, u.parts)
		return jetstream.File{}, fmt.Errorf("store file %s: %w", meta.Name, q.explainStore(ctx, store, err))
	}
	if before != "" {
		q.removeParts(ctx, store, before)
		q.purge(ctx, store, names.MetaSubject(store, meta.Name), 1)
	}
	return fileOf(&u.info), nil
}

// send reads the body and sends it in parts, of which at most partsInFlight are sent and not acked.
func (u *upload) send(ctx context.Context, body io.Reader) error {
	part := make([]byte, partLength(body, min(partSize, u.q.maxPayload())))
	for {
		n, err := io.ReadFull(body, part)
		if n > 0 {
			if err := u.sendPart(ctx, part[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return fmt.Errorf("read its content: %w", err)
		}
	}
}

// partLength is the length of parts: the most, or that of a whole small file.
func partLength(body io.Reader, most int) int {
	if sized, is := body.(interface{ Len() int }); is {
		return max(1, min(most, sized.Len()))
	}
	return most
}

func (u *upload) sendPart(ctx context.Context, part []byte) error {
	select {
	case u.q.parts <- struct{}{}:
	case <-u.failing:
		return u.err
	case <-ctx.Done():
		return ctx.Err()
	}
	msg := &nats.Msg{Subject: u.parts, Data: part, Header: partHeader(u.key, int64(u.info.Size))}
	number, answer, err := u.q.calls.send(msg, partTimeout)
	if err != nil {
		<-u.q.parts
		return fmt.Errorf("send a part: %w", err)
	}
	u.digest.Write(part)
	u.info.Size += uint64(len(part))
	u.info.Chunks++
	u.waiting.Go(func() {
		defer func() { <-u.q.parts }()
		answered, err := u.q.calls.await(ctx, number, answer)
		if err == nil {
			_, err = decodeAck(answered.Data)
		}
		if err != nil {
			u.fail.Do(func() {
				u.err = err
				close(u.failing)
			})
		}
	})
	return nil
}

func (u *upload) failure() error {
	select {
	case <-u.failing:
		return u.err
	default:
		return nil
	}
}

// finish stores the description that makes the parts a file.
func (u *upload) finish(ctx context.Context) error {
	u.info.Digest = natsjs.GetObjectDigestValue(u.digest)
	return u.q.describe(ctx, &u.info)
}

// describe stores the description of a file, in place of that of an earlier file of the name.
func (q *Queue) describe(ctx context.Context, info *natsjs.ObjectInfo) error {
	body, err := json.Marshal(info)
	if err != nil {
		return fmt.Errorf("encode the description: %w", err)
	}
	msg := &nats.Msg{Subject: names.MetaSubject(info.Bucket, info.Name), Data: body}
	if info.Bucket == names.InputsStore { // COMFY_OUTPUTS allows no roll-up: an earlier description of the name is removed by its age
		msg.Header = nats.Header{names.RollupHeader: {"sub"}}
	}
	_, err = q.store(ctx, msg)
	return err
}

// partHeader has the name of a part's file, in the form of subjects, and the part's offset in it.
func partHeader(key string, offset int64) nats.Header {
	return nats.Header{names.PartOfHeader: {key}, names.OffsetHeader: {strconv.FormatInt(offset, 10)}}
}

// storedParts is the subject of the parts of an earlier file of this name; empty when there are none to remove, also when the earlier
// description names the parts of another file.
func (q *Queue) storedParts(ctx context.Context, store, name string) string {
	if q.cfg.NoConsumers || q.cfg.NoRemovals { // a program in an account of its own may not remove messages
		return ""
	}
	f, err := q.described(ctx, store, name)
	if err != nil || f.info.Chunks == 0 {
		return ""
	}
	if _, found, err := f.last(ctx); err != nil || !found {
		return ""
	}
	return f.parts
}

// removeParts removes parts that no description names. Errors are ignored: NATS removes the parts by their age.
func (q *Queue) removeParts(ctx context.Context, store, subject string) {
	q.purge(ctx, store, subject, 0)
}

// purge removes all but the newest keep messages of a subject. A program in an account of its own, and a gateway with its own
// credentials, may not; there NATS removes the messages by their age.
func (q *Queue) purge(ctx context.Context, store, subject string, keep int) {
	if q.cfg.NoConsumers || q.cfg.NoRemovals {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	body := fmt.Appendf(nil, `{"filter":%q,"keep":%d}`, subject, keep)
	_, _ = q.nc.RequestWithContext(ctx, q.apiSubject("STREAM.PURGE."+names.StoreStream(store)), body)
}

// ensureStore makes an object store that is missing.
func (q *Queue) ensureStore(ctx context.Context, store string) error {
	_, err := q.streamState(ctx, names.StoreStream(store))
	if !errors.Is(err, natsjs.ErrStreamNotFound) {
		return q.explainStore(ctx, store, err)
	}
	_, err = topology{js: q.js, cfg: q.cfg, room: q.room}.objects(ctx, store)
	if err == nil && !q.cfg.ReadOnly {
		q.warn(fmt.Errorf("the object store %s was missing and was made again; files that were in it are lost", store))
	}
	return err
}

func storeAbout(store string) string {
	switch store {
	case names.InputsStore:
		return "files that jobs need"
	case names.CatalogStore:
		return "what hosts say of themselves, each file under its digest"
	}
	return "files that jobs made"
}

// explainStore adds the store's name to an error, and what to do about it.
func (q *Queue) explainStore(ctx context.Context, store string, err error) error {
	if err == nil {
		return nil
	}
	api, refused := errors.AsType[*natsjs.APIError](err)
	switch {
	case refused && api.Code == 429:
		return fmt.Errorf("object store %s: %w: try again later, or give NATS a faster disk: %w", store, ErrBusy, err)
	case refused && api.ErrorCode == names.StoreFailedCode:
		return fmt.Errorf("object store %s is full%s: %w: %w", store, q.storeLimit(ctx, store), jetstream.ErrNoSpace, err)
	case refused && names.NoRoom(uint16(api.ErrorCode)):
		return fmt.Errorf("object store %s: %w: %s: %w", store, jetstream.ErrNoSpace, makeRoom, err)
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, natsjs.ErrNoStreamResponse), errors.Is(err, natsjs.ErrStreamNotFound):
		return fmt.Errorf("object store %s is missing or has no leader: look with `nats stream info OBJ_%s`; "+
			"a running dispatcher makes a missing one again within seconds: %w", store, store, err)
	case errors.Is(err, nats.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("object store %s does not answer: check that NATS runs and that its disk is not overloaded: %w", store, err)
	}
	return fmt.Errorf("object store %s: %w", store, err)
}

func (q *Queue) storeLimit(ctx context.Context, store string) string {
	info, err := q.streamState(context.WithoutCancel(ctx), names.StoreStream(store))
	if err != nil || info.Config.MaxBytes <= 0 {
		return ": " + makeRoom
	}
	return fmt.Sprintf(", it may hold %d bytes: raise that with `nats stream edit OBJ_%s --max-bytes=BYTES`, or remove files", info.Config.MaxBytes, store)
}
