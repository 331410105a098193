package jetstream

import (
	"context"
	"time"
)

// FakeClock is a clock that measures a server of the test's making.
func FakeClock(ctx context.Context, ask func(context.Context) (time.Time, error), wall func() time.Time, warn func(error), anew func() <-chan struct{},
) (q *Queue, stop func()) {
	q = &Queue{}
	q.clock.ask, q.clock.wall, q.clock.warn = ask, wall, warn
	q.clock.begin(ctx, anew, nil)
	return q, q.clock.stop
}
