package queue

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/jetstream"
)

// ErrNoFile: there is no such file, or it was removed since it was older than FilesAge.
var ErrNoFile = errors.New("no such file")

// StoreOutput streams a job's file into COMFY_OUTPUTS under the name <tenant>/<job>/<node>/<file>.
func (q *Queue) StoreOutput(ctx context.Context, name, contentType string, body io.Reader) (jetstream.File, error) {
	return q.storeFile(ctx, names.OutputsStore, name, contentType, body)
}

// StoreInput streams a file into COMFY_INPUTS, where the "inputs" of a job can name it.
func (q *Queue) StoreInput(ctx context.Context, name, contentType string, body io.Reader) (jetstream.File, error) {
	return q.storeFile(ctx, names.InputsStore, name, contentType, body)
}

func (q *Queue) storeFile(ctx context.Context, store, name, contentType string, body io.Reader) (jetstream.File, error) {
	return q.put(ctx, store, natsjs.ObjectMeta{Name: name, Headers: nats.Header{names.ContentTypeHeader: {contentType}}}, body)
}

func fileOf(info *natsjs.ObjectInfo) jetstream.File {
	return jetstream.File{Name: info.Name, Size: int64(info.Size), Digest: info.Digest, ContentType: info.Headers.Get(names.ContentTypeHeader)}
}

// OpenOutput streams a file of COMFY_OUTPUTS. The caller closes it. ErrNoFile when there is none; the last Read fails with
// ErrDamaged when the bytes do not match the file's digest.
func (q *Queue) OpenOutput(ctx context.Context, name string) (io.ReadCloser, jetstream.File, error) {
	return q.openFile(ctx, names.OutputsStore, name, 0)
}

// OpenInput streams a file of COMFY_INPUTS, as OpenOutput does.
func (q *Queue) OpenInput(ctx context.Context, name string) (io.ReadCloser, jetstream.File, error) {
	return q.openFile(ctx, names.InputsStore, name, 0)
}

// OpenOutputAt streams a file of COMFY_OUTPUTS from an offset in bytes, 0 to its size. Only from offset 0 it is compared with the
// digest.
func (q *Queue) OpenOutputAt(ctx context.Context, name string, offset int64) (io.ReadCloser, jetstream.File, error) {
	return q.openFile(ctx, names.OutputsStore, name, offset)
}

// RemoveInput removes a file of COMFY_INPUTS. A crash, or a NATS that is away, leaves it there until it is older than FilesAge.
func (q *Queue) RemoveInput(ctx context.Context, name string) {
	q.removeFile(ctx, names.InputsStore, name)
}

// RemoveOutput removes a file of COMFY_OUTPUTS, as RemoveInput does.
func (q *Queue) RemoveOutput(ctx context.Context, name string) {
	q.removeFile(ctx, names.OutputsStore, name)
}

func (q *Queue) removeFile(ctx context.Context, store, name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	f, err := q.describedNow(ctx, store, name)
	if err != nil {
		return
	}
	q.purge(ctx, store, names.MetaSubject(store, name), 0)
	q.removeParts(ctx, store, f.parts)
}

func (q *Queue) openFile(ctx context.Context, store, name string, offset int64) (io.ReadCloser, jetstream.File, error) {
	f, err := q.described(ctx, store, name)
	if err != nil {
		return nil, jetstream.File{}, err
	}
	if err := f.checkOffset(offset); err != nil {
		return nil, jetstream.File{}, err
	}
	return f.read(ctx, offset), fileOf(f.info), nil
}

func (f *storedFile) checkOffset(offset int64) error {
	if offset < 0 || offset > f.size() {
		return &jetstream.BadRequest{Message: fmt.Sprintf("open file %s at byte %d: it has %d bytes", f.info.Name, offset, f.size())}
	}
	return nil
}
