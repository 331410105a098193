package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// ErrContended: each time that a value was read, changed and to be written, somebody else had written it in between.
var ErrContended = errors.New("others have changed it first each time: look for a program that writes it without end")

const (
	mostConflicts  = 64 // in a row; with the pauses about 14 s
	quickConflicts = 2  // after which no time is waited: two writers that met seldom meet again
	firstPause     = 2 * time.Millisecond
)

// RetryConflict changes something by compare-and-set: try reads it, decides, and writes it on the condition that it is as it was
// read. It says false when the condition does not hold; then it is called again, at growing intervals, so that it must decide
// anew each time. what says what is being done, for the error. After 64 conflicts in a row that is ErrContended.
func RetryConflict(ctx context.Context, what string, try func() (written bool, err error)) error {
	wait := firstPause
	for conflicts := 0; conflicts < mostConflicts; {
		written, err := try()
		if written || err != nil {
			return err
		}
		if conflicts++; conflicts <= quickConflicts && ctx.Err() == nil {
			continue
		}
		if !Pause(ctx, wait/2+rand.N(wait/2)) { //nolint:gosec // it only keeps writers apart
			return fmt.Errorf("%s: %w", what, ctx.Err())
		}
		wait = min(2*wait, rewatchPause)
	}
	return fmt.Errorf("%s: %w", what, ErrContended)
}

// led has try called again, until ctx ends, while the stream that it reads or writes has no leader, as one that was made a
// moment ago in a cluster.
func led(ctx context.Context, try func() (bool, error)) func() (bool, error) {
	return func() (bool, error) {
		for {
			written, err := try()
			if !leaderless(err) || !Pause(ctx, rewatchPause) {
				return written, err
			}
		}
	}
}

// leaderless reports whether an error says that a stream has no leader at the moment.
func leaderless(err error) bool {
	return errors.Is(err, nats.ErrNoResponders) || errors.Is(err, natsjs.ErrNoStreamResponse)
}
