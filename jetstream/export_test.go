package jetstream

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
)

// AskAgainAfter sets how long the client waits for an answer before it sends a call that changes nothing again.
func (c *Client) AskAgainAfter(d time.Duration) { c.again = d }

// Retried makes a call of a file until it is of no further use.
func Retried(ctx context.Context, begins bool, once func(context.Context) error) error {
	return retried(ctx, begins, once)
}

// GetPiece asks for a piece of a file once.
func (c *Client) GetPiece(ctx context.Context, r FileRequest) (FileAnswer, error) {
	return c.getPiece(ctx, r)
}

// StillKnown gives which of the sequences that were given are still known when all up to another were given.
func StillKnown(given []uint64, sure uint64) []uint64 {
	f := following{sure: sure, given: map[uint64]bool{}}
	for _, sequence := range given {
		f.given[sequence] = true
	}
	f.forget()
	return slices.Sorted(maps.Keys(f.given))
}

// AnswerClock is the clock that is set by answers.
type AnswerClock struct{ answerClock }

// Set sets it by an answer to what was asked at a moment.
func (c *AnswerClock) Set(answer *nats.Msg, asked time.Time) { c.set(answer, asked) }

// Now is NATS' time by the best answer.
func (c *AnswerClock) Now() time.Time { return c.now() }
