//go:build unix

package chaos_test

import (
	"bufio"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/comfyherd/comfyherd/internal/natsserver"
)

// A process may be stopped before NATS has answered it, as while the servers of a cluster are restarted.
func TestAProcessThatStillWaitsForNATSEndsInGoodOrder(t *testing.T) {
	t.Parallel()
	server, err := natsserver.Start(natsserver.Config{Port: -1, StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() }) // the test is over
	for name, args := range map[string][]string{
		"dispatcher": {"run"}, "agent": {"--comfy-hosts=http://127.0.0.1:1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args = append(args, "--nats-url", server.URL(), "--js-domain=nowhere", "--retry")
			run := exec.CommandContext(t.Context(), command(t, name), args...)
			said, err := run.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := run.Start(); err != nil {
				t.Fatal(err)
			}
			lines, text := bufio.NewScanner(said), strings.Builder{}
			for lines.Scan() {
				text.WriteString(lines.Text() + "\n")
				if strings.Contains(lines.Text(), "waiting for NATS") {
					if err := run.Process.Signal(syscall.SIGTERM); err != nil {
						t.Error(err)
					}
				}
			}
			if err := run.Wait(); err != nil {
				t.Errorf("it ended with %v:\n%s", err, text.String())
			}
		})
	}
}
