// Package growth_test is the proof that a running fleet does not grow with time. The test binary runs itself again as
// NATS, so that what NATS keeps of ended jobs is not taken for what dispatchers and agents keep.
package growth_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/comfyherd/comfyherd/internal/natsserver"
)

const storeVariable = "COMFYHERD_GROWTH_STORE" // where NATS keeps its data; set in the process that is to be NATS

func TestMain(m *testing.M) {
	store := os.Getenv(storeVariable)
	if store == "" {
		goleak.VerifyTestMain(m,
			goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect"),   // as in internal/bench
			goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*stream).trySetupSourceConsumer.func3")) // a NATS that is closed at once still asks itself for the source of COMFY_JOBS
		return
	}
	if err := serveNATS(store); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serveNATS tells its address and ends when its standard input does, which happens when the test is gone.
func serveNATS(store string) error {
	server, err := natsserver.Start(natsserver.Config{Port: -1, StoreDir: store})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(os.Stdout, server.URL())
	if err == nil {
		_, err = io.Copy(io.Discard, os.Stdin)
	}
	return errors.Join(err, server.Close())
}

// startNATS runs NATS in a process of its own until the test ends, and gives its address.
func startNATS(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(self) // it ends with its standard input, so that its data is closed in order
	child.Env = append(os.Environ(), storeVariable+"="+t.TempDir())
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := child.StdinPipe()
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(in.Close(), child.Wait()); err != nil {
			t.Error(err)
		}
	})
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("NATS did not tell its address: %v", err)
	}
	return strings.TrimSpace(url)
}
