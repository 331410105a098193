package daemon_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
)

func TestBegin(t *testing.T) {
	t.Parallel()
	away := errors.New("away")
	quiet := slog.New(slog.DiscardHandler)
	tries := func(ctx context.Context, patient bool, failures int) (n int, err error) {
		err = daemon.Begin(ctx, patient, quiet, func(bounded context.Context) error {
			if _, limited := bounded.Deadline(); !limited {
				t.Error("a try has no deadline")
			}
			if n++; n <= failures {
				return away
			}
			return nil
		})
		return n, err
	}
	t.Run("ImpatientTriesOnce", func(t *testing.T) {
		t.Parallel()
		if n, err := tries(t.Context(), false, 1); n != 1 || !errors.Is(err, away) {
			t.Errorf("%d tries, %v", n, err)
		}
	})
	t.Run("PatientTriesUntilItSucceeds", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			from := time.Now()
			if n, err := tries(t.Context(), true, 3); n != 4 || err != nil || time.Since(from) != 6*time.Second {
				t.Errorf("%d tries in %s, %v", n, time.Since(from), err)
			}
		})
	})
	t.Run("PatientEndsWithItsContext", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			if n, err := tries(ctx, true, 9); n != 2 || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%d tries, %v", n, err)
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
