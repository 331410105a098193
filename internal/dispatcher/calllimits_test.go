package dispatcher_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
)

// Whatever is asked, the loop has three times as long for jobs.
func TestQuestionsComeOneAfterTheOtherWithARestBetween(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turns, begun := dispatcher.NewCallLimit(), time.Now()
		var at []time.Duration
		ask := func(took time.Duration) {
			err := turns.Pass(t.Context(), took, func() {
				at = append(at, time.Since(begun))
				goBy(took)
			})
			if err != nil {
				t.Error(err)
			}
		}
		ask(10 * time.Millisecond)
		ask(time.Second) // after 10 ms and a rest of 30 ms
		ask(0)           // after a second and the longest rest, of 250 ms
		for i, want := range []time.Duration{0, 40 * time.Millisecond, 1290 * time.Millisecond} {
			if at[i] != want {
				t.Errorf("question %d began after %v, want %v", i, at[i], want)
			}
		}
	})
}

func TestWhoGivesUpAsksNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		turns := dispatcher.NewCallLimit()
		if err := turns.Pass(t.Context(), time.Second, func() {}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		err := turns.Pass(ctx, 0, func() { t.Error("it was asked all the same") })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}
