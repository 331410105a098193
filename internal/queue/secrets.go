package queue

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	natsjs "github.com/nats-io/nats.go/jetstream"
)

// Uses of a fleet's secrets.
const (
	PromptSecret = "prompt" // for prompt ids that only agents can compute
	FilesSecret  = "files"  // for cursors of files; only dispatchers may read it

	WebhooksSecret = "webhooks" // from which the secrets of webhooks are derived; only dispatchers may read it
)

const secretSize = 32

// ErrNoSecret: the fleet does not have this secret yet, and this program may not make it. Start a dispatcher.
var ErrNoSecret = errors.New("the fleet does not have this secret yet: start a dispatcher, which makes it")

// Secret gives the secret of the fleet for PromptSecret, FilesSecret or WebhooksSecret: 32 random bytes that stay the same for as long as
// the bucket is there. The first call makes it, unless the Queue may not write (ErrNoSecret).
func (q *Queue) Secret(ctx context.Context, use string) (secret []byte, err error) {
	err = RetryConflict(ctx, "make the secret "+use, untilLed(ctx, func() (bool, error) {
		revision := uint64(0)
		entry, err := q.secrets.Get(ctx, use)
		switch {
		case err == nil && len(entry.Value()) == secretSize:
			secret = entry.Value()
			return true, nil
		case err == nil: // another program has written it, and it is no secret
			revision = entry.Revision()
		case !errors.Is(err, natsjs.ErrKeyNotFound):
			return false, fmt.Errorf("read the secret %s: %w", use, err)
		}
		if q.cfg.ReadOnly || q.cfg.NoConsumers {
			return false, fmt.Errorf("read the secret %s: %w", use, ErrNoSecret)
		}
		secret = make([]byte, secretSize)
		_, _ = rand.Read(secret) // it never fails
		return putExpecting(ctx, q.secrets, use, secret, revision)
	}))
	if err != nil {
		return nil, err
	}
	return secret, nil
}

// makeSecrets makes the secret that agents, which may not make it, read.
func (q *Queue) makeSecrets(ctx context.Context) error {
	if q.cfg.ReadOnly || q.cfg.NoConsumers {
		return nil
	}
	_, err := answered(ctx, func(ctx context.Context) ([]byte, error) { return q.Secret(ctx, PromptSecret) })
	return err
}
