package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/names"
)

// Every stream has a maximum, and all maxima together are less than what JetStream may store. So a full stream takes no room from the
// others: events, tickets and heartbeats can always be stored, and jobs can end.

// AskNATS, as Config.Room, is three quarters of what NATS lets the account store; 12 GiB when the account has no limit.
const AskNATS = -1

const (
	// defaultRoom counts as the account's limit when it has none.
	defaultRoom = 16 << 30
	// leastStream and leastBucket are the smallest maxima that streams and buckets get while NATS has no room for more.
	leastStream = 16 << 20
	leastBucket = 1 << 20
	// roomProbe is a stream that exists only while freeSpace asks NATS how much room it has.
	roomProbe = "COMFY_ROOM"
)

// limits gives the bytes that all streams may hold together; 0 when their maxima are not to be changed.
func (t topology) limits(ctx context.Context) (int64, error) {
	switch {
	case !t.changes():
		return 0, nil
	case t.cfg.MaxDisk != 0:
		return t.cfg.MaxDisk, nil
	case t.cfg.Room != AskNATS:
		return t.cfg.Room, nil
	}
	info, err := answered(ctx, t.js.AccountInfo)
	if err != nil {
		return 0, fmt.Errorf("ask NATS for the limits of the account: %w", err)
	}
	most := info.Limits.MaxStore
	if t.cfg.Memory {
		most = info.Limits.MaxMemory
	}
	if most <= 0 {
		most = defaultRoom
	} else {
		most /= int64(cmp.Or(t.cfg.Replicas, 1))
	}
	return t.freeSpace(ctx, most/4*3)
}

// freeSpace is room, or less when NATS has not that much. NATS refuses a stream whose maximum it has no room for, so freeSpace creates an
// empty one, with a half, a quarter … of room until NATS accepts it, and deletes it. When the streams have their maxima already,
// nothing is asked. A probe that a crashed dispatcher has left is deleted first, since it would take room for ever.
func (t topology) freeSpace(ctx context.Context, room int64) (int64, error) {
	if err := t.js.DeleteStream(ctx, roomProbe); err != nil && !errors.Is(err, natsjs.ErrStreamNotFound) {
		return 0, wrap(err, "delete stream %s", roomProbe)
	}
	events, err := t.js.Stream(ctx, names.EventsStream)
	if err == nil && events.CachedInfo().Config.MaxBytes > 0 {
		return room, nil
	}
	ask := natsjs.StreamConfig{
		Name: roomProbe, Description: "comfyherd: exists for a moment, to find out how much room NATS has", Subjects: []string{"comfy.room"},
		Storage: t.storage(), MaxBytes: room, Replicas: cmp.Or(t.cfg.Replicas, 1),
	}
	made, err := store(ctx, t.js.CreateStream, ask, leastStream)
	switch {
	case tooMuch(err), errors.Is(err, natsjs.ErrStreamNameAlreadyInUse): // another dispatcher asks at this moment
		return room, nil
	case err != nil:
		return 0, wrap(err, "create stream %s", roomProbe)
	}
	if got := made.CachedInfo().Config.MaxBytes; got < room {
		room = got / 4 * 3
	}
	if err := t.js.DeleteStream(ctx, roomProbe); err != nil && !errors.Is(err, natsjs.ErrStreamNotFound) {
		return 0, wrap(err, "delete stream %s", roomProbe)
	}
	return room, nil
}

// bounded gives a stream its maximum: that of the Config (byHand), or its share of the room. With --max-disk the shares replace the
// maxima of existing streams too.
func (t topology) bounded(cfg natsjs.StreamConfig, byHand int64) wanted {
	w := wanted{StreamConfig: cfg, bytes: byHand != 0 || t.cfg.MaxDisk != 0}
	if w.MaxBytes = byHand; byHand == 0 && t.room > 0 {
		w.MaxBytes = max(share(cfg.Name, t.room), least(&cfg))
	}
	return w
}

// share is a stream's share of the room; all shares together are at most the whole.
func share(name string, room int64) int64 {
	const mib = 1 << 20
	switch percent := room / 100; name {
	case names.EventsStream, names.JobsStream:
		return 20 * percent
	case names.DeadStream:
		return 10 * percent
	case names.StoreStream(names.OutputsStore):
		return 26 * percent
	case names.StoreStream(names.InputsStore):
		return 15 * percent
	case names.BucketStream(names.WaitingBucket):
		return min(2*percent, 1024*mib)
	case names.BucketStream(names.CapabilitiesBucket):
		return min(percent, 512*mib)
	case names.StoreStream(names.CatalogStore):
		return min(percent, 1024*mib)
	}
	return min(room/500, 64*mib)
}

func least(cfg *natsjs.StreamConfig) int64 {
	if cfg.DenyDelete || cfg.Name == names.LiveStream { // a bucket, or the stream of progress, whose loss does no harm
		return leastBucket
	}
	return leastStream
}

// store makes or changes a stream. As long as NATS refuses the maximum since it has no room for it, store halves it, but not below
// least; then the error is returned.
func store(ctx context.Context, put func(context.Context, natsjs.StreamConfig) (natsjs.Stream, error), cfg natsjs.StreamConfig, least int64) (natsjs.Stream, error) {
	for {
		stream, err := put(ctx, cfg)
		if !tooMuch(err) || cfg.MaxBytes/2 < least {
			return stream, err
		}
		cfg.MaxBytes /= 2
	}
}

// change changes a stream. Its maximum is never smaller than its content; when NATS has no room for that, a stream without a maximum
// stays without one.
func (t topology) change(ctx context.Context, found *natsjs.StreamInfo, merged natsjs.StreamConfig) (natsjs.Stream, error) {
	have := found.Config
	stream, err := store(ctx, t.js.UpdateStream, merged, max(least(&merged), int64(found.State.Bytes)))
	if !tooMuch(err) || have.MaxBytes > 0 {
		return stream, err
	}
	merged.MaxBytes, merged.Discard = have.MaxBytes, have.Discard
	return t.js.UpdateStream(ctx, merged)
}
