package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// UnblockCause says why a block ended.
type UnblockCause string

const (
	Expired           UnblockCause = "expired"
	Cleared           UnblockCause = "cleared"
	CapabilityChanged UnblockCause = "capability_changed"
	Recovered         UnblockCause = "recovered"
	WorkflowFault     UnblockCause = "workflow_fault"
)

// UnblockCauses lists the closed set.
func UnblockCauses() []UnblockCause {
	return []UnblockCause{Expired, Cleared, CapabilityChanged, Recovered, WorkflowFault}
}

// PairOf splits the key of a block or of strikes, <host>.<hash>; false when it is none.
func PairOf(key string) (host string, hash workflow.Hash, ok bool) { return names.SplitPair(key) }

// BlockOf decodes a block.
func BlockOf(e Entry) (route.Block, error) {
	host, hash, err := validPair(e.Key)
	if err != nil {
		return route.Block{}, err
	}
	var b route.Block
	if err := json.Unmarshal(e.Value, &b); err != nil {
		return route.Block{}, fmt.Errorf("decode the block: %w", err)
	}
	if b.Host != "" && string(b.Host) != host || b.Hash != "" && b.Hash != hash {
		return route.Block{}, fmt.Errorf("the value names another pair than the key: host %.80q, hash %.80q", b.Host, b.Hash)
	}
	b.Host, b.Hash = route.HostID(host), hash
	err = checkBlock(&b)
	return b, err
}

// StrikesOf decodes the strikes of a pair.
func StrikesOf(e Entry) (s route.Strikes, err error) {
	if _, _, err := validPair(e.Key); err != nil {
		return s, err
	}
	if err := json.Unmarshal(e.Value, &s); err != nil {
		return s, fmt.Errorf("decode the strikes: %w", err)
	}
	return s, nil
}

func validPair(key string) (string, workflow.Hash, error) {
	host, hash, ok := names.SplitPair(key)
	if !ok || !job.ValidHost(host) || !hash.Valid() {
		return "", "", fmt.Errorf("the key %.160q does not have the form <host>.<hash>", key)
	}
	return host, hash, nil
}

// OpenBlock creates the block of a pair. NATS removes it after ttl, which is rounded up to whole seconds. Of several dispatchers that
// create it at the same time exactly one gets true.
func (q *Queue) OpenBlock(ctx context.Context, host string, hash workflow.Hash, value []byte, ttl time.Duration) (bool, error) {
	_, err := q.blocks.Create(ctx, names.PairKey(host, hash), value, natsjs.KeyTTL(wholeSeconds(ttl)))
	if conflict(err) {
		return false, nil
	}
	return err == nil, wrap(err, "block %s on host %s", hash.Short(), host)
}

// ReplaceBlock widens or lengthens a block that is in force at this revision; false when it has changed meanwhile.
func (q *Queue) ReplaceBlock(ctx context.Context, host string, hash workflow.Hash, value []byte, ttl time.Duration, revision uint64) (bool, error) {
	return q.replace(ctx, q.blocks, names.PairKey(host, hash), value, ttl, revision)
}

// replace writes a key with a TTL by compare-and-set; a KV update would drop the TTL.
func (q *Queue) replace(ctx context.Context, kv natsjs.KeyValue, key string, value []byte, ttl time.Duration, revision uint64) (bool, error) {
	_, err := q.js.Publish(ctx, q.rawSubject(kv, key), value,
		natsjs.WithExpectLastSequencePerSubject(revision), natsjs.WithMsgTTL(wholeSeconds(ttl)))
	if conflict(err) {
		return false, nil
	}
	return err == nil, wrap(err, "replace %s in %s", key, kv.Bucket())
}

// LiftBlock ends a block that is in force at this revision; false when it has changed meanwhile.
func (q *Queue) LiftBlock(ctx context.Context, host string, hash workflow.Hash, revision uint64, cause UnblockCause) (bool, error) {
	msg := &nats.Msg{Subject: q.rawSubject(q.blocks, names.PairKey(host, hash)), Header: nats.Header{
		names.KVOperationHeader: {names.PurgeOperation}, names.RollupHeader: {"sub"}, names.CauseHeader: {string(cause)},
	}}
	_, err := q.js.PublishMsg(ctx, msg, natsjs.WithExpectLastSequencePerSubject(revision), natsjs.WithMsgTTL(markerTTL))
	if conflict(err) {
		return false, nil
	}
	return err == nil, wrap(err, "unblock %s on host %s", hash.Short(), host)
}

