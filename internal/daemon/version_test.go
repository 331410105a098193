package daemon_test

import (
	"regexp"
	"runtime"
	"testing"

	"github.com/comfyherd/comfyherd/internal/daemon"
)

func TestVersionNamesReleaseAndCompiler(t *testing.T) {
	t.Parallel()
	got := daemon.Version()
	if !regexp.MustCompile(`^v?\d+\.\d+\.\d+\S* \((.+, )?` + regexp.QuoteMeta(runtime.Version()) + `\)$`).MatchString(got) {
		t.Fatalf("got %q", got)
	}
}
