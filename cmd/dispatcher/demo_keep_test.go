package main_test

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	main "github.com/comfyherd/comfyherd/cmd/dispatcher"
	"github.com/comfyherd/comfyherd/test/docs"
)

// reader collects what a demo says, until it has said the last word.
type reader struct {
	last string
	all  chan string

	mu   sync.Mutex
	said strings.Builder
}

func (r *reader) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said.Write(p)
	if strings.Contains(string(p), r.last) {
		r.all <- r.said.String()
	}
	return len(p), nil
}

func TestTheCommandsThatADemoShowsWorkAsTheyArePrinted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &reader{last: "The fleet stays up", all: make(chan string, 1)}
	ended := make(chan int, 1)
	pictures := t.TempDir()
	var errs bytes.Buffer
	go func() {
		enter := strings.NewReader(strings.Repeat("\n", 9)) // no scene waits
		ended <- main.Run(ctx, []string{"demo", "--step", "--keep", "--comfy-hosts=", "--out", pictures}, enter, out, &errs)
	}()
	var said string
	select {
	case code := <-ended:
		t.Fatalf("code %d, said %s", code, &errs)
	case said = <-out.all:
	}
	if n := strings.Count(said, "Press Enter"); n != 5 {
		t.Errorf("Enter was asked for %d times, want once for each of five scenes", n)
	}
	_, shown, _ := strings.Cut(said, "Try in another terminal:")
	wants := map[string]string{
		"submit": "completed", "why": "gpu-1", "blocks": "", "dead": "-r1",
	}
	url := ""
	for line := range strings.Lines(shown) {
		if _, given, is := strings.Cut(line, "export NATS_URL="); is {
			url = strings.TrimSpace(given)
		}
		for _, words := range docs.Shell(line) {
			want, known := wants[words[min(1, len(words)-1)]]
			if words[0] != "dispatcher" || !known {
				continue
			}
			delete(wants, words[1])
			var got, problems bytes.Buffer
			code := main.Run(ctx, append(words[1:], "--nats-url", url), nil, &got, &problems)
			if code != 0 || !strings.Contains(got.String()+problems.String(), want) {
				t.Errorf("%q: code %d\n%s%s, want %q", words, code, &got, &problems, want)
			}
		}
	}
	if len(wants) > 0 {
		t.Errorf("not shown: %v in %s", wants, shown)
	}
	if files, err := filepath.Glob(filepath.Join(pictures, "*", "*.png")); err != nil || len(files) != 1 {
		t.Errorf("%d pictures of the job that was submitted: %v", len(files), err)
	}
	cancel()
	if code := <-ended; code != 0 && code != 130 {
		t.Errorf("code %d, said %s", code, &errs)
	}
}