// Block reads one block; the Phase is Gone when there is none, and the revision then is 0. A block that is Invalid can be replaced
// and lifted too.
func (q *Queue) Block(ctx context.Context, host string, hash workflow.Hash) (Change[route.Block], error) {
	return readOne(ctx, q.readBlocks, q.blocks, names.PairKey(host, hash), BlockOf)
}

// Blocks calls tell for every block in force.
func (q *Queue) Blocks(ctx context.Context, tell func(Change[route.Block])) error {
	return each(ctx, q.blocks, BlockOf, tell)
}

// Strikes reads the strikes of a pair; the Phase is Gone when there are none.
func (q *Queue) Strikes(ctx context.Context, host string, hash workflow.Hash) (Change[route.Strikes], error) {
	return readOne(ctx, q.readStrikes, q.strikes, names.PairKey(host, hash), StrikesOf)
}

// PutStrikes writes the strikes of a pair that are at this revision (0: there are none yet); false when they have changed
// meanwhile. NATS removes them after ttl.
func (q *Queue) PutStrikes(ctx context.Context, host string, hash workflow.Hash, value []byte, ttl time.Duration, revision uint64) (bool, error) {
	if revision != 0 {
		return q.replace(ctx, q.strikes, names.PairKey(host, hash), value, ttl, revision)
	}
	_, err := q.strikes.Create(ctx, names.PairKey(host, hash), value, natsjs.KeyTTL(wholeSeconds(ttl)))
	if conflict(err) {
		return false, nil
	}
	return err == nil, wrap(err, "strike %s on host %s", hash.Short(), host)
}

// ClearStrikes removes the strikes of a pair that are at this revision; false when they have changed meanwhile.
func (q *Queue) ClearStrikes(ctx context.Context, host string, hash workflow.Hash, revision uint64) (bool, error) {
	err := q.strikes.Purge(ctx, names.PairKey(host, hash), natsjs.LastRevision(revision), natsjs.PurgeTTL(markerTTL))
	if conflict(err) {
		return false, nil
	}
	return err == nil, wrap(err, "clear strikes of %s on host %s", hash.Short(), host)
}

// readOne reads a key from the bucket's leader, as reader does: a copy that is behind may give an old value, or none.
func readOne[V any](ctx context.Context, bucket natsjs.Stream, kv natsjs.KeyValue, key string, read func(Entry) (V, error)) (Change[V], error) {
	raw, err := bucket.GetLastMsgForSubject(ctx, kvSubject(kv, key))
	if errors.Is(err, natsjs.ErrMsgNotFound) {
		return Change[V]{Phase: Gone, Key: key}, nil
	}
	if err != nil {
		return Change[V]{}, fmt.Errorf("read %s of %s: %w", key, kv.Bucket(), err)
	}
	if raw.Header.Get(names.KVOperationHeader) != "" || raw.Header.Get(names.MarkerReasonHeader) != "" {
		return Change[V]{Phase: Gone, Key: key}, nil
	}
	c, _ := Decode(Entry{Phase: Put, Key: key, Value: raw.Data, Revision: raw.Sequence, Time: raw.Time}, read) // the phase says whether it is valid
	return c, nil
}

func kvSubject(kv natsjs.KeyValue, key string) string { return names.KeySubject(kv.Bucket(), key) }

// rawSubject is where a raw write to a key goes: behind a JetStream domain or prefix, through the API's subjects,
// as nats.go does it.
func (q *Queue) rawSubject(kv natsjs.KeyValue, key string) string {
	switch {
	case q.cfg.Domain != "":
		return "$JS." + q.cfg.Domain + ".API." + kvSubject(kv, key)
	case q.cfg.APIPrefix != "":
		return strings.TrimSuffix(q.cfg.APIPrefix, ".") + "." + kvSubject(kv, key)
	}
	return kvSubject(kv, key)
}

// wholeSeconds rounds up, since the server would round down.
func wholeSeconds(d time.Duration) time.Duration {
	return max((d + time.Second - 1).Truncate(time.Second), time.Second)
}
