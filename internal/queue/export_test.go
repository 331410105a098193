package queue

import (
	"context"
	"time"
)

// What reads the wire.
var (
	DecodeState = decodeState
	DecodeReply = decodeReply
	DecodeOffer = decodeOffer
	DecodeLink  = decodeLink
)

// CheckState and CheckOffer check what was read.
var (
	CheckState = (*HostState).check
	CheckOffer = (*Offer).check
)

// DecodeCondition reads a host's condition.
func DecodeCondition(body []byte) (HostCondition, error) {
	return decodeChecked[HostCondition](Change{Value: body})
}

// DecodeControl reads a control.
func DecodeControl(body []byte) (Control, error) { return decodeChecked[Control](Change{Value: body}) }

// FakeClock is a clock that measures a server of the test's making.
func FakeClock(ctx context.Context, ask func(context.Context) (time.Time, error), wall func() time.Time, warn func(error), anew func() <-chan struct{},
) (q *Queue, stop func()) {
	q = &Queue{}
	q.clock.ask, q.clock.wall, q.clock.warn = ask, wall, warn
	q.clock.begin(ctx, anew, nil)
	return q, q.clock.stop
}
