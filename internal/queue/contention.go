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

// ErrContended: each time between reading a value and writing it, another program had written it.
var ErrContended = errors.New("others have changed it first each time: look for a program that writes it without end")

const (
	mostConflicts  = 64 // in a row; with the pauses about 14 s
	quickConflicts = 2  // after so many conflicts there is no pause yet: two writers seldom conflict twice
	firstPause     = 2 * time.Millisecond
)

// RetryConflict changes a value by compare-and-set: try reads it, decides, and writes it on the condition that it is unchanged. When
// the condition does not hold, try returns false and is called again, at growing intervals, so it must read and decide each time.
// what describes the change in errors. After 64 conflicts in a row, about 14 s, the error is ErrContended.
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

// untilLed repeats try, until ctx ends, while the stream that it reads or writes has no leader, such as a new stream in a cluster.
func untilLed(ctx context.Context, try func() (bool, error)) func() (bool, error) {
	return func() (bool, error) {
		for {
			written, err := try()
			if !hasNoLeader(err) || !Pause(ctx, rewatchPause) {
				return written, err
			}
		}
	}
}

// hasNoLeader reports whether an error says that no server answers for the stream.
func hasNoLeader(err error) bool {
	return errors.Is(err, nats.ErrNoResponders) || errors.Is(err, natsjs.ErrNoStreamResponse)
}
