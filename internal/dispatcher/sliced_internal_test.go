package dispatcher

import (
	"context"
	"iter"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// counting is work of some steps, which notes how many it has done, and whether it was given up.
func counting(steps int, done *int, ended *string) func(pause func() bool) {
	return func(pause func() bool) {
		for range steps {
			if *done++; !pause() {
				*ended = "given up"
				return
			}
		}
		*ended = "done"
	}
}

func TestBackgroundWorkIsDoneInSlices(t *testing.T) {
	t.Parallel()
	c, done, ended := background{}, 0, ""
	c.begin("count", counting(40, &done, &ended))
	same(t, "before", []any{done, c.left()}, []any{0, true})
	first := c.list[0]
	_, more := first.next()
	same(t, "after a step of a slice", []any{done, more, ended}, []any{32, true, ""})
	for c.left() {
		c.advance()
	}
	same(t, "in the end", []any{done, ended}, []any{40, "done"})
	c.advance()
}

func TestBackgroundWorkThatIsBegunAnewIsGivenUp(t *testing.T) {
	t.Parallel()
	c, done, again := background{}, 0, 0
	var first, second, other string
	c.begin("count", counting(1000, &done, &first))
	c.begin("other", counting(1, new(int), &other))
	_, _ = c.list[0].next()
	c.begin("count", counting(64, &again, &second))
	same(t, "the first one", first, "given up")
	for c.left() {
		c.advance()
	}
	same(t, "the others", []any{second, again, other}, []any{"done", 64, "done"})
	c.begin("count", counting(1000, &done, &first))
	_, _ = c.list[0].next()
	first = ""
	c.stop()
	same(t, "at the end of the loop", []any{first, c.left()}, []any{"given up", false})
}

func TestWorkThatWasGivenUpIsToldSoAtEachPause(t *testing.T) {
	t.Parallel()
	went := 0
	b := newSlicedWork(func(pause func() bool) {
		for range 200 {
			if pause() {
				went++
			}
		}
	})
	_, _ = b.next()
	b.stop()
	same(t, "pauses after which it was to go on", went, 31)
}

func TestASliceEndsAfterThreeTenthsOfAMillisecond(t *testing.T) {
	t.Parallel()
	for step, want := range map[time.Duration]int{5 * time.Microsecond: 64, 9374 * time.Nanosecond: 64, 9375 * time.Nanosecond: 32, time.Millisecond: 32} {
		synctest.Test(t, func(t *testing.T) {
			done := 0
			b := newSlicedWork(func(pause func() bool) {
				for goOn := true; goOn; goOn = pause() {
					passTime(step)
					done++
				}
			})
			same(t, "more to do", b.advance(), true)
			same(t, "steps of "+step.String(), done, want)
			b.stop()
		})
	}
}

func TestBackgroundWorksTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, first, second := background{}, 0, 0
		slow := func(done *int) func(pause func() bool) {
			return func(pause func() bool) {
				for range 64 {
					passTime(time.Millisecond)
					*done++
					pause()
				}
			}
		}
		c.begin("first", slow(&first))
		c.begin("second", slow(&second))
		var seen [][2]int
		for c.left() {
			c.advance()
			seen = append(seen, [2]int{first, second})
		}
		same(t, "steps after each turn", seen[:4], [][2]int{{32, 0}, {32, 32}, {64, 32}, {64, 64}})
	})
}

func TestACallIsAnsweredWhenAllSlicesAreDone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, done, over := newLoopScene(t, Config{}), 0, make(chan struct{})
		defer close(over)
		go func() {
			for {
				select {
				case happened := <-s.inbox:
					happened(noonUTC)
				case <-over:
					return
				}
			}
		}()
		err := s.d.answerInSlices(t.Context(), func(pause func() bool) {
			for range 100 {
				passTime(time.Millisecond)
				if done++; !pause() {
					return
				}
			}
		})
		same(t, "steps", []any{done, err == nil}, []any{100, true})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		same(t, "when the caller has gone", s.d.answerInSlices(ctx, func(func() bool) {}) != nil, true)
	})
}

// What is put while the keys that are gone are looked for is not gone.
func TestAKeyThatComesBackWhileOthersAreDroppedStands(t *testing.T) {
	t.Parallel()
	values := map[string]string{"a": "1", "b": "2"}
	var later func(pause func() bool)
	m := &mirror[string]{
		put:    func(c queue.Change[string], _ time.Time) { values[c.Key] = c.Value },
		gone:   func(key string, _ time.Time) { delete(values, key) },
		keys:   func(func() bool) iter.Seq[string] { return maps.Keys(values) },
		beside: func(work func(pause func() bool)) { later = work },
	}
	m.change(queue.Change[string]{Phase: queue.Put, Key: "a", Value: "1"}, noonUTC)
	m.change(queue.Change[string]{Phase: queue.Reset}, noonUTC)
	same(t, "synced", m.change(queue.Change[string]{Phase: queue.Synced}, noonUTC), true)
	same(t, "nothing is dropped yet", len(values), 2)
	m.change(queue.Change[string]{Phase: queue.Put, Key: "b", Value: "3"}, noonUTC)
	later(always)
	same(t, "afterwards", values, map[string]string{"b": "3"})
}
