package queue

import (
	"encoding/json"
	"fmt"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
)

// Phase is the kind of a Change.
type Phase int

const (
	// Reset: changes may have been missed. The whole content of the bucket follows as Put and Invalid, then Synced.
	Reset Phase = iota
	// Put: a key has this value.
	Put
	// Invalid: a key has a value that is not valid, which must count as if there were none.
	Invalid
	// Gone: a key was deleted or purged, or has expired.
	Gone
	// Synced: the content is complete. Keys that were in no change since Reset are gone.
	Synced
)

// Change is one entry of a watch. Key is empty for Reset and Synced, and only Put has a Value.
type Change[V any] struct {
	Phase    Phase
	Key      string
	Value    V
	Revision uint64
	Time     time.Time // when NATS stored it
}

// Entry is a change with the value as it is stored.
type Entry = Change[[]byte]

// Decode reads the value of an entry. When read refuses it, the change is Invalid and the error says why.
func Decode[V any](e Entry, read func(Entry) (V, error)) (Change[V], error) {
	c := Change[V]{Phase: e.Phase, Key: e.Key, Revision: e.Revision, Time: e.Time}
	if e.Phase != Put {
		return c, nil
	}
	v, err := read(e)
	if err != nil {
		c.Phase = Invalid
		return c, err
	}
	c.Value = v
	return c, nil
}

// decodeChecked decodes a value from JSON and calls its check.
func decodeChecked[T any, P interface {
	*T
	check() error
}](value []byte) (T, error) {
	var v, none T
	if err := json.Unmarshal(value, &v); err != nil {
		return none, fmt.Errorf("decode the value: %w", err)
	}
	if err := P(&v).check(); err != nil {
		return none, err
	}
	return v, nil
}

func entryOf(stored natsjs.KeyValueEntry) Entry {
	if stored == nil {
		return Entry{Phase: Synced}
	}
	e := Entry{Phase: Put, Key: stored.Key(), Value: stored.Value(), Revision: stored.Revision(), Time: stored.Created()}
	if stored.Operation() != natsjs.KeyValuePut {
		e.Phase = Gone
	}
	return e
}
