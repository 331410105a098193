package queue

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
)

// requestKeyAge is how long a key of a request stays used.
const requestKeyAge = 24 * time.Hour

// requestKey is the key in the bucket: a client's own may have any characters.
func requestKey(tenant job.Tenant, key string) string {
	sum := sha256.Sum256([]byte(key))
	return string(tenant) + "." + hex.EncodeToString(sum[:])
}

// ClaimRequestKey stores for 24 h that a tenant's key is used; false when it is used already. Of several calls at a time one succeeds.
func (q *Queue) ClaimRequestKey(ctx context.Context, tenant job.Tenant, key, purpose string) (bool, error) {
	_, err := q.requestKeys.Create(ctx, requestKey(tenant, key), []byte(purpose))
	if errors.Is(err, natsjs.ErrKeyExists) || conflict(err) {
		return false, nil
	}
	return err == nil, wrap(err, "claim a request key of tenant %s", tenant)
}

// ReleaseRequestKey lets a key be used again.
func (q *Queue) ReleaseRequestKey(ctx context.Context, tenant job.Tenant, key string) error {
	return wrap(q.requestKeys.Delete(ctx, requestKey(tenant, key)), "release a request key of tenant %s", tenant)
}
