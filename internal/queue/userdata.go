package queue

import (
	"bytes"
	"cmp"
	"compress/flate"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/jetstream"
)

// UserFile is a file that ComfyUI's page keeps for a tenant: its settings, workflows and the like.
type UserFile struct {
	Path     string // as the page names it, such as workflows/portrait.json
	Data     []byte // UserFiles leaves it out
	Size     int
	Modified time.Time
}

// largestUserFile is the most bytes of a UserFile, and of what it unpacks to.
const largestUserFile = 64 << 20

// userFileKey is <tenant>.<path in base64url>.
func userFileKey(tenant job.Tenant, path string) string {
	return string(tenant) + "." + names.FileKey(path)
}

// UserFile reads a tenant's file; ErrNoFile when there is none.
func (q *Queue) UserFile(ctx context.Context, tenant job.Tenant, path string) (UserFile, error) {
	entry, err := q.userData.Get(ctx, userFileKey(tenant, path))
	if errors.Is(err, natsjs.ErrKeyNotFound) {
		return UserFile{}, ErrNoFile
	}
	if err != nil {
		return UserFile{}, fmt.Errorf("read %s of tenant %s: %w", path, tenant, err)
	}
	data, err := unpacked(entry.Value())
	return UserFile{Path: path, Data: data, Size: len(data), Modified: entry.Created()}, wrap(err, "read %s of tenant %s", path, tenant)
}

// PutUserFile writes a tenant's file. When it exists already and may not be replaced the error is a jetstream.Conflict; when it does
// not fit into a message of NATS, compressed, or the tenant has too much, a jetstream.TooBig.
func (q *Queue) PutUserFile(ctx context.Context, tenant job.Tenant, path string, data []byte, replace bool) error {
	value, err := q.packedFile(data)
	if err != nil {
		return err
	}
	key := userFileKey(tenant, path)
	if err := q.roomForUserFile(ctx, tenant, key, len(value)); err != nil {
		return err
	}
	if replace {
		_, err = q.userData.Put(ctx, key, value)
	} else if _, err = q.userData.Create(ctx, key, value); conflict(err) {
		return &jetstream.Conflict{Message: "the file exists already"}
	}
	return wrap(err, "write %s of tenant %s", path, tenant)
}

// ChangeUserFile writes what change makes of a tenant's file; its data is nil when there is none, or none that can be read. When another
// program writes the file at the same time, change is called again.
func (q *Queue) ChangeUserFile(ctx context.Context, tenant job.Tenant, path string, change func(data []byte) []byte) error {
	key := userFileKey(tenant, path)
	return RetryConflict(ctx, fmt.Sprintf("change %s of tenant %s", path, tenant), func() (bool, error) {
		entry, err := q.userData.Get(ctx, key)
		missing := errors.Is(err, natsjs.ErrKeyNotFound)
		if err != nil && !missing {
			return false, fmt.Errorf("read %s of tenant %s: %w", path, tenant, err)
		}
		var data []byte
		if !missing {
			data, _ = unpacked(entry.Value()) // what another program has written may be anything
		}
		value, err := q.packedFile(change(data))
		if err == nil {
			err = q.roomForUserFile(ctx, tenant, key, len(value))
		}
		if err != nil {
			return false, err
		}
		if missing {
			_, err = q.userData.Create(ctx, key, value)
		} else {
			_, err = q.userData.Update(ctx, key, value, entry.Revision())
		}
		if conflict(err) {
			return false, nil
		}
		return err == nil, wrap(err, "write %s of tenant %s", path, tenant)
	})
}

// packedFile is the value of a file; a jetstream.TooBig when it is too large to be kept.
func (q *Queue) packedFile(data []byte) ([]byte, error) {
	value, err := packed(data)
	if err != nil {
		return nil, err
	}
	if most := int(q.nc.MaxPayload()) - names.Headroom; len(value) > most || len(data) > largestUserFile {
		return nil, &jetstream.TooBig{Message: fmt.Sprintf("the file has %d bytes, %d compressed, and at most %d of these are kept", len(data), len(value), most)}
	}
	return value, nil
}

// RemoveUserFile removes a tenant's file; ErrNoFile when there is none.
func (q *Queue) RemoveUserFile(ctx context.Context, tenant job.Tenant, path string) error {
	if _, err := q.UserFile(ctx, tenant, path); err != nil {
		return err
	}
	return wrap(q.userData.Delete(ctx, userFileKey(tenant, path)), "remove %s of tenant %s", path, tenant)
}

