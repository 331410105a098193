package dispatcher

import (
	"context"
	"iter"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// settings are what operators have set, as the watch of its bucket reports it. Calls are answered from them, so that none
// has to read the bucket or wait for the loop.
type settings[V any] struct {
	mu      sync.Mutex // guards all below
	mirror  mirror[V]
	values  map[string]V
	changed chan struct{} // closed with the next change
}

func newSettings[V any]() *settings[V] {
	s := &settings[V]{values: map[string]V{}, changed: make(chan struct{})}
	s.mirror = mirror[V]{
		put:  func(c queue.Change[V], _ time.Time) { s.values[c.Key] = c.Value },
		gone: func(key string, _ time.Time) { delete(s.values, key) },
		keys: func(func() bool) iter.Seq[string] { return maps.Keys(s.values) },
	}
	return s
}

// change takes in a change of the bucket.
func (s *settings[V]) change(c queue.Change[V]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mirror.change(c, c.Time)
	close(s.changed)
	s.changed = make(chan struct{})
}

// some gives the value of one key, or, without a key, the values of the first so many keys after another, sorted.
func (s *settings[V]) some(key, after string, most int) ([]string, map[string]V) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []string
	if _, found := s.values[key]; found {
		keys = []string{key}
	}
	if key == "" {
		keys = slices.DeleteFunc(slices.Collect(maps.Keys(s.values)), func(k string) bool { return k <= after })
		slices.Sort(keys)
		keys = keys[:min(len(keys), most)]
	}
	values := make(map[string]V, len(keys))
	for _, k := range keys {
		values[k] = s.values[k]
	}
	return keys, values
}

// awaitTime is how long a call waits for the watch to report what the call has written. When it takes longer, the next
// question may still be answered with the old value.
const awaitTime = 2 * time.Second

// await returns when a key has a value, or with nil when it has none.
func (s *settings[V]) await(ctx context.Context, key string, want *V) {
	ctx, cancel := context.WithTimeout(ctx, awaitTime)
	defer cancel()
	for {
		s.mu.Lock()
		v, found := s.values[key]
		changed := s.changed
		s.mu.Unlock()
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

// pageOf lists settings as far as an answer has room for them, and gives the key after which to go on.
func pageOf[K ~string, V any](p *page, s *settings[V], key, after K) (map[K]V, K, error) {
	keys, values := s.some(string(key), string(after), p.rows+1)
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
