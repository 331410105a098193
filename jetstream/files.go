package jetstream

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// File is a stored file.
type File struct {
	Name        string
	Size        int64
	Digest      string // the object store's own: SHA-256= and base64url
	ContentType string
}

// ErrNoFile: there is no such object, or its time is over.
var ErrNoFile = errors.New("no such file")

// StoreOutput streams a job's file into COMFY_OUTPUTS under the name <tenant>/<job>/<node>/<file>.
func (q *Queue) StoreOutput(ctx context.Context, name, contentType string, body io.Reader) (File, error) {
	return q.storeFile(ctx, OutputsStore, name, contentType, body)
}

// StoreInput streams a file into COMFY_INPUTS, where an envelope's inputs can name it.
func (q *Queue) StoreInput(ctx context.Context, name, contentType string, body io.Reader) (File, error) {
	return q.storeFile(ctx, InputsStore, name, contentType, body)
}

func (q *Queue) storeFile(ctx context.Context, store, name, contentType string, body io.Reader) (File, error) {
	return q.put(ctx, store, natsjs.ObjectMeta{Name: name, Headers: nats.Header{contentTypeHeader: {contentType}}}, body)
}

func fileOf(info *natsjs.ObjectInfo) File {
	return File{Name: info.Name, Size: int64(info.Size), Digest: info.Digest, ContentType: info.Headers.Get(contentTypeHeader)}
}

// OpenOutput streams a file of COMFY_OUTPUTS. The caller closes it; a digest mismatch is an error of the last Read.
func (q *Queue) OpenOutput(ctx context.Context, name string) (io.ReadCloser, File, error) {
	return openFile(ctx, q.objects[OutputsStore], name)
}

// OpenInput streams a file of COMFY_INPUTS. The caller closes it.
func (q *Queue) OpenInput(ctx context.Context, name string) (io.ReadCloser, File, error) {
	return openFile(ctx, q.objects[InputsStore], name)
}

func openFile(ctx context.Context, store natsjs.ObjectStore, name string) (io.ReadCloser, File, error) {
	result, err := store.Get(ctx, name)
	if errors.Is(err, natsjs.ErrObjectNotFound) {
		return nil, File{}, fmt.Errorf("open file %s: %w", name, ErrNoFile)
	}
	if err != nil {
		return nil, File{}, fmt.Errorf("open file %s: %w", name, err)
	}
	info, err := result.Info()
	if err != nil {
		return nil, File{}, errors.Join(fmt.Errorf("open file %s: %w", name, err), result.Close())
	}
	return result, fileOf(info), nil
}
