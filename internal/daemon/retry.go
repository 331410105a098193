package daemon

import (
	"context"
	"log/slog"
	"time"
)

const (
	retryPause = 2 * time.Second
	tryTimeout = 15 * time.Second
)

// Begin calls try, bounded to 15 s. Without patience that is all; with it, try is called again 2 s after each
// failure, which is logged, until it succeeds or ctx ends. It is for the first look at a NATS that may start later.
func Begin(ctx context.Context, patient bool, log *slog.Logger, try func(context.Context) error) error {
	for {
		bounded, cancel := context.WithTimeout(ctx, tryTimeout)
		err := try(bounded)
		cancel()
		if err == nil || !patient {
			return err
		}
		log.Warn("NATS is not ready yet, trying again", "in", retryPause, "error", err)
		if !Pause(ctx, retryPause) {
			return context.Cause(ctx)
		}
	}
}
