package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/names"
)

const rewatchPause = 250 * time.Millisecond

// watch calls tell for every change of a bucket until ctx ends, with the value as read decodes it. It warns once of a key whose
// value read refuses, and again only after the key has had a valid value.
func watch[V any](ctx context.Context, q *Queue, kv natsjs.KeyValue, read func(Entry) (V, error), tell func(Change[V])) error {
	return watchBy(ctx, q, kv, allOf(kv), read, tell)
}

// watchBy is watch with the watcher that open opens.
func watchBy[V any](ctx context.Context, q *Queue, kv natsjs.KeyValue, open watcherOf, read func(Entry) (V, error), tell func(Change[V])) error {
	invalid := map[string]bool{}
	return q.watchEntries(ctx, kv, open, func(e Entry) {
		c, err := Decode(e, read)
		switch {
		case err == nil:
			delete(invalid, c.Key)
		case !invalid[c.Key] && len(invalid) < mostInvalid:
			invalid[c.Key] = true
			q.warn(fmt.Errorf("the value of %.200q in bucket %s is not valid and is ignored: %w; delete the key, or upgrade the program that writes it", c.Key, kv.Bucket(), err))
		}
		tell(c)
	})
}

// mostInvalid is how many keys of a bucket with an invalid value are remembered.
const mostInvalid = 1024

// watchEntries calls tell for every change of a bucket until ctx ends. A watcher of nats.go gets nothing for seconds after NATS
// restarted, so at every reconnect another one is opened, which begins with Reset, or goes on where the one before ended. A watcher
// also gets nothing for seconds after another server of the cluster has gone, and nothing any more after the bucket was deleted. So
// three times in each presence TTL the bucket's state is read: when changes were missed another watcher is opened, and a missing
// bucket is made again.
func (q *Queue) watchEntries(ctx context.Context, kv natsjs.KeyValue, open watcherOf, tell func(Entry)) error {
	var past resumption
	for ctx.Err() == nil {
		if err := q.watchOnce(ctx, kv, open, &past, tell); err != nil && ctx.Err() == nil && !errors.Is(err, context.Canceled) {
			if !Pause(ctx, rewatchPause) {
				break
			}
		}
	}
	return ctx.Err()
}

// watcherOf opens a watcher of a bucket, of everything or of what is after a revision.
type watcherOf struct {
	open    func(ctx context.Context, after uint64) (natsjs.KeyWatcher, error)
	resumes bool // after may be another one than 0
}

func allOf(kv natsjs.KeyValue) watcherOf {
	return watcherOf{open: func(ctx context.Context, _ uint64) (natsjs.KeyWatcher, error) { return kv.WatchAll(ctx) }}
}

func (q *Queue) watchOnce(ctx context.Context, kv natsjs.KeyValue, of watcherOf, past *resumption, tell func(Entry)) error {
	bound, cancel := q.reconnects.bound(ctx)
	defer cancel()
	stream, err := q.bucketStream(bound, kv.Bucket())
	if err != nil {
		return err
	}
	first, after := stream.CachedInfo(), uint64(0)
	if of.resumes {
		after = past.after(bound, stream, kv)
	}
	seen, last := first.State.LastSeq, uint64(0) // the newest revision passed on, and the newest stored at the last look
	look := time.NewTicker(q.presenceTTL / 3)
	defer look.Stop()
	watcher, err := of.open(bound, after)
	if err != nil {
		return fmt.Errorf("watch bucket %s: %w", kv.Bucket(), err)
	}
	defer ended(watcher)
	if after == 0 {
		past.begin()
		tell(Entry{Phase: Reset})
	}
	told, toldBefore := 0, 0
	for {
		select {
		case <-bound.Done():
			return bound.Err()
		case entry, more := <-watcher.Updates():
			if !more {
				return fmt.Errorf("watch bucket %s: the watcher ended", kv.Bucket())
			}
			e := entryOf(entry)
			told, seen = told+1, max(seen, e.Revision)
			if past.took(e, first.Created); e.Phase != Synced || after == 0 { // what was there before was given already
				tell(e)
			}
		case <-look.C:
			now, err := q.bucket(bound, kv.Bucket())
			moving := told != toldBefore || len(watcher.Updates()) > 0
			toldBefore = told
			switch {
			case err != nil:
			case !now.Created.Equal(first.Created):
				return fmt.Errorf("watch bucket %s: it was deleted and made again", kv.Bucket())
			case seen < last && !moving: // during a long replay seen is behind as well, but it grows
				return fmt.Errorf("watch bucket %s: changes were missed", kv.Bucket())
			default:
				last = now.State.LastSeq
				past.look(seen >= last)
			}
		}
	}
}

