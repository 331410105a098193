package main_test

import (
	"bytes"
	"strings"
	"testing"

	main "github.com/comfyherd/comfyherd/cmd/dispatcher"
)

func bench(t *testing.T, args ...string) (code int, out, said string) {
	t.Helper()
	var o, e bytes.Buffer
	code = main.Run(t.Context(), append([]string{"bench", "--nats-url="}, args...), strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

func TestNoJobsAreNotTenThousand(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"jobs", "payload", "hosts", "agents", "slots", "tenants", "hashes", "dispatchers", "replicas"} {
		if code, out, said := bench(t, "--no-bare", "--jobs=3", "--hosts=1", "--"+flag+"=0"); code != 1 || !strings.Contains(said, "--"+flag+"=0 is out of range; give ") {
			t.Errorf("--%s=0: code %d, said %q, printed %q", flag, code, said, out)
		}
	}
}

func TestAtARateNothingIsALimit(t *testing.T) {
	t.Parallel()
	code, out, said := bench(t, "--jobs=5", "--hosts=1", "--rate=8", "--store-dir="+t.TempDir())
	if code != 0 || strings.Contains(out, "of the limit") {
		t.Errorf("code %d, %q:\n%s", code, said, out)
	}
}
