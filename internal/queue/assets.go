package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
)

// Asset is a file under an id that a gateway has given it. Assets of equal content share a Blob.
type Asset struct {
	ID          string    `json:"id"`
	Blob        Blob      `json:"blob"`
	ContentType string    `json:"content_type"`
	FilePath    string    `json:"file_path,omitempty"` // how workflows name it; empty: by its id only
	Tags        []string  `json:"tags,omitempty"`
	Created     time.Time `json:"created"`
	Expires     time.Time `json:"expires"` // zero: when the blob is removed by its age
}

// Blob is stored content.
type Blob struct {
	Hash   string    `json:"hash"`   // BLAKE3 in 64 hex digits
	Store  string    `json:"store"`  // COMFY_INPUTS or COMFY_OUTPUTS
	Object string    `json:"object"` // its name there
	Size   int64     `json:"size"`
	Type   string    `json:"type,omitempty"` // its content type, as its first publisher gave it
	Stored time.Time `json:"stored"`
}

// An asset has a key for its id and one for its file path, which always leads to the newest asset of that path; a blob has one for
// its hash. All expire when files do.

// path is the file path, and a name that no file has when there is none.
func (a *Asset) path() string { return cmp.Or(a.FilePath, "blake3:"+a.Blob.Hash) }

func assetKey(tenant job.Tenant, kind, name string) string {
	if kind == assetByPath {
		name = names.FileKey(name)
	}
	return string(tenant) + "." + kind + "." + name
}

const (
	assetByID   = "id"
	assetByPath = "path"
	blobByHash  = "hash"
)

// PutAsset stores an asset, in place of an earlier one of its id, and gives its file path to it.
func (q *Queue) PutAsset(ctx context.Context, tenant job.Tenant, a *Asset) error {
	if err := putJSON(ctx, q.assets, assetKey(tenant, assetByID, a.ID), a); err != nil {
		return err
	}
	return putJSON(ctx, q.assets, assetKey(tenant, assetByPath, a.path()), a)
}

// Asset reads an asset by its id; nil when the tenant has none.
func (q *Queue) Asset(ctx context.Context, tenant job.Tenant, id string) (*Asset, error) {
	a, _, err := readAssets[Asset](ctx, q, assetKey(tenant, assetByID, id))
	return a, err
}

// AssetOfPath reads the newest asset of a file path, or of "blake3:" and a hash those without a path; nil when the tenant has none.
func (q *Queue) AssetOfPath(ctx context.Context, tenant job.Tenant, path string) (*Asset, error) {
	a, _, err := readAssets[Asset](ctx, q, assetKey(tenant, assetByPath, path))
	return a, err
}

// RemoveAsset removes an asset and leaves its blob; false when the tenant has none of this id. Of several calls at a time one
// removes it.
func (q *Queue) RemoveAsset(ctx context.Context, tenant job.Tenant, id string) (removed bool, err error) {
	key := assetKey(tenant, assetByID, id)
	a, revision, err := readAssets[Asset](ctx, q, key)
	if err != nil || a == nil {
		return false, err
	}
	err = q.assets.Delete(ctx, key, natsjs.LastRevision(revision))
	if conflict(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("remove asset %s of tenant %s: %w", id, tenant, err)
	}
	key = assetKey(tenant, assetByPath, a.path())
	if named, revision, err := readAssets[Asset](ctx, q, key); err == nil && named != nil && named.ID == id {
		err = q.assets.Delete(ctx, key, natsjs.LastRevision(revision))
		if !conflict(err) { // another asset has the path now
			return true, wrap(err, "remove the path of asset %s of tenant %s", id, tenant)
		}
	}
	return true, nil
}

// PutBlob stores where content is, in place of where it was before.
func (q *Queue) PutBlob(ctx context.Context, tenant job.Tenant, b *Blob) error {
	return putJSON(ctx, q.assets, assetKey(tenant, blobByHash, b.Hash), b)
}

// Blob reads where the content with a hash is; nil when the tenant has none.
func (q *Queue) Blob(ctx context.Context, tenant job.Tenant, hash string) (*Blob, error) {
	b, _, err := readAssets[Blob](ctx, q, assetKey(tenant, blobByHash, hash))
	return b, err
}

// readAssets reads a value of COMFY_ASSETS from the leader; nil when there is none, or when another program has written one that
// is not valid.
func readAssets[V any](ctx context.Context, q *Queue, key string) (*V, uint64, error) {
	raw, err := q.readAssets.GetLastMsgForSubject(ctx, kvSubject(q.assets, key))
	switch {
	case errors.Is(err, natsjs.ErrMsgNotFound):
		return nil, 0, nil
	case err != nil:
		return nil, 0, fmt.Errorf("read key %s of bucket %s: %w", key, names.AssetsBucket, err)
	case raw.Header.Get(names.KVOperationHeader) != "" || len(raw.Data) == 0:
		return nil, 0, nil
	}
	v := new(V)
	if json.Unmarshal(raw.Data, v) != nil {
		v = nil
	}
	return v, raw.Sequence, nil
}
