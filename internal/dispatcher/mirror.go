package dispatcher

import (
	"iter"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// mirror keeps up with a bucket through its watch. After a Reset the watch reports every key that is there, and then Synced:
// a key that was not reported in between is gone. A watcher that was cut off for a while may have missed its end.
//
// Where the values are kept is up to put and gone; the mirror itself keeps none.
type mirror[V any] struct {
	put     func(c queue.Change[V], now time.Time)
	gone    func(key string, now time.Time)
	invalid func(key string, now time.Time)          // what follows from a value that is not valid; nil: the key counts as gone
	keys    func(pause func() bool) iter.Seq[string] // all keys that put has taken in and gone has not, while they may change; a part when pause returns false
	beside  func(work func(pause func() bool))       // does what may take long; nil: it is done at once
	fresh   func(c *queue.Change[V]) bool            // false: something newer of the key was taken in by takeIn; nil: that is not used

	seen   map[string]bool // keys since Reset; nil when there was none since Synced, or no key was known then
	resets int             // how many there were
	filled bool            // a key has been taken in. Before, nothing can be gone unnoticed, and to note a million keys would take seconds
}

// change takes in a change, and reports whether with it all that is there is known.
func (m *mirror[V]) change(c queue.Change[V], now time.Time) (synced bool) {
	if m.fresh != nil && !m.fresh(&c) {
		m.see(c.Key)
		return false
	}
	return m.takeIn(c, now)
}

// takeIn is change for a change that did not come from the watch.
func (m *mirror[V]) takeIn(c queue.Change[V], now time.Time) (synced bool) {
	switch c.Phase {
	case queue.Reset:
		m.seen = nil
		if m.filled {
			m.seen = map[string]bool{}
		}
		m.resets++
	case queue.Put:
		m.see(c.Key)
		m.put(c, now)
	case queue.Invalid:
		m.see(c.Key)
		if m.invalid == nil {
			m.gone(c.Key, now)
		} else {
			m.invalid(c.Key, now)
		}
	case queue.Gone:
		m.gone(c.Key, now)
	case queue.Synced:
		m.dropUnseen(now)
		return true
	}
	return false
}

func (m *mirror[V]) see(key string) {
	m.filled = true
	if m.seen != nil {
		m.seen[key] = true
	}
}

// dropUnseen takes in that keys are gone. Until all are, what is put meanwhile counts as seen. Another Reset ends this, since from
// then on seen has the keys after that Reset.
func (m *mirror[V]) dropUnseen(now time.Time) {
	if m.seen == nil {
		return
	}
	reset := m.resets
	work := func(pause func() bool) {
		goOn := func() bool { return pause() && m.resets == reset }
		var gone []string
		for key := range m.keys(goOn) {
			if !m.seen[key] {
				gone = append(gone, key)
			}
			if !goOn() {
				return
			}
		}
		for _, key := range gone {
			if !goOn() {
				return
			}
			if !m.seen[key] {
				m.gone(key, now)
			}
		}
		m.seen = nil
	}
	if m.beside == nil {
		work(always)
		return
	}
	m.beside(work)
}

// listed gives keys one after the other, of which there are few.
func listed(keys func() []string) func(func() bool) iter.Seq[string] {
	return func(func() bool) iter.Seq[string] {
		return func(visit func(string) bool) { slices.Values(keys())(visit) }
	}
}
