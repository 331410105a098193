package jetstream

import (
	"context"
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

// AnswerClock is the clock that is set by answers.
type AnswerClock struct{ answerClock }

// Set sets it by an answer to what was asked at a moment.
func (c *AnswerClock) Set(answer *nats.Msg, asked time.Time) { c.set(answer, asked) }

// Now is NATS' time by the best answer.
func (c *AnswerClock) Now() time.Time { return c.now() }
