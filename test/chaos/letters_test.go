//go:build unix

package chaos_test

import (
	"context"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// A job that was about to die and went on had its letter taken back; when it dies after all it is buried again.
func TestALetterThatWasTakenBackCanBeStoredAgain(t *testing.T) {
	t.Parallel()
	server := startNATS(t)
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	_, q := open(ctx, t, server.URL())
	m := &job.Message{Tenant: "acme", Priority: 5, Sequence: 7, Body: []byte(`{}`)}
	bury := func(last uint64) uint64 {
		letter, err := q.Bury(ctx, m, &job.Event{EventKind: job.Dead, Job: "one", Tenant: "acme", Reason: string(failure.Expired)}, last)
		if err != nil {
			t.Fatal(err)
		}
		return letter
	}
	first := bury(3)
	if again := bury(3); again != first {
		t.Errorf("buried twice from one event: letters %d and %d", first, again)
	}
	if err := q.Purge(ctx, &queue.DeadLetter{Sequence: first, Job: "one"}); err != nil {
		t.Fatal(err)
	}
	last := bury(4)
	var letters []uint64
	err := q.DeadLetters(ctx, "acme", time.Time{}, func(l queue.DeadLetter) bool {
		letters = append(letters, l.Sequence)
		return true
	})
	if err != nil || len(letters) != 1 || letters[0] != last {
		t.Errorf("letters %v, %v; want %d alone", letters, err, last)
	}
}
