package dispatcher

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestWritesAboutOnePairFollowEachOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turns, one, other := newPairTurns(), pair{"a", "hash"}, pair{"b", "hash"}
		first, second := make(chan struct{}), make(chan struct{})
		var all sync.WaitGroup
		var order []string
		pass := func(ctx context.Context, p pair, name string, wait <-chan struct{}) {
			all.Go(func() {
				err := turns.pass(ctx, p, func() error {
					<-wait
					order = append(order, name)
					return nil
				})
				if err != nil {
					order = append(order, name+": "+err.Error())
				}
			})
			synctest.Wait()
		}
		pass(t.Context(), one, "first", first)
		pass(t.Context(), one, "second", second)
		close(second)
		synctest.Wait()
		same(t, "while the first writes", len(order), 0)
		pass(t.Context(), other, "of another pair", second)
		same(t, "another pair", order, []string{"of another pair"})
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		pass(impatient, one, "impatient", second)
		<-impatient.Done()
		synctest.Wait()
		close(first)
		all.Wait()
		same(t, "in the end", order, []string{"of another pair", "impatient: context deadline exceeded", "first", "second"})
		same(t, "kept", len(turns.last), 0)
		err := turns.pass(t.Context(), one, func() error { return errStopped })
		same(t, "its error", errors.Is(err, errStopped), true)
	})
}
