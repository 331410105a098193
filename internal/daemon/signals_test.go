//go:build unix

package daemon_test

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
)

// Signals reach the whole process, so the story is one test and runs alone.
func TestFirstSignalStopsAndSecondKills(t *testing.T) { //nolint:paralleltest // signals belong to the process
	stop, kill, release := daemon.Signals(t.Context())
	defer release()

	send(t, syscall.SIGTERM)
	ended(t, stop)
	if kill.Err() != nil {
		t.Fatal("one signal killed")
	}
	if cause := context.Cause(stop); !errors.Is(cause, context.Canceled) || !strings.Contains(cause.Error(), "terminated") {
		t.Fatalf("cause %v", cause)
	}
	send(t, syscall.SIGINT)
	ended(t, kill)
	if cause := context.Cause(kill); !strings.Contains(cause.Error(), "interrupt") {
		t.Fatalf("cause %v", cause)
	}
}

func TestEndOfTheParentEndsBoth(t *testing.T) { //nolint:paralleltest // signals belong to the process
	parent, cancel := context.WithCancel(t.Context())
	stop, kill, release := daemon.Signals(parent)
	cancel()
	ended(t, stop)
	ended(t, kill)
	release()
	release()
}

func send(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(syscall.Getpid(), s); err != nil {
		t.Fatal(err)
	}
}

func ended(t *testing.T, ctx context.Context) {
	t.Helper()
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the context did not end")
	}
}