// roomForUserFile refuses a file when the tenant has as many files or bytes as it may, and also when half of the bucket, which all tenants
// share, is used and this one would have more than an eighth. A file that becomes smaller is never refused for its bytes. Two writers
// at the same time may both be let in.
func (q *Queue) roomForUserFile(ctx context.Context, tenant job.Tenant, key string, size int) error {
	info, err := q.streamState(ctx, names.BucketStream(names.UserDataBucket))
	if err != nil {
		return err
	}
	room := info.Config.MaxBytes
	mostFiles, mostBytes := cmp.Or(q.cfg.UserFiles, defaultUserFiles), q.mostUserBytes(room)
	crowded := room > 0 && int64(info.State.Bytes) >= room/2
	if info.State.Msgs < uint64(mostFiles) && int64(info.State.Bytes)+int64(size) <= mostBytes && !crowded { // all tenants together have fewer
		return nil
	}
	own, before, files := int64(size), -1, 0
	err = q.eachUserFile(ctx, tenant, func(entry natsjs.KeyValueEntry) {
		files++
		if entry.Key() == key {
			before = len(entry.Value())
		} else {
			own += int64(len(entry.Value()))
		}
	})
	switch {
	case err != nil:
		return err
	case before < 0 && files >= mostFiles:
		return fmt.Errorf("the tenant has %d files of user data, and may have %d: remove some: %w", files, mostFiles, jetstream.ErrNoSpace)
	case own > mostBytes && size > before:
		return fmt.Errorf("with this file the tenant's user data would have %d bytes, compressed, and may have %d: remove some files: %w", own, mostBytes, jetstream.ErrNoSpace)
	case crowded && own > room/8 && size > before:
		return &jetstream.TooBig{Message: fmt.Sprintf("with this file the tenant's files would have %d bytes, compressed, and at most %d are kept while room is short: remove some", own, room/8)}
	}
	return nil
}

// mostUserBytes is how many bytes a tenant's files may have together, compressed: a quarter of the bucket, unless it is configured.
func (q *Queue) mostUserBytes(bucket int64) int64 {
	switch {
	case q.cfg.UserBytes > 0:
		return q.cfg.UserBytes
	case bucket > 0:
		return bucket / 4
	}
	return defaultUserBytes
}

// UserFiles lists all files of a tenant by path, without their data: a file may unpack to a thousand times what is stored.
func (q *Queue) UserFiles(ctx context.Context, tenant job.Tenant) ([]UserFile, error) {
	var files []UserFile
	err := q.eachUserFile(ctx, tenant, func(entry natsjs.KeyValueEntry) {
		path, named := names.FileOfKey(strings.TrimPrefix(entry.Key(), string(tenant)+"."))
		size, err := io.Copy(io.Discard, unpacking(entry.Value()))
		if named && err == nil && size <= largestUserFile {
			files = append(files, UserFile{Path: path, Size: int(size), Modified: entry.Created()})
		}
	})
	slices.SortFunc(files, func(a, b UserFile) int { return strings.Compare(a.Path, b.Path) })
	return files, err
}

// eachUserFile calls take for every file of a tenant as it is stored.
func (q *Queue) eachUserFile(ctx context.Context, tenant job.Tenant, take func(natsjs.KeyValueEntry), options ...natsjs.WatchOpt) error {
	watcher, err := q.userData.WatchFiltered(ctx, []string{string(tenant) + ".*"}, append(options, natsjs.IgnoreDeletes())...)
	if err != nil {
		return fmt.Errorf("list the files of tenant %s: %w", tenant, err)
	}
	defer ended(watcher)
	for {
		select {
		case entry := <-watcher.Updates():
			if entry == nil {
				return ctx.Err()
			}
			take(entry)
		case <-ctx.Done():
			return fmt.Errorf("list the files of tenant %s: %w", tenant, ctx.Err())
		}
	}
}

// packed compresses a file, since the values of a bucket are small and workflows are texts that repeat themselves.
func packed(data []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.DefaultCompression)
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	return out.Bytes(), err
}

// unpacking reads the file, and one byte more than largestUserFile when it is larger.
func unpacking(value []byte) io.Reader {
	return io.LimitReader(flate.NewReader(bytes.NewReader(value)), largestUserFile+1)
}

func unpacked(value []byte) ([]byte, error) {
	data, err := io.ReadAll(unpacking(value))
	if len(data) > largestUserFile {
		return nil, errors.New("the file is larger than what is kept")
	}
	return data, err
}

// Hidden says what a tenant has removed from what it sees of its history: one job, or all whose last event is not newer than UpTo.
type Hidden struct {
	Tenant job.Tenant
	Job    job.ID // empty: UpTo counts
	UpTo   uint64 // a sequence in COMFY_EVENTS
}

// HideJob hides a job of a tenant.
func (q *Queue) HideJob(ctx context.Context, tenant job.Tenant, id job.ID) error {
	if !tenant.Valid() || !id.Valid() {
		return nil
	}
	return putJSON(ctx, q.hidden, string(tenant)+"."+string(id), true)
}

// HideUpTo hides all jobs of a tenant whose last event has at most this sequence.
func (q *Queue) HideUpTo(ctx context.Context, tenant job.Tenant, sequence uint64) error {
	return putJSON(ctx, q.hidden, string(tenant), sequence)
}

// WatchHidden calls tell for what tenants hide, first for what they have hidden, until ctx ends. tell is not called when that
// expires, which is when the events of the jobs expire.
func (q *Queue) WatchHidden(ctx context.Context, tell func(Hidden)) error {
	return q.watchEntries(ctx, q.hidden, allOf(q.hidden), func(e Entry) {
		if e.Phase != Put {
			return
		}
		tenant, id, one := strings.Cut(e.Key, ".")
		h := Hidden{Tenant: job.Tenant(tenant), Job: job.ID(id)}
		if !one {
			upTo, err := decodeChecked[sequence](e.Value)
			if err != nil {
				return
			}
			h.UpTo = uint64(upTo)
		}
		tell(h)
	})
}

// sequence is the value of a tenant's own key.
type sequence uint64

func (*sequence) check() error { return nil }
