//go:build unix

// Package chaos_test tests that no job is lost and none ends twice: real processes of every kind under
// kill -9, SIGSTOP, restarts and cut connections, with one list of invariants (invariants_test.go) checked after every
// step. What happens is a pure function of a seed (plan_test.go); the seed is printed and CHAOS_SEED replays it.
//
// The test binary runs itself again as NATS and as the simulated ComfyUI hosts (helper_test.go); dispatchers and agents
// are the real commands.
package chaos_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if helper := helpers[os.Getenv(helperVariable)]; helper != nil {
		if err := helper(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	dir, err := os.MkdirTemp("", "comfyherd-chaos-")
	if err == nil {
		err = os.Setenv(binariesVariable, dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// nats.go 1.55 leaves its goroutine behind when the request for a file of the object store is not answered in time.
	abandoned := goleak.IgnoreAnyFunction("github.com/nats-io/nats.go/jetstream.(*obs).Get.func2")
	asking := goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*stream).trySetupSourceConsumer.func3") // as in test/integration
	goleak.VerifyTestMain(m, abandoned, asking, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}))
}

const binariesVariable = "COMFYHERD_CHAOS_BINARIES" // the folder of the two commands

// binaries builds the two commands, once for all tests, with clocks that can be wrong (clock_test.go).
var binaries = sync.OnceValues(func() (string, error) {
	dir := os.Getenv(binariesVariable)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	clocks, err := overlay(dir)
	if err != nil {
		return "", err
	}
	build := exec.CommandContext(ctx, "go", "build", "-overlay", clocks, "-o", dir, "./cmd/dispatcher", "./cmd/agent")
	build.Dir = filepath.Join("..", "..")
	var out bytes.Buffer
	build.Stdout, build.Stderr = &out, &out
	if err := build.Run(); err != nil {
		return "", fmt.Errorf("build the commands: %w\n%s", err, out.String())
	}
	return dir, nil
})

// command is the path of dispatcher or agent.
func command(t *testing.T, name string) string {
	t.Helper()
	dir, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}
