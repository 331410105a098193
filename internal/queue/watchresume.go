package queue

import (
	"context"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/route"
)

// A watch that begins anew, for example after a restart of NATS, reads the whole bucket. With fifty dispatchers that would be
// gigabytes of tickets, blocks and strikes at the moment when NATS is back. So the watch of a bucket with very many keys goes on
// after the last change that it has given, when it is certain that it misses no removal of a key.
//
// It would miss a removal in two cases. The delete marker of a key may have expired, so the watch must not have been away for long.
// And a server may have lost its last writes in a power cut, so the last keys that were given are looked up: each must have the
// revision that was given, or a later one, which is given again. A purge of the bucket's stream by hand that is followed by writes
// is noticed by no watch, with or without a reconnect.

const (
	resumeMost = claimMarkerTTL / 2 // how long a watch may have been away; delete markers live for longer
	newestKept = 32
)

// resumption is how far a watch has given the content of a bucket. The zero value: nothing was given.
type resumption struct {
	made   time.Time  // when the bucket was created of which everything up to the last of newest was given; zero: there is none
	whole  time.Time  // when it was last certain that nothing was missed
	newest []givenKey // the last keys that were given, the newest last
}

// givenKey is a key whose value at this revision was given.
type givenKey struct {
	key      string
	revision uint64
	time     time.Time
}

func (r *resumption) begin() { *r = resumption{} }

// took records a change that a watch has given, of a bucket that was created at this time. With Synced everything was given.
func (r *resumption) took(e Entry, made time.Time) {
	if e.Phase == Synced {
		r.made, r.whole = made, time.Now()
	}
	if e.Key == "" {
		return
	}
	if len(r.newest) == 2*newestKept {
		r.newest = append(r.newest[:0], r.newest[newestKept:]...)
	}
	r.newest = append(r.newest, givenKey{e.Key, e.Revision, e.Time})
}

// look records the result of a check of the bucket: whether nothing is missed.
func (r *resumption) look(nothing bool) {
	if nothing {
		r.whole = time.Now()
	}
}

// after is the revision after which a watch of a bucket may go on; 0: it has to begin anew.
func (r *resumption) after(ctx context.Context, stream natsjs.Stream, kv natsjs.KeyValue) uint64 {
	if r.made.IsZero() || !r.made.Equal(stream.CachedInfo().Created) || len(r.newest) == 0 || !within(r.whole, time.Now(), resumeMost) {
		return 0
	}
	for n := len(r.newest) - 1; n >= max(0, len(r.newest)-newestKept); n-- {
		m := &r.newest[n]
		last, err := stream.GetLastMsgForSubject(ctx, kvSubject(kv, m.key))
		switch {
		case err != nil || last.Sequence < m.revision:
			return 0
		case last.Sequence == m.revision && last.Time.Equal(m.time):
			return m.revision
		case last.Sequence == m.revision:
			return 0
		}
	}
	return 0
}

// within reports whether no more than d lies between two times by either of the machine's clocks: one of them stops while the
// machine sleeps, and the other may be set.
func within(from, to time.Time, d time.Duration) bool {
	wall := to.Round(0).Sub(from.Round(0))
	return to.Sub(from) <= d && wall >= 0 && wall <= d
}

// resumed opens a watcher after a revision.
func resumed(kv natsjs.KeyValue) watcherOf {
	return watcherOf{resumes: true, open: func(ctx context.Context, after uint64) (natsjs.KeyWatcher, error) {
		if after == 0 {
			return kv.WatchAll(ctx)
		}
		return kv.WatchAll(ctx, natsjs.ResumeFromRevision(after+1))
	}}
}

// WatchTickets calls tell for every change of the waiting room. Like all Watch methods it returns when ctx ends, and begins with
// Reset.
func (q *Queue) WatchTickets(ctx context.Context, tell func(Change[Ticket])) error {
	return watchBy(ctx, q, q.waiting, resumed(q.waiting), TicketOf, tell)
}

// WatchBlocks calls tell for every change of a block.
func (q *Queue) WatchBlocks(ctx context.Context, tell func(Change[route.Block])) error {
	return watchBy(ctx, q, q.blocks, resumed(q.blocks), BlockOf, tell)
}

// WatchStrikes calls tell for every change of strikes.
func (q *Queue) WatchStrikes(ctx context.Context, tell func(Change[route.Strikes])) error {
	return watchBy(ctx, q, q.strikes, resumed(q.strikes), StrikesOf, tell)
}
