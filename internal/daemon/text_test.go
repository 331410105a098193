package daemon_test

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
)

func TestSpan(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Second: "0ms", 0: "0ms", 12 * time.Millisecond: "12ms", 3450 * time.Millisecond: "3.5s", 12900 * time.Millisecond: "12s",
		125 * time.Second: "2m05s", 3*time.Hour + 10*time.Minute: "3h10m", 52 * time.Hour: "2d4h",
	} {
		if got := daemon.Span(d); got != want {
			t.Errorf("%s: got %s, want %s", d, got, want)
		}
	}
}
