//go:build unix

package main_test

import (
	"bytes"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"

	main "github.com/comfyherd/comfyherd/cmd/dispatcher"
	"github.com/comfyherd/comfyherd/internal/natsserver"
)

// A signal reaches the whole process, so this test runs alone.
func TestAnInterruptedBenchCleansUp(t *testing.T) { //nolint:paralleltest // signals belong to the process
	server, err := natsserver.Start(natsserver.Config{Port: -1, StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}()
	nc, err := nats.Connect(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	sub, err := nc.Subscribe("comfy.events.jobs.*.*.started", func(msg *nats.Msg) {
		_ = msg.Sub.Unsubscribe() // one is enough
		if err := syscall.Kill(syscall.Getpid(), syscall.SIGINT); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }() // the connection ends anyway
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	var out, said bytes.Buffer
	args := []string{"bench", "--no-bare", "--json", "--jobs=10", "--hosts=1", "--host-time=1h", "--nats-url=" + server.URL()}
	if code := main.Run(t.Context(), args, strings.NewReader(""), &out, &said); code != 130 || out.Len() > 0 {
		t.Errorf("code %d, want 130; it printed %q and said %q", code, &out, &said)
	}
	out.Reset()
	if code := main.Run(t.Context(), []string{"bench", "--no-bare", "--jobs=5", "--hosts=1", "--nats-url=" + server.URL()}, strings.NewReader(""), &out, &said); code != 0 {
		t.Errorf("code %d of the next one: %s", code, &said)
	}
	if strings.Contains(out.String(), "files of NATS") {
		t.Errorf("files that nobody looked at are told of:\n%s", &out)
	}
}
