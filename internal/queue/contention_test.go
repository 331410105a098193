package queue_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

func TestAChangeIsDecidedAnewAfterEveryConflict(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		err := queue.RetryConflict(t.Context(), "count", func() (bool, error) {
			tries++
			return tries == 5, nil
		})
		if tries != 5 || err != nil {
			t.Errorf("%d tries, %v", tries, err)
		}
		broken := errors.New("the disk is gone")
		tries = 0
		err = queue.RetryConflict(t.Context(), "count", func() (bool, error) { tries++; return false, broken })
		if tries != 1 || !errors.Is(err, broken) {
			t.Errorf("after an error there are %d tries, %v", tries, err)
		}
	})
}

func TestAConflictThatNeverEndsIsAnError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tries, begun := 0, time.Now()
		err := queue.RetryConflict(t.Context(), "take a slot of tenant acme", func() (bool, error) { tries++; return false, nil })
		if !errors.Is(err, queue.ErrContended) || !strings.HasPrefix(err.Error(), "take a slot of tenant acme: others have changed it first") {
			t.Errorf("it ends with %v", err)
		}
		if took := time.Since(begun); tries != 64 || took < 7*time.Second || took > 15*time.Second {
			t.Errorf("it ends after %d tries and %s", tries, took)
		}
	})
}

func TestAConflictIsNotTriedAgainWhenItsTimeIsOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := queue.RetryConflict(ctx, "count", func() (bool, error) { return false, nil })
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, queue.ErrContended) {
			t.Errorf("it ends with %v", err)
		}
	})
}

// Two writers have read the same slots: the write of the second fails, and its next try adds to what the first has written.
func TestOfTwoWritersNoneLosesWhatTheOtherWrote(t *testing.T) {
	t.Parallel()
	ctx, q := t.Context(), openQueue(t)
	tries := 0
	err := queue.RetryConflict(ctx, "take a slot", func() (bool, error) {
		taken, revision, err := q.Slots(ctx, "acme")
		if tries++; tries == 1 && err == nil { // another writer is faster
			if stored, err := q.PutSlots(ctx, "acme", []queue.Slot{{Job: "theirs"}}, revision); !stored || err != nil {
				t.Errorf("the faster one has stored %v, %v", stored, err)
			}
		}
		if err != nil {
			return false, err
		}
		return q.PutSlots(ctx, "acme", append(taken, queue.Slot{Job: "ours"}), revision)
	})
	taken, _, readErr := q.Slots(ctx, "acme")
	if err := errors.Join(err, readErr); err != nil || tries != 2 {
		t.Fatalf("after %d tries: %v", tries, err)
	}
	var jobs []job.ID
	for _, s := range taken {
		jobs = append(jobs, s.Job)
	}
	if len(jobs) != 2 || jobs[0] != "theirs" || jobs[1] != "ours" {
		t.Errorf("the slots are of %v", jobs)
	}
}
