package gateway

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestAShelfMakesAValueOnceAndKeepsAtMostItsBytes(t *testing.T) {
	t.Parallel()
	var goroutines sync.WaitGroup
	s := newCache[int](10, &goroutines)
	made := 0
	get := func(key string, size int, until time.Time, err error) (int, error) {
		return s.get(t.Context(), key, func(context.Context) (cached[int], error) {
			made++
			return cached[int]{made, size, until}, err
		})
	}
	want := func(what string, got int, err error, number int) {
		t.Helper()
		if err != nil || got != number {
			t.Errorf("%s: %d, %v; want %d", what, got, err, number)
		}
	}
	got, err := get("a", 4, time.Time{}, nil)
	want("the first", got, err, 1)
	got, err = get("a", 4, time.Time{}, nil)
	want("what is kept", got, err, 1)
	if _, err := get("b", 4, time.Time{}, errors.New("no")); err == nil {
		t.Error("an error was lost")
	}
	got, err = get("b", 4, time.Now().Add(-time.Second), nil)
	want("after an error", got, err, 3)
	got, err = get("b", 4, time.Time{}, nil)
	want("what was too old", got, err, 4)
	got, err = get("c", 4, time.Time{}, nil)
	want("a third", got, err, 5)
	if s.bytes != 4 || len(s.kept) != 1 {
		t.Errorf("%d bytes of %d values are kept", s.bytes, len(s.kept))
	}
	got, err = get("d", 11, time.Time{}, nil)
	want("what is too large", got, err, 6)
	got, err = get("d", 11, time.Time{}, nil)
	want("what is too large again", got, err, 7)
	goroutines.Wait()
}

func TestAValueIsMadeForAllWhoWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var goroutines, waiting sync.WaitGroup
		s := newCache[int](10, &goroutines)
		release := make(chan struct{})
		made := 0
		produce := func(context.Context) (cached[int], error) {
			made++
			<-release
			return cached[int]{value: made}, nil
		}
		gone, leave := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			_, err := s.get(gone, "a", produce)
			left <- err
		}()
		synctest.Wait()
		leave()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("who has left gets %v", err)
		}
		for range 3 {
			waiting.Go(func() {
				if got, err := s.get(t.Context(), "a", produce); got != 1 || err != nil {
					t.Errorf("got %d, %v", got, err)
				}
			})
		}
		synctest.Wait()
		close(release)
		waiting.Wait()
		if made != 1 {
			t.Errorf("it was made %d times", made)
		}
	})
}
