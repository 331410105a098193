package queue

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// What the secrets of a fleet are for.
const (
	PromptSecret = "prompt" // agents make prompt ids of it, which nobody else can guess
	FilesSecret  = "files"  // dispatchers alone read it
)

const secretSize = 32

// ErrNoSecret says that no dispatcher has made a secret yet, and that the asker may not make it.
var ErrNoSecret = errors.New("the fleet has no such secret yet: start a dispatcher, it makes it")

// Secret gives the secret of the fleet for PromptSecret or FilesSecret: 32 random bytes that stay the same for as long as
// the bucket stands. It is made by whoever asks first.
func (q *Queue) Secret(ctx context.Context, use string) ([]byte, error) {
	for {
		entry, err := q.secrets.Get(ctx, use)
		switch {
		case err == nil && len(entry.Value()) == secretSize:
			return entry.Value(), nil
		case leaderless(err):
			if !Pause(ctx, rewatchPause) {
				return nil, fmt.Errorf("read the secret %s: %w: %w", use, err, ctx.Err())
			}
			continue
		case err != nil && !errors.Is(err, natsjs.ErrKeyNotFound):
			return nil, fmt.Errorf("read the secret %s: %w", use, err)
		case q.cfg.ReadOnly || q.cfg.NoConsumers:
			return nil, fmt.Errorf("read the secret %s: %w", use, ErrNoSecret)
		}
		made := make([]byte, secretSize)
		_, _ = rand.Read(made) // it never fails
		if err == nil {        // written by somebody else, and no secret
			_, err = q.secrets.Update(ctx, use, made, entry.Revision())
		} else {
			_, err = q.secrets.Create(ctx, use, made)
		}
		switch {
		case err == nil:
			return made, nil
		case !errors.Is(err, natsjs.ErrKeyExists) && !conflict(err) && !leaderless(err):
			return nil, fmt.Errorf("make the secret %s: %w", use, err)
		}
		Pause(ctx, rewatchPause) // another was first, and not every copy knows yet
	}
}

// leaderless reports whether a stream has nobody to answer for it, as one that was made a moment ago in a cluster.
func leaderless(err error) bool {
	return errors.Is(err, nats.ErrNoResponders) || errors.Is(err, natsjs.ErrNoStreamResponse)
}

// makeSecrets makes what those may only read who may make nothing.
func (q *Queue) makeSecrets(ctx context.Context) error {
	if q.cfg.ReadOnly || q.cfg.NoConsumers {
		return nil
	}
	_, err := answered(ctx, func(ctx context.Context) ([]byte, error) { return q.Secret(ctx, PromptSecret) })
	return err
}
