package dispatcher

import (
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// mirror keeps up with a bucket through its watch. After a Reset the watch tells every key that stands, and then Synced:
// a key that was not told in between is gone, since a watcher that was cut off for a while may have missed its end.
//
// Where the values are kept is up to put and gone; the mirror itself keeps none.
type mirror[V any] struct {
	read    func(c queue.Change) (v V, why string) // the value of a Put; why says that it cannot be one
	put     func(c queue.Change, v V, now time.Time)
	invalid func(key string) // what follows from a value that cannot be one; nil: nothing
	gone    func(c queue.Change, now time.Time)
	keys    func() []string // all that put has taken in and gone has not

	reports invalidValues
	seen    map[string]bool // keys since Reset; nil when there was none since Synced
}

// change takes in a change, and reports whether with it all that stands is known.
func (m *mirror[V]) change(c queue.Change, now time.Time) (synced bool) {
	switch c.Phase {
	case queue.Reset:
		m.seen = map[string]bool{}
	case queue.Put:
		m.store(c, now)
	case queue.Gone:
		m.gone(c, now)
	case queue.Synced:
		m.dropUnseen(now)
		return true
	}
	return false
}

func (m *mirror[V]) store(c queue.Change, now time.Time) {
	if m.seen != nil {
		m.seen[c.Key] = true
	}
	v, why := m.read(c)
	if why != "" {
		m.reports.report(c.Key, why)
		if m.invalid != nil {
			m.invalid(c.Key)
		}
		return
	}
	m.reports.valid(c.Key)
	m.put(c, v, now)
}

func (m *mirror[V]) dropUnseen(now time.Time) {
	if m.seen == nil {
		return
	}
	for _, key := range m.keys() {
		if !m.seen[key] {
			m.gone(queue.Change{Phase: queue.Gone, Key: key, Time: now}, now)
		}
	}
	m.seen = nil
}

// orWhy makes a reader of one that only says whether it can read.
func orWhy[V any](read func(queue.Change) (V, bool), why string) func(queue.Change) (V, string) {
	return func(c queue.Change) (V, string) {
		v, ok := read(c)
		if !ok {
			return v, why
		}
		return v, ""
	}
}
