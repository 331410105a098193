package main_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"

	main "github.com/comfyherd/comfyherd/cmd/dispatcher"
)

// leaver reads a few lines and goes, as head does.
type leaver struct{ lines int }

func (l *leaver) Write(p []byte) (int, error) {
	if l.lines--; l.lines < 0 {
		return 0, syscall.EPIPE
	}
	return len(p), nil
}

func TestADemoThatNobodyReadsOnLeavesNothingBehind(t *testing.T) { // not parallel: the environment belongs to the process
	folder := t.TempDir()
	t.Setenv("TMPDIR", folder)
	t.Setenv("COMFY_HOSTS", "")
	var errs bytes.Buffer
	if code := main.Run(t.Context(), []string{"demo"}, nil, &leaver{lines: 5}, &errs); code != 1 || errs.Len() > 0 {
		t.Errorf("code %d, said %q", code, &errs)
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// teller passes on the first address of a page that is said.
type teller struct{ page chan string }

var pageSaid = regexp.MustCompile(`on a page: (http://127\.0\.0\.1:\d+/)`)

func (l *teller) Write(p []byte) (int, error) {
	if found := pageSaid.FindSubmatch(p); found != nil {
		l.page <- string(found[1])
	}
	return len(p), nil
}

func TestTheDemoHasAPage(t *testing.T) { // not parallel: the environment belongs to the process
	t.Setenv("COMFY_HOSTS", "")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &teller{page: make(chan string, 1)}
	ended := make(chan int, 1)
	var errs bytes.Buffer
	go func() { ended <- main.Run(ctx, []string{"demo", "--dashboard"}, nil, out, &errs) }()
	select {
	case code := <-ended:
		t.Fatalf("code %d, said %s", code, &errs)
	case address := <-out.page:
		if shell, err := get(address); err != nil || !strings.Contains(shell, "page.js") {
			t.Errorf("the page: %v\n%s", err, shell)
		}
	}
	cancel()
	<-ended
}

func get(address string) (string, error) {
	resp, err := http.Get(address)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}
