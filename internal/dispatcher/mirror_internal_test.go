package dispatcher

import (
	"iter"
	"maps"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// textMirror keeps a bucket of texts.
func textMirror() (*mirror[string], map[string]string) {
	values := map[string]string{}
	return &mirror[string]{
		put:  func(c queue.Change[string], _ time.Time) { values[c.Key] = c.Value },
		gone: func(key string, _ time.Time) { delete(values, key) },
		keys: func(func() bool) iter.Seq[string] { return maps.Keys(values) },
	}, values
}

func TestWhatIsNotToldAgainAfterAResetIsGone(t *testing.T) {
	t.Parallel()
	m, values := textMirror()
	change := func(phase queue.Phase, key, value string) bool {
		return m.change(queue.Change[string]{Phase: phase, Key: key, Value: value}, noonUTC)
	}
	same(t, "synced by a reset", change(queue.Reset, "", ""), false)
	same(t, "synced by a put", change(queue.Put, "a", "1"), false)
	change(queue.Put, "b", "2")
	same(t, "keys noted although none was known before", len(m.seen), 0)
	same(t, "synced", change(queue.Synced, "", ""), true)
	change(queue.Put, "c", "3")
	same(t, "values", values, map[string]string{"a": "1", "b": "2", "c": "3"})
	change(queue.Reset, "", "")
	change(queue.Put, "b", "4")
	same(t, "meanwhile", values, map[string]string{"a": "1", "b": "4", "c": "3"})
	change(queue.Synced, "", "")
	same(t, "afterwards", values, map[string]string{"b": "4"})
	same(t, "keys kept for it", len(m.seen), 0)
	change(queue.Put, "d", "5")
	change(queue.Synced, "", "") // without a reset before it nothing is known to be gone
	change(queue.Gone, "b", "")
	same(t, "at the end", values, map[string]string{"d": "5"})
}

func TestAKeyWithAnInvalidValueIsGone(t *testing.T) {
	t.Parallel()
	m, values := textMirror()
	m.change(queue.Change[string]{Phase: queue.Put, Key: "a", Value: "1"}, noonUTC)
	m.change(queue.Change[string]{Phase: queue.Invalid, Key: "a"}, noonUTC)
	same(t, "values", values, map[string]string{})
}

func TestAnInvalidValueThatMattersStandsThroughAReset(t *testing.T) {
	t.Parallel()
	m, values := textMirror()
	m.invalid = func(key string, at time.Time) { values[key] = "invalid at " + at.Format(time.TimeOnly) }
	for _, phase := range []queue.Phase{queue.Invalid, queue.Reset, queue.Invalid, queue.Synced} {
		m.change(queue.Change[string]{Phase: phase, Key: "a"}, noonUTC)
	}
	same(t, "values", values, map[string]string{"a": "invalid at 12:00:00"})
}

func TestAnotherResetGivesUpWhatTheOneBeforeWouldDrop(t *testing.T) {
	t.Parallel()
	for name, steps := range map[string]int{"WhileKeysAreLookedAt": 1, "WhileKeysAreDropped": 4} {
		m, values := textMirror()
		var dropping func(pause func() bool)
		m.beside = func(work func(pause func() bool)) { dropping = work }
		change := func(phase queue.Phase, keys ...string) {
			for _, key := range keys {
				m.change(queue.Change[string]{Phase: phase, Key: key, Value: "1"}, noonUTC)
			}
		}
		change(queue.Put, "a", "b", "c", "d")
		change(queue.Reset, "")
		change(queue.Put, "a", "b")
		change(queue.Synced, "")
		done := 0
		dropping(func() bool {
			if done++; done == steps {
				change(queue.Reset, "")
			}
			return true
		})
		if done != steps || values["a"] == "" || values["b"] == "" {
			t.Errorf("%s: after %d steps there are %v", name, done, values)
		}
		change(queue.Put, "a")
		change(queue.Synced, "")
		dropping(always)
		same(t, name+": after the second", values, map[string]string{"a": "1"})
	}
}