// ended stops a watcher and reads its updates to the end, since otherwise the goroutine that sends them would block for ever. Stop
// fails when the connection is closed already.
func ended(watcher natsjs.KeyWatcher) {
	_ = watcher.Stop()
	for range watcher.Updates() {
	}
}

// bucket reads the state of a bucket, and makes it when it is missing.
func (q *Queue) bucket(ctx context.Context, bucket string) (*natsjs.StreamInfo, error) {
	stream, err := q.bucketStream(ctx, bucket)
	if err != nil {
		return nil, err
	}
	return stream.CachedInfo(), nil
}

// bucketStream looks up the stream of a bucket, and makes it when it is missing.
func (q *Queue) bucketStream(ctx context.Context, bucket string) (natsjs.Stream, error) {
	stream, err := q.js.Stream(ctx, names.BucketStream(bucket))
	if errors.Is(err, natsjs.ErrStreamNotFound) && !q.cfg.ReadOnly && !q.cfg.NoConsumers {
		cfg := q.cfg
		cfg.PresenceTTL = q.presenceTTL
		t := topology{js: q.js, cfg: cfg, room: q.room}
		for _, want := range t.buckets() {
			if want.Name != names.BucketStream(bucket) {
				continue
			}
			if _, err := t.keyValue(ctx, want); err != nil {
				return nil, err
			}
		}
		stream, err = q.js.Stream(ctx, names.BucketStream(bucket))
	}
	if err != nil {
		return nil, fmt.Errorf("look up bucket %s: %w", bucket, err)
	}
	return stream, nil
}

// Pause waits for d; false means that ctx ended first.
func Pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// WatchHosts calls tell for every heartbeat of every host, and when its presence has ended. Like all Watch methods it returns when ctx
// ends, and begins with Reset.
func (q *Queue) WatchHosts(ctx context.Context, tell func(Change[HostState])) error {
	return watch(ctx, q, q.hosts, HostStateOf, tell)
}

// WatchDispatchers calls tell for every heartbeat of every dispatcher, and when its presence has ended.
func (q *Queue) WatchDispatchers(ctx context.Context, tell func(Change[DispatcherState])) error {
	return watch(ctx, q, q.dispatchers, DispatcherStateOf, tell)
}

// WatchAffinity calls tell for every change of an affinity rule.
func (q *Queue) WatchAffinity(ctx context.Context, tell func(Change[Affinity])) error {
	return watch(ctx, q, q.affinity, AffinityOf, tell)
}

// WatchTenants calls tell for every change of a tenant's settings.
func (q *Queue) WatchTenants(ctx context.Context, tell func(Change[TenantSettings])) error {
	return watch(ctx, q, q.tenants, TenantOf, tell)
}

// WatchGrants calls tell for every change of a grant. A host whose grant is Invalid must get no jobs.
func (q *Queue) WatchGrants(ctx context.Context, tell func(Change[HostGrant])) error {
	return watch(ctx, q, q.grants, GrantOf, tell)
}

// WatchSlots calls tell for every change of a tenant's taken slots.
func (q *Queue) WatchSlots(ctx context.Context, tell func(Change[[]Slot])) error {
	return watch(ctx, q, q.slots, SlotsOf, tell)
}
