package integration_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/test/docs"
)

// The blocks of docs/security.md are one script, run as it stands but for the ports.
func TestTheCommandsInTheSecurityPageWork(t *testing.T) {
	t.Parallel()
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("there is no sh")
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	sim, err := comfysim.Start(comfysim.Config{Name: "gpu-1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	blocks := docs.Fenced(string(page), "sh")
	if len(blocks) != 6 {
		t.Fatalf("the page has %d blocks", len(blocks))
	}
	blocks[0] = "trap 'kill $begun; wait' EXIT\n" + blocks[0] // what is in the background ends with the script
	for i := range blocks {
		blocks[i] = strings.ReplaceAll(blocks[i], " &\n", " & begun=\"$begun $!\"\n")
	}
	blocks[3] = "until NATS_URL=nats://127.0.0.1:4222 NATS_CREDS=herd/creds/operator.creds dispatcher hosts | grep -q online; do sleep 0.2; done\n" + blocks[3]
	script := strings.NewReplacer("127.0.0.1:4222", freeAddress(t), "127.0.0.1:8080", freeAddress(t), "http://127.0.0.1:8188", sim.URL()).
		Replace(strings.Join(blocks, "\n"))
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "workflow_api.json"), picture(0x123456), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*testTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, sh, "-e", "-c", script)
	cmd.Dir, cmd.WaitDelay = dir, testTimeout
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // so that the trap is heard
	cmd.Env = append(os.Environ(), "PATH="+build(t)+string(os.PathListSeparator)+os.Getenv("PATH"), "COMFYHERD_STORE_DIR="+filepath.Join(dir, "store"))
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out.String(), said.String())
	}
	for _, want := range []string{
		filepath.Join(dir, "herd", "creds", "tenant-acme.creds") + "\n", "agent-gpu-2  acme     2  ", "gpu-1  online",
		filepath.Join(dir, "herd", "creds", "tenant-carl.creds") + "\n", "cat-1                       completed  ", "1 job cancelled\n",
		filepath.Join("again", "cat-1", "out_00001_.png") + "\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in the output:\n%s", want, out.String())
		}
	}
	if !strings.Contains(said.String(), "completed on gpu-1") || !strings.Contains(said.String(), "tenant-bolt is revoked") {
		t.Errorf("it was said:\n%s", said.String())
	}
}

// freeAddress is one that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	address, err := docs.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return address
}
