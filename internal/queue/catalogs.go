package queue

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/jetstream"
)

// Catalog is what a host says of itself: which of ComfyUI's routes are stored in COMFY_CATALOG, and under which digests. Hosts that are
// installed alike share files.
type Catalog struct {
	Host    string            `json:"host"`
	Version string            `json:"version,omitempty"` // ComfyUI's
	Blobs   map[string]string `json:"blobs"`             // route without the first slash, such as object_info or models/vae: SHA-256 in hexadecimal
	Time    time.Time         `json:"time"`              // when ComfyUI was asked
}

const (
	mostBlobs = 1000
	// largestBlob is the most bytes of a file of a catalogue.
	largestBlob = 64 << 20
)

func (c *Catalog) check() error {
	if !job.ValidHost(c.Host) || len(c.Blobs) > mostBlobs {
		return fmt.Errorf("the catalogue of host %.80q names %d files", c.Host, len(c.Blobs))
	}
	for route, digest := range c.Blobs {
		if sum, err := hex.DecodeString(digest); err != nil || len(sum) != sha256.Size {
			return fmt.Errorf("the digest of %.80q is no SHA-256 in hexadecimal: %.80q", route, digest)
		}
	}
	return nil
}

// PutCatalog stores which files describe a host, after the files themselves were stored.
func (q *Queue) PutCatalog(ctx context.Context, host string, c Catalog) error {
	return putJSON(ctx, q.catalogs, host, &c)
}

// Catalog reads which files describe a host; false when none do.
func (q *Queue) Catalog(ctx context.Context, host string) (Catalog, bool, error) {
	entry, err := q.catalogs.Get(ctx, host)
	if errors.Is(err, natsjs.ErrKeyNotFound) {
		return Catalog{}, false, nil
	}
	if err != nil {
		return Catalog{}, false, fmt.Errorf("read the catalogue of host %s: %w", host, err)
	}
	c, err := CatalogOf(entryOf(entry))
	return c, err == nil, err
}

// CatalogOf decodes which files describe a host.
func CatalogOf(e Entry) (Catalog, error) {
	c, err := decodeChecked[Catalog](e.Value)
	if err == nil && c.Host != e.Key {
		err = fmt.Errorf("the value names another host than the key: %.80q", c.Host)
	}
	return c, err
}

// WatchCatalogs calls tell for every change of a catalogue until ctx ends, first for those that are there. tell is not called when
// a catalogue expires: the agent of a host that is online renews it before.
func (q *Queue) WatchCatalogs(ctx context.Context, tell func(Change[Catalog])) error {
	return watch(ctx, q, q.catalogs, CatalogOf, tell)
}

// CatalogDigest is the name of a file of a catalogue.
func CatalogDigest(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// StoreCatalogBlob stores a file of a catalogue and gives the digest by which it is found. A file that is stored already is stored
// again only after a seventh of the time for which it is kept.
func (q *Queue) StoreCatalogBlob(ctx context.Context, body []byte) (digest string, err error) {
	digest = CatalogDigest(body)
	if len(body) > largestBlob {
		return "", fmt.Errorf("store a file of a catalogue: it has %d bytes, and at most %d are stored", len(body), largestBlob)
	}
	if q.CatalogBlobKept(ctx, digest, len(body)) {
		return digest, nil
	}
	_, err = q.storeFile(ctx, names.CatalogStore, digest, "application/json", bytes.NewReader(body))
	return digest, err
}

// CatalogBlobKept reports whether a file of a catalogue is stored and need not be stored again yet.
func (q *Queue) CatalogBlobKept(ctx context.Context, digest string, size int) bool {
	sum, err := hex.DecodeString(digest)
	if err != nil {
		return false
	}
	f, err := q.described(ctx, names.CatalogStore, digest)
	return err == nil && f.size() == int64(size) && f.info.Digest == "SHA-256="+base64.URLEncoding.EncodeToString(sum) && q.CatalogFresh(f.info.ModTime)
}

// CatalogFresh reports whether a part of a catalogue that was stored at this time need not be stored again yet.
func (q *Queue) CatalogFresh(stored time.Time) bool { return q.Now().Sub(stored) < catalogAge/7 }

// CatalogBlob reads a file of a catalogue. ErrNoFile when there is none, jetstream.ErrDamaged when its bytes have another digest.
func (q *Queue) CatalogBlob(ctx context.Context, digest string) ([]byte, error) {
	body, f, err := q.openFile(ctx, names.CatalogStore, digest, 0)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	if f.Size > largestBlob {
		return nil, fmt.Errorf("read file %s of a catalogue: it has %d bytes: %w", digest, f.Size, jetstream.ErrDamaged)
	}
	read := make([]byte, f.Size)
	if _, err := io.ReadFull(body, read); err != nil {
		return nil, fmt.Errorf("read file %s of a catalogue: %w", digest, err)
	}
	if CatalogDigest(read) != digest {
		return nil, fmt.Errorf("read file %s of a catalogue: %w", digest, jetstream.ErrDamaged)
	}
	return read, nil
}
