package daemon_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/daemon"
)

func TestBegin(t *testing.T) {
	t.Parallel()
	away, wrong := fmt.Errorf("connect: %w", nats.ErrNoServers), errors.New("wrong password")
	tries := func(ctx context.Context, log *slog.Logger, patient bool, failures ...error) (n int, err error) {
		err = daemon.Begin(ctx, patient, log, func(bounded context.Context) error {
			if _, limited := bounded.Deadline(); !limited {
				t.Error("a try has no deadline")
			}
			if n++; n <= len(failures) {
				return failures[n-1]
			}
			return nil
		})
		return n, err
	}
	quiet := slog.New(slog.DiscardHandler)
	t.Run("AWrongPasswordIsTriedOnce", func(t *testing.T) {
		t.Parallel()
		if n, err := tries(t.Context(), quiet, false, wrong); n != 1 || !errors.Is(err, wrong) {
			t.Errorf("%d tries, %v", n, err)
		}
	})
	t.Run("ANATSThatIsNotThereIsWaitedForWhateverSaysSo", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			from := time.Now()
			failures := []error{away, nats.ErrTimeout, context.DeadlineExceeded, &net.DNSError{Err: "no such host"}, &net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH}}
			if n, err := tries(t.Context(), quiet, false, failures...); n != 6 || err != nil || time.Since(from) != 10*time.Second {
				t.Errorf("%d tries in %s, %v", n, time.Since(from), err)
			}
		})
	})
	t.Run("ARefusalEndsTheWaiting", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			if n, err := tries(t.Context(), quiet, false, away, wrong); n != 2 || !errors.Is(err, wrong) {
				t.Errorf("%d tries, %v", n, err)
			}
		})
	})
	t.Run("PatientTriesUntilItSucceeds", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			from := time.Now()
			if n, err := tries(t.Context(), quiet, true, wrong, wrong, wrong); n != 4 || err != nil || time.Since(from) != 6*time.Second {
				t.Errorf("%d tries in %s, %v", n, time.Since(from), err)
			}
		})
	})
	t.Run("ItEndsWithItsContext", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			if n, err := tries(ctx, quiet, true, wrong, wrong, wrong); n != 2 || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%d tries, %v", n, err)
			}
		})
	})
	t.Run("TheLogSaysItAtOnceAndThenEachMinute", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			failures := slices.Repeat([]error{away}, 31) // in 0 s to 60 s
			if n, err := tries(t.Context(), daemon.Logger(&out, slog.LevelInfo, false), false, failures...); n != 32 || err != nil {
				t.Errorf("%d tries, %v", n, err)
			}
			if n := strings.Count(out.String(), "waiting for NATS"); n != 2 {
				t.Errorf("it was said %d times: %s", n, out.String())
			}
		})
	})
}

func TestFlagsSayHowToConnect(t *testing.T) {
	t.Parallel()
	empty := daemon.NATSFlags{}
	if to := empty.NATS("x", nil); to.URL != "nats://127.0.0.1:4222" || to.Name != "x" {
		t.Errorf("%+v", to)
	}
	all := daemon.NATSFlags{URL: "u", Creds: "c", NKey: "n", User: "a", Password: "p", CA: "ca", Cert: "ce", Key: "k"}
	to := all.NATS("x", nil)
	if to.URL != "u" || to.Creds != "c" || to.NKey != "n" || to.User != "a" || to.Password != "p" || to.CA != "ca" || to.Cert != "ce" || to.Key != "k" {
		t.Errorf("%+v", to)
	}
	bad := daemon.LogFlags{Level: "loud"}
	if _, err := bad.Logger(t.Output()); err == nil {
		t.Error("level loud was taken")
	}
}
