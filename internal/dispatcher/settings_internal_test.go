package dispatcher

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
)

func TestACallWaitsUntilWhatItHasWrittenIsReportedAndNotForLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSettings[int]()
		put := func(key string, value int) { s.change(queue.Change[int]{Phase: queue.Put, Key: key, Value: value}) }
		took := func(ctx context.Context, key string, want *int) time.Duration {
			begun := time.Now()
			s.await(ctx, key, want)
			return time.Since(begun)
		}
		put("a", 1)
		same(t, "what is there", took(t.Context(), "a", new(1)), time.Duration(0))
		same(t, "what is not there", took(t.Context(), "b", nil), time.Duration(0))
		same(t, "another value", took(t.Context(), "a", new(2)), awaitTime)
		same(t, "its end", took(t.Context(), "a", nil), awaitTime)
		time.AfterFunc(time.Second, func() { put("b", 5); put("a", 2) })
		same(t, "a value that comes", took(t.Context(), "a", new(2)), time.Second)
		time.AfterFunc(time.Second, func() { s.change(queue.Change[int]{Phase: queue.Gone, Key: "a"}) })
		same(t, "an end that comes", took(t.Context(), "a", nil), time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		same(t, "who gives up", took(ctx, "a", new(2)), time.Millisecond)
	})
}

func TestSettingsAreListedBehindAKeyAndUpToANumber(t *testing.T) {
	t.Parallel()
	s := newSettings[int]()
	for n := range 5 {
		s.change(queue.Change[int]{Phase: queue.Put, Key: fmt.Sprint("k", n), Value: n})
	}
	for want, ask := range map[string]struct {
		key, after string
		most       int
	}{
		"[k0 k1] map[k0:0 k1:1]": {"", "", 2}, "[k3 k4] map[k3:3 k4:4]": {"", "k2", 9}, "[k2] map[k2:2]": {"k2", "k3", 9}, "[] map[]": {"none", "", 9},
	} {
		keys, values := s.some(ask.key, ask.after, ask.most)
		same(t, "some", fmt.Sprint(keys, values), want)
	}
}
