package queue_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// name is a key of two parts.
type name struct{ first, second string }

func TestWalksOfOneIdFollowEachOther(t *testing.T) {
	t.Parallel()
	var turns queue.Turns[name]
	acme, bolt := name{"acme", "a"}, name{"bolt", "a"}
	enter := func(key name) (before <-chan struct{}, leave func()) {
		mine := &queue.Turn{}
		turns.Enter(key, mine)
		return mine.Before, func() { turns.Leave(key, mine) }
	}
	first, endFirst := enter(acme)
	other, endOther := enter(bolt)
	if first != nil || other != nil {
		t.Error("the first walk of an id has to wait")
	}
	second, endSecond := enter(acme)
	third, endThird := enter(acme)
	over := func(before <-chan struct{}) bool {
		select {
		case <-before:
			return true
		default:
			return false
		}
	}
	if over(second) || over(third) {
		t.Error("a walk does not wait for the one before it")
	}
	endFirst()
	if !over(second) || over(third) {
		t.Error("when the first is over it is not the turn of the second alone")
	}
	endSecond()
	if !over(third) {
		t.Error("the third still waits")
	}
	endThird()
	endOther()
	if again, _ := enter(acme); again != nil || turns.Len() != 1 {
		t.Errorf("what is over is kept: %d ids have a walk", turns.Len()-1)
	}
}

func TestWritesAboutOnePairFollowEachOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var turns queue.Turns[name]
		one, other := name{"a", "hash"}, name{"b", "hash"}
		first, second := make(chan struct{}), make(chan struct{})
		var all sync.WaitGroup
		var order []string
		pass := func(ctx context.Context, key name, what string, wait <-chan struct{}) {
			all.Go(func() {
				err := turns.Pass(ctx, key, func() error {
					<-wait
					order = append(order, what)
					return nil
				})
				if err != nil {
					order = append(order, what+": "+err.Error())
				}
			})
			synctest.Wait()
		}
		pass(t.Context(), one, "first", first)
		pass(t.Context(), one, "second", second)
		close(second)
		synctest.Wait()
		if len(order) != 0 {
			t.Errorf("while the first writes: %q", order)
		}
		pass(t.Context(), other, "of another pair", second)
		if want := []string{"of another pair"}; !slices.Equal(order, want) {
			t.Errorf("another pair: %q, want %q", order, want)
		}
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		pass(impatient, one, "impatient", second)
		<-impatient.Done()
		synctest.Wait()
		close(first)
		all.Wait()
		if want := []string{"of another pair", "impatient: context deadline exceeded", "first", "second"}; !slices.Equal(order, want) {
			t.Errorf("in the end: %q, want %q", order, want)
		}
		if turns.Len() != 0 {
			t.Errorf("%d are kept", turns.Len())
		}
		stopped := errors.New("stopped")
		err := turns.Pass(t.Context(), one, func() error { return stopped })
		if !errors.Is(err, stopped) {
			t.Errorf("its error is %v", err)
		}
	})
}
