package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/names"
)

// Phase is the kind of a Change.
type Phase int

const (
	// Reset: changes may have been missed. The whole content of the bucket follows as Put, then Synced.
	Reset Phase = iota
	// Put: a key has this value.
	Put
	// Gone: a key was deleted or purged, or has expired.
	Gone
	// Synced: the content is complete. Keys without a Put since Reset are gone.
	Synced
)

// Change is one entry of a watch. Key and Value are empty for Reset and Synced.
type Change struct {
	Phase    Phase
	Key      string
	Value    []byte
	Revision uint64
	Time     time.Time // when NATS stored it
}

const rewatchPause = 250 * time.Millisecond

// watch calls tell for every change of a bucket until ctx ends. A watcher of nats.go gets nothing for seconds after NATS restarted, so
// at every reconnect another one is opened, which begins with Reset. It also gets nothing for seconds when another server of the
// cluster is gone, and never again when the bucket was deleted. So three times in each presence TTL the bucket's state is read: when
// changes were missed another watcher is opened, and a missing bucket is made again.
func (q *Queue) watch(ctx context.Context, kv natsjs.KeyValue, check func(Change) error, tell func(Change)) error {
	tell = q.validOnly(kv.Bucket(), check, tell)
	for ctx.Err() == nil {
		if err := q.watchOnce(ctx, kv, tell); err != nil && ctx.Err() == nil && !errors.Is(err, context.Canceled) {
			if !Pause(ctx, rewatchPause) {
				break
			}
		}
	}
	return ctx.Err()
}

func (q *Queue) watchOnce(ctx context.Context, kv natsjs.KeyValue, tell func(Change)) error {
	bound, cancel := q.reconnects.bound(ctx)
	defer cancel()
	first, err := q.bucket(bound, kv.Bucket())
	if err != nil {
		return err
	}
	seen, last := first.State.LastSeq, uint64(0) // the newest revision passed on, and the newest stored at the last look
	look := time.NewTicker(q.presenceTTL / 3)
	defer look.Stop()
	watcher, err := kv.WatchAll(bound)
	if err != nil {
		return fmt.Errorf("watch bucket %s: %w", kv.Bucket(), err)
	}
	defer ended(watcher)
	tell(Change{Phase: Reset})
	told, toldBefore := 0, 0
	for {
		select {
		case <-bound.Done():
			return bound.Err()
		case entry, open := <-watcher.Updates():
			if !open {
				return fmt.Errorf("watch bucket %s: the watcher ended", kv.Bucket())
			}
			c := change(entry)
			told, seen = told+1, max(seen, c.Revision)
			tell(c)
		case <-look.C:
			now, err := q.bucket(bound, kv.Bucket())
			moving := told != toldBefore || len(watcher.Updates()) > 0
			toldBefore = told
			switch {
			case err != nil:
			case !now.Created.Equal(first.Created):
				return fmt.Errorf("watch bucket %s: it was deleted and made again", kv.Bucket())
			case seen < last && !moving: // a long replay is behind too, but it moves
				return fmt.Errorf("watch bucket %s: changes were missed", kv.Bucket())
			default:
				last = now.State.LastSeq
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
	return stream.CachedInfo(), nil
}

// mostInvalid is how many keys of a bucket with an invalid value are remembered.
const mostInvalid = 1024

// validOnly wraps tell: a value that check refuses becomes a Gone, so that tell gets only valid values. It warns of such a key once,
// and again only after the key has had a valid value.
func (q *Queue) validOnly(bucket string, check func(Change) error, tell func(Change)) func(Change) {
	if check == nil {
		return tell
	}
	invalid := map[string]bool{}
	return func(c Change) {
		if c.Phase != Put {
			tell(c)
			return
		}
		err := check(c)
		if err == nil {
			delete(invalid, c.Key)
			tell(c)
			return
		}
		if !invalid[c.Key] && len(invalid) < mostInvalid {
			invalid[c.Key] = true
			q.warn(fmt.Errorf("the value of %.200q in bucket %s is not valid and is ignored: %w; delete the key, or upgrade the program that writes it", c.Key, bucket, err))
		}
		tell(Change{Phase: Gone, Key: c.Key, Revision: c.Revision, Time: c.Time})
	}
}

func change(entry natsjs.KeyValueEntry) Change {
	if entry == nil {
		return Change{Phase: Synced}
	}
	c := Change{Phase: Put, Key: entry.Key(), Value: entry.Value(), Revision: entry.Revision(), Time: entry.Created()}
	if entry.Operation() != natsjs.KeyValuePut {
		c.Phase = Gone
	}
	return c
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

// WatchTickets calls tell for every change of the waiting room; TicketOf decodes it. Like all Watch methods it returns when ctx ends,
// begins with Reset, and gives values that are not valid as Gone.
func (q *Queue) WatchTickets(ctx context.Context, tell func(Change)) error {
	return q.watch(ctx, q.waiting, checkTicket, tell)
}

// WatchBlocks calls tell for every change of a block; BlockOf decodes it.
func (q *Queue) WatchBlocks(ctx context.Context, tell func(Change)) error {
	return q.watch(ctx, q.blocks, func(c Change) error { _, err := blockOf(c); return err }, tell)
}

// WatchStrikes calls tell for every change of strikes. Their values are not checked.
func (q *Queue) WatchStrikes(ctx context.Context, tell func(Change)) error {
	return q.watch(ctx, q.strikes, nil, tell)
}

// WatchHosts calls tell for every heartbeat of every host, and when its presence has ended; HostStateOf decodes it.
func (q *Queue) WatchHosts(ctx context.Context, tell func(Change)) error {
	return q.watch(ctx, q.hosts, func(c Change) error { _, err := presenceOf(c); return err }, tell)
}

// WatchDispatchers calls tell for every heartbeat of every dispatcher, and when its presence has ended.
func (q *Queue) WatchDispatchers(ctx context.Context, tell func(Change)) error {
	return q.watch(ctx, q.dispatchers, func(c Change) error { _, err := dispatcherOf(c); return err }, tell)
}

// WatchCapabilities calls tell for every change of what a host can run. The values are not checked.
func (q *Queue) WatchCapabilities(ctx context.Context, tell func(Change)) error {
	return q.watch(ctx, q.capabilities, nil, tell)
}

// WatchAffinity calls tell for every change of an affinity rule; AffinityOf decodes it.
func (q *Queue) WatchAffinity(ctx context.Context, tell func(Change)) error {
	return q.watch(ctx, q.affinity, func(c Change) error { _, err := ruleOf(c); return err }, tell)
}

// WatchTenants calls tell for every change of a tenant's settings; TenantOf decodes it.
func (q *Queue) WatchTenants(ctx context.Context, tell func(Change)) error {
	return q.watch(ctx, q.tenants, func(c Change) error { _, err := settingsOf(c); return err }, tell)
}
