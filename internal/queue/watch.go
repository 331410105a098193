package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/names"
)

// Phase is the kind of an entry of a watch.
type Phase int

const (
	// Reset: everything known so far may be stale; the bucket's whole content follows as Put, then Synced.
	Reset Phase = iota
	// Put: a key has this value.
	Put
	// Gone: a key is deleted, purged or expired.
	Gone
	// Synced: the whole content has followed; keys that were not Put since Reset are gone.
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

// watch calls tell with every change of a bucket until ctx ends. A watcher is blind for seconds after NATS restarted, so
// it is opened anew at every reconnect and starts over with Reset. It is blind as long when another server of the
// cluster has gone, and for ever when the bucket was deleted: three times each presence TTL the bucket is looked at,
// and opened anew when changes were missed, or made again when it is missing.
func (q *Queue) watch(ctx context.Context, kv natsjs.KeyValue, check func(Change) error, tell func(Change)) error {
	tell = q.sifted(kv.Bucket(), check, tell)
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
			case seen < last && !moving: // a long replay is behind what is written meanwhile, and moves
				return fmt.Errorf("watch bucket %s: changes were missed", kv.Bucket())
			default:
				last = now.State.LastSeq
			}
		}
	}
}

// ended stops a watcher and returns when nothing of it is left: its updates are taken until there are no more, or who sends
// them would wait for ever. The subscription may be gone with its connection.
func ended(watcher natsjs.KeyWatcher) {
	_ = watcher.Stop()
	for range watcher.Updates() {
	}
}

// bucket returns the state of a bucket's stream, and makes it when it is missing.
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

// mostOdd is how many odd values of a bucket are remembered at a time.
const mostOdd = 1024

// sifted replaces a value that check refuses by Gone, and warns once until the key has a valid value again, so that callers
// get valid values only.
func (q *Queue) sifted(bucket string, check func(Change) error, tell func(Change)) func(Change) {
	if check == nil {
		return tell
	}
	odd := map[string]bool{}
	return func(c Change) {
		if c.Phase != Put {
			tell(c)
			return
		}
		err := check(c)
		if err == nil {
			delete(odd, c.Key)
			tell(c)
			return
		}
		if !odd[c.Key] && len(odd) < mostOdd {
			odd[c.Key] = true
			q.warn(fmt.Errorf("the value of %.200q in bucket %s is left out: %w; delete the key, or upgrade what writes it", c.Key, bucket, err))
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

// WatchTickets calls tell with every change of the waiting room; TicketOf reads a key and value.
func (q *Queue) WatchTickets(ctx context.Context, tell func(Change)) error {
	return q.watch(ctx, q.waiting, ticketOf, tell)
}

// WatchBlocks calls tell with every change of the block table.
func (q *Queue) WatchBlocks(ctx context.Context, tell func(Change)) error {
	return q.watch(ctx, q.blocks, func(c Change) error { _, err := blockOf(c); return err }, tell)
}

// WatchStrikes calls tell with every change of the strikes.
func (q *Queue) WatchStrikes(ctx context.Context, tell func(Change)) error {
	return q.watch(ctx, q.strikes, nil, tell)
}

// WatchHosts calls tell with every heartbeat of every host, and when one has stopped.
func (q *Queue) WatchHosts(ctx context.Context, tell func(Change)) error {
	return q.watch(ctx, q.hosts, func(c Change) error { _, err := presenceOf(c); return err }, tell)
}

// WatchDispatchers calls tell with every heartbeat of every dispatcher.
func (q *Queue) WatchDispatchers(ctx context.Context, tell func(Change)) error {
	return q.watch(ctx, q.dispatchers, func(c Change) error { _, err := dispatcherOf(c); return err }, tell)
}

// WatchCapabilities calls tell with what each host can run.
func (q *Queue) WatchCapabilities(ctx context.Context, tell func(Change)) error {
	return q.watch(ctx, q.capabilities, nil, tell)
}

// WatchAffinity calls tell with the rules that tie a workflow to hosts.
func (q *Queue) WatchAffinity(ctx context.Context, tell func(Change)) error {
	return q.watch(ctx, q.affinity, func(c Change) error { _, err := ruleOf(c); return err }, tell)
}

// WatchTenants calls tell with weights and caps.
func (q *Queue) WatchTenants(ctx context.Context, tell func(Change)) error {
	return q.watch(ctx, q.tenants, func(c Change) error { _, err := settingsOf(c); return err }, tell)
}
