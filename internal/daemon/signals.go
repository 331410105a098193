package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// Signals turns SIGINT and SIGTERM into two contexts, for a shutdown in two steps: the first signal ends stop (take no more work,
// finish what runs), the second ends kill (stop everything at once), and a third ends the process in the system's own way.
// context.Cause of either says which signal it was. Ending ctx ends both. release ends both, gives the signals back to the system
// and waits for its goroutine.
func Signals(ctx context.Context) (stop, kill context.Context, release func()) {
	got := make(chan os.Signal, 2)
	signal.Notify(got, os.Interrupt, syscall.SIGTERM)
	kill, endKill := context.WithCancelCause(ctx)
	stop, endStop := context.WithCancelCause(kill)

	done := make(chan struct{})
	go func() {
		defer close(done)
		defer signal.Stop(got)
		for _, end := range []context.CancelCauseFunc{endStop, endKill} {
			select {
			case s := <-got:
				end(fmt.Errorf("received %s: %w", s, context.Canceled))
			case <-kill.Done():
				return
			}
		}
	}()
	return stop, kill, func() {
		endKill(nil)
		<-done
	}
}

// IgnoreBrokenPipes makes a write to a standard stream whose reader is gone return an error instead of ending the process, until
// restore is called.
func IgnoreBrokenPipes() (restore func()) {
	signal.Ignore(syscall.SIGPIPE)
	return func() { signal.Reset(syscall.SIGPIPE) }
}

// UnlessStopped is an error, or nil when it only says that ctx was cancelled, as by a signal.
func UnlessStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
