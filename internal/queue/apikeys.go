package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/jetstream"
)

const (
	apiKeysAge  = 24 * time.Hour
	apiKeysSize = 8 << 10 // bytes of the keys of one job
	// apiKeysRoom is the most bytes of all jobs' keys in memory. When half of it is used, a tenant may have apiKeysMost of them.
	apiKeysRoom = 32 << 20
	apiKeysMost = 1000
)

// ErrTooManyAPIKeys: a tenant has given as many keys as it may.
var ErrTooManyAPIKeys = fmt.Errorf("the keys of %d jobs are kept already: wait until some of them have ended", apiKeysMost)

// apiKeys is the bucket of keys. It is in memory, so that no key is written to a disk, and a restart of NATS loses them.
func (t topology) apiKeys() wanted {
	w := t.bucket(names.APIKeysBucket, "keys that jobs give to ComfyUI")
	w.Storage, w.MaxAge, w.MaxBytes, w.MaxMsgSize = natsjs.MemoryStorage, apiKeysAge, apiKeysRoom, apiKeysSize+names.Headroom
	return w
}

func apiKeysKey(tenant job.Tenant, id job.ID) string { return string(tenant) + "." + string(id) }

// PutAPIKeys keeps the keys of a job, and says until when. ErrTooManyAPIKeys when the tenant has too many.
func (q *Queue) PutAPIKeys(ctx context.Context, tenant job.Tenant, keys *jetstream.APIKeys) (until time.Time, err error) {
	body, err := json.Marshal(apiKeysOf(keys))
	if err != nil {
		return time.Time{}, fmt.Errorf("encode the keys of job %s: %w", keys.Job, err)
	}
	if len(body) > apiKeysSize {
		return time.Time{}, &jetstream.BadRequest{Message: fmt.Sprintf("the keys have %d bytes, and at most %d are kept", len(body), apiKeysSize)}
	}
	if err := q.roomForAPIKeys(ctx, tenant); err != nil {
		return time.Time{}, err
	}
	_, err = q.apiKeys.Put(ctx, apiKeysKey(tenant, keys.Job), body)
	return q.Now().Add(apiKeysAge).UTC(), wrap(err, "keep the keys of job %s", keys.Job)
}

// apiKeysOf are the members of extra_data.
func apiKeysOf(keys *jetstream.APIKeys) map[string]string {
	members := map[string]string{}
	for name, value := range map[string]string{"api_key_comfy_org": keys.APIKey, "auth_token_comfy_org": keys.AuthToken} {
		if value != "" {
			members[name] = value
		}
	}
	return members
}

func (q *Queue) roomForAPIKeys(ctx context.Context, tenant job.Tenant) error {
	info, err := q.streamState(ctx, names.BucketStream(names.APIKeysBucket))
	if err != nil || info.State.Bytes < apiKeysRoom/2 {
		return wrap(err, "look up bucket %s", names.APIKeysBucket)
	}
	stream, err := q.js.Stream(ctx, names.BucketStream(names.APIKeysBucket))
	if err == nil {
		info, err = stream.Info(ctx, natsjs.WithSubjectFilter(names.KeySubject(names.APIKeysBucket, string(tenant)+".*")))
	}
	if err != nil {
		return fmt.Errorf("count the keys of tenant %s: %w", tenant, err)
	}
	if len(info.State.Subjects) >= apiKeysMost {
		return ErrTooManyAPIKeys
	}
	return nil
}

// APIKeys reads the keys of a job, as members of extra_data; nil when there are none, or none any more.
func (q *Queue) APIKeys(ctx context.Context, tenant job.Tenant, id job.ID) (json.RawMessage, error) {
	entry, err := q.apiKeys.Get(ctx, apiKeysKey(tenant, id))
	if errors.Is(err, natsjs.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the keys of job %s: %w", id, err)
	}
	return entry.Value(), nil
}

// DropAPIKeys removes the keys of a job that has ended. The marker that NATS stores in their place takes room and counts as a job's keys,
// so that it expires long before apiKeysAge.
func (q *Queue) DropAPIKeys(ctx context.Context, tenant job.Tenant, id job.ID) error {
	return wrap(q.apiKeys.Purge(ctx, apiKeysKey(tenant, id), natsjs.PurgeTTL(markerTTL)), "remove the keys of job %s", id)
}
