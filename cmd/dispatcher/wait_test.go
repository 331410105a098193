package main_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	main "github.com/comfyherd/comfyherd/cmd/dispatcher"
	"github.com/comfyherd/comfyherd/internal/comfysim"
)

// Sixteen jobs that cannot run stand before the one that has completed.
func TestEachOfManyJobsIsToldAsItEnds(t *testing.T) {
	t.Parallel()
	f := start(t, comfysim.Config{})
	var stuck []string
	for n := 1; n <= 16; n++ {
		id := fmt.Sprintf("s-%d", n)
		if code, _, say := f.ask(t, picture, "submit", "-", "--id="+id, "--only=nowhere"); code != 0 {
			t.Fatal(say)
		}
		stuck = append(stuck, id)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	read, write := io.Pipe()
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() {
		args := []string{"submit", "-", "--id=s", "--count=17", "--wait", "--nats-url=" + f.url}
		if code := main.Run(ctx, args, strings.NewReader(picture), io.Discard, write); code != 3 {
			t.Errorf("submit ended with %d", code)
		}
		_ = write.Close() // a pipe's Close never fails
	})
	var said []string
	for lines := bufio.NewScanner(read); lines.Scan(); {
		said = append(said, lines.Text())
		if strings.HasPrefix(lines.Text(), "s-17: completed on sim") {
			f.expect(t, 0, append([]string{"cancel"}, stuck...), "s-16 cancelled")
		}
	}
	all := strings.Join(said, "\n")
	if !strings.HasSuffix(all, "1 completed, 0 dead, 16 cancelled, 0 not ended") {
		t.Errorf("it said:\n%s", all)
	}
	for _, id := range stuck {
		cancelled := func(line string) bool { return strings.HasPrefix(line, id+": cancelled by ") }
		if !slices.ContainsFunc(said, cancelled) {
			t.Errorf("nothing is said of the end of %s in:\n%s", id, all)
		}
	}
}

func TestTwoFilesOfOneIDAreOneJobToWaitFor(t *testing.T) {
	t.Parallel()
	f := start(t, comfysim.Config{})
	path := filepath.Join(t.TempDir(), "same.json")
	if err := os.WriteFile(path, []byte(`{"id":"same","workflow":`+picture+`}`), 0o600); err != nil {
		t.Fatal(err)
	}
	f.expect(t, 0, []string{"submit", path, path, "--wait"}, "same: completed on sim")
}

func TestAWaitSaysWhichNodeIsMissingWhere(t *testing.T) {
	t.Parallel()
	f := start(t, comfysim.Config{})
	unknown := strings.Replace(picture, `"SaveImage"`, `"NobodyHasThis"`, 1)
	code, _, say := f.ask(t, unknown, "submit", "-", "--id=lacks", "--wait", "--timeout=3s")
	if code != 4 || !strings.Contains(say, "lacks: waiting: no host can run it now: missing node NobodyHasThis (sim)") {
		t.Errorf("code %d, said %s", code, say)
	}
}
