package main

import (
	"bytes"
	"cmp"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
)

// ADVANCED_LONG=1 plays as much as a person sees.
func TestEachClaimOfTheExampleIsObserved(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	size := 1
	if cmp.Or(os.Getenv("ADVANCED_LONG"), "0") == "1" {
		size = 3
	}
	if err := run(t.Context(), settings{out: &out, log: slog.New(slog.DiscardHandler), size: size}); err != nil {
		t.Fatalf("%v after\n%s", err, &out)
	}
	if n := strings.Count(out.String(), "✓"); n != 14 {
		t.Errorf("%d claims were made, want 14, in\n%s", n, &out)
	}
}

func TestAHostThatIsNotThereIsNamed(t *testing.T) {
	t.Parallel()
	err := run(t.Context(), settings{hosts: "gone=nonsense", out: io.Discard, log: slog.New(slog.DiscardHandler), size: 1})
	if err == nil {
		t.Error("a host without an address was taken")
	}
}
