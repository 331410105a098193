package dispatcher

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// mirrored is what stands in a bucket, as its watch tells it, for answers: no call has to read the bucket.
type mirrored[V any] struct {
	read func(queue.Change) (V, bool)

	mu      sync.Mutex // guards all below
	values  map[string]V
	anew    map[string]V  // told since Reset; takes the place of values with Synced
	changed chan struct{} // closed with the next change
}

func mirror[V any](read func(queue.Change) (V, bool)) *mirrored[V] {
	return &mirrored[V]{read: read, values: map[string]V{}, changed: make(chan struct{})}
}

// hear takes a change.
func (m *mirrored[V]) hear(c queue.Change) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch c.Phase {
	case queue.Reset:
		m.anew = map[string]V{}
	case queue.Put, queue.Gone:
		m.put(c)
	case queue.Synced:
		if m.anew != nil {
			m.values, m.anew = m.anew, nil
		}
	}
	close(m.changed)
	m.changed = make(chan struct{})
}

// put must be called with mu held.
func (m *mirrored[V]) put(c queue.Change) {
	v, ok := m.read(c)
	for _, values := range []map[string]V{m.values, m.anew} {
		switch {
		case values == nil:
		case ok:
			values[c.Key] = v
		default:
			delete(values, c.Key)
		}
	}
}

// some gives what is under one key, or without it under all that stand behind another, sorted, and the first so many.
func (m *mirrored[V]) some(key, after string, most int) ([]string, map[string]V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []string
	if _, found := m.values[key]; found {
		keys = []string{key}
	}
	if key == "" {
		keys = slices.DeleteFunc(slices.Collect(maps.Keys(m.values)), func(k string) bool { return k <= after })
		slices.Sort(keys)
		keys = keys[:min(len(keys), most)]
	}
	values := make(map[string]V, len(keys))
	for _, k := range keys {
		values[k] = m.values[k]
	}
	return keys, values
}

// awaitTime is how long a call waits until what it has written is heard again; then others may be asked in vain for it for
// a moment.
const awaitTime = 2 * time.Second

// await returns when a key has a value, or has none when there is none to have.
func (m *mirrored[V]) await(ctx context.Context, key string, want *V) {
	ctx, cancel := context.WithTimeout(ctx, awaitTime)
	defer cancel()
	for {
		m.mu.Lock()
		v, found := m.values[key]
		changed := m.changed
		m.mu.Unlock()
		if found == (want != nil) && (want == nil || reflect.DeepEqual(v, *want)) {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// pageOf lists what is mirrored as an answer has room for it, and where to go on.
func pageOf[K ~string, V any](p *page, m *mirrored[V], key, after K) (map[K]V, K, error) {
	keys, values := m.some(string(key), string(after), p.rows+1)
	rows, last := map[K]V{}, K("")
	for _, k := range keys {
		fits, err := p.take(map[string]V{k: values[k]})
		if err != nil {
			return nil, "", err
		}
		if !fits {
			return rows, last, nil
		}
		last = K(k)
		rows[last] = values[k]
	}
	return rows, "", nil
}
