package dispatcher

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// textMirror keeps a bucket of texts, of which "junk" is none.
func textMirror(log *logged) (*mirror[string], map[string]string, *[]string) {
	values, invalid := map[string]string{}, []string{}
	return &mirror[string]{
		reports: invalidValues{log: log.logger(), where: "texts"},
		read: func(c queue.Change) (string, string) {
			if string(c.Value) == "junk" {
				return "", "it is junk"
			}
			return string(c.Value), ""
		},
		put:     func(c queue.Change, v string, _ time.Time) { values[c.Key] = v },
		invalid: func(key string) { invalid = append(invalid, key) },
		gone:    func(c queue.Change, _ time.Time) { delete(values, c.Key) },
		keys:    func() []string { return slices.Collect(maps.Keys(values)) },
	}, values, &invalid
}

func TestWhatIsNotToldAgainAfterAResetIsGone(t *testing.T) {
	t.Parallel()
	m, values, _ := textMirror(&logged{})
	change := func(phase queue.Phase, key, value string) bool {
		return m.change(queue.Change{Phase: phase, Key: key, Value: []byte(value)}, noonUTC)
	}
	same(t, "synced by a reset", change(queue.Reset, "", ""), false)
	same(t, "synced by a put", change(queue.Put, "a", "1"), false)
	change(queue.Put, "b", "2")
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

func TestAnInvalidValueKeepsTheOldOneAndIsReportedOnceUntilItIsValidAgain(t *testing.T) {
	t.Parallel()
	log := &logged{}
	m, values, invalid := textMirror(log)
	put := func(value string) {
		m.change(queue.Change{Phase: queue.Put, Key: "a", Value: []byte(value)}, noonUTC)
	}
	put("1")
	put("junk")
	put("junk")
	same(t, "values", values, map[string]string{"a": "1"})
	same(t, "reports", log.lines(), 1)
	same(t, "calls", *invalid, []string{"a", "a"})
	put("2")
	put("junk")
	same(t, "reports after a valid one", log.lines(), 2)
	m.change(queue.Change{Phase: queue.Reset}, noonUTC)
	put("junk")
	m.change(queue.Change{Phase: queue.Synced}, noonUTC)
	same(t, "what stands there as junk is not gone", values, map[string]string{"a": "2"})
}

func TestReportsOfInvalidValuesForgetWhenThereAreTooMany(t *testing.T) {
	t.Parallel()
	log := &logged{}
	v := invalidValues{log: log.logger(), where: "x"}
	for n := range invalidMost + 1 {
		v.report(string(rune('a'+n%26))+time.Duration(n).String(), "why")
	}
	same(t, "remembered", len(v.reported), 1)
	(&invalidValues{}).report("a", "a zero value says nothing")
}
