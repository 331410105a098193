package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	retryPause = 2 * time.Second
	tryTimeout = 15 * time.Second
	sayAgain   = time.Minute // between two log lines about the same error
)

// Begin calls try, bounded to 15 s, and again 2 s after each failure that says that NATS cannot be reached: the services
// of a fleet start in any order. With always it does so after every failure. It returns when try succeeds, when ctx
// ends, or with the first other error. The log says what is waited for, at once and then each minute.
func Begin(ctx context.Context, always bool, log *slog.Logger, try func(context.Context) error) error {
	said, next := "", time.Time{}
	for {
		bounded, cancel := context.WithTimeout(ctx, tryTimeout)
		err := try(bounded)
		cancel()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !always && !unreachable(err):
			return err
		}
		if now := time.Now(); err.Error() != said || !now.Before(next) {
			log.Warn("waiting for NATS", "retry_every", retryPause, "error", err)
			said, next = err.Error(), now.Add(sayAgain)
		}
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// unreachable reports whether an error says that no NATS answers at the address. A NATS that is started later ends it.
func unreachable(err error) bool {
	var network net.Error // a name that is not found, a machine that cannot be reached
	return errors.Is(err, nats.ErrNoServers) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &network)
}
