package demo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/demo"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/test/docs"
)

// wantInOrder checks that lines with these parts stand in out one after the other. A want is words of one line.
func wantInOrder(t *testing.T, out string, wants ...string) {
	t.Helper()
	lines := strings.Split(out, "\n")
	at := 0
	for _, want := range wants {
		words := strings.Fields(want)
		for at < len(lines) && !containsInOrder(strings.Fields(lines[at]), words) {
			at++
		}
		if at == len(lines) {
			t.Fatalf("no line %q where it should be in\n%s", want, out)
		}
		at++
	}
}

func containsInOrder(line, words []string) bool {
	for _, word := range line {
		if len(words) > 0 && word == words[0] {
			words = words[1:]
		}
	}
	return len(words) == 0
}

func TestTheDemoTellsFiveScenariosAndKeepsThePictures(t *testing.T) {
	t.Parallel()
	pictures := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var fleet *queue.Queue
	var staying sync.WaitGroup
	ran := false
	s := &stopper{word: "The fleet stays up", stop: func() {
		staying.Go(func() {
			defer cancel()
			for e, err := range fleet.Follow(ctx, "acme", "job-15") { // of the first job when the story is over
				ran = err == nil && e.EventKind == job.Completed
			}
		})
	}}
	served := false
	page := func(q *queue.Queue) (string, func() error, error) {
		fleet, served = q, q.Connected()
		return "http://page.test/", func() error { served = false; return nil }, nil
	}
	if err := demo.RunWith(ctx, s, demo.Setup{Pictures: pictures, Page: page}); err != nil {
		t.Fatalf("%v after\n%s", err, &s.out)
	}
	cancel()
	staying.Wait()
	if !ran {
		t.Error("no job was run when the story was over")
	}
	if served {
		t.Error("the page was not ended")
	}
	out := &s.out
	wantInOrder(t, out.String(),
		"The same on a page: http://page.test/",
		"1 Normal runs",
		"✓ six jobs of three tenants complete",
		"✓ the hosts share them (gpu-1, gpu-2, gpu-3)",
		"2 A failure",
		"acme job-07 portrait gpu-2 failed ImportError in FaceDetailer",
		"acme job-07 portrait started attempt 2",
		"acme job-07 portrait completed",
		"✓ the portrait fails on gpu-2",
		"✓ the same job completes on another host",
		"3 The block",
		"bolt job-09 poster gpu-2 started",
		"✓ portraits are blocked on gpu-2",
		"✓ portraits avoid gpu-2",
		"✓ posters still run on gpu-2",
		"4 Recovery",
		"acme job-11 portrait gpu-2 started",
		"acme job-12 portrait gpu-2 completed",
		"✓ the block runs out by itself, told once",
		"✓ portraits run on gpu-2 again",
		"5 A workflow at fault",
		"coral job-13 retouch failed UnidentifiedImageError in LoadImage",
		"coral job-13 retouch dead workflow fault",
		"coral job-13-r1 retouch completed",
		"✓ the retouch fails on two hosts with the same error",
		"✓ its job is dead by its own fault (workflow fault)",
		"✓ no block of it remains",
		"✓ requeued with a whole photo it completes (job-13-r1 on",
		"bolt 3 3 3",
		"coral 4 3 5",
		"gpu-2 portrait acme expired job-07", "retouch coral workflow fault job-13",
		"✓ every job ends exactly once",
		"✓ every picture is its own job's",
		"Pictures: "+pictures,
		"The fleet stays up, and its page at http://page.test/, until Ctrl-C.",
	)
	wantInOrder(t, out.String(), "acme job-07 portrait gpu-2 failed", "acme portrait gpu-2 blocked for", "3 The block")
	wantInOrder(t, out.String(), "4 Recovery", "portrait gpu-2 unblocked expired", "✓ the block runs out")
	for n, name := range map[int]string{1: "acme-portrait", 2: "bolt-poster", 7: "acme-portrait", 12: "acme-portrait"} {
		wantPNG(t, filepath.Join(pictures, fmt.Sprintf("job-%02d-%s.png", n, name)))
	}
	if files, err := os.ReadDir(pictures); err != nil || len(files) < 13 { // more when a slow machine had the block made again
		t.Errorf("%d pictures, %v; want 13", len(files), err)
	}
	wantOfReadme(t, out.String())
	if strings.Contains(out.String(), "\x1b") {
		t.Error("what is no terminal got colours")
	}
}

var vary = regexp.MustCompile(`\b\d+(\.\d+)?m?s\b|gpu-[13]`)

// alike is a text's lines without what differs from one telling to the next: times, spaces, and which healthy host.
func alike(text string) []string {
	var lines []string
	for line := range strings.Lines(text) {
		lines = append(lines, strings.Join(strings.Fields(vary.ReplaceAllString(line, "…")), " "))
	}
	return lines
}

// wantOfReadme checks that what the README shows of the demo was told.
func wantOfReadme(t *testing.T, out string) {
	t.Helper()
	pages, err := docs.Pages("../..")
	if err != nil {
		t.Fatal(err)
	}
	told, shown := alike(out), docs.Fenced(pages["README.md"], "text")
	if len(shown) == 0 {
		t.Fatal("README.md shows nothing of the demo")
	}
	for _, line := range alike(shown[0]) {
		if !slices.Contains(told, line) {
			t.Errorf("README.md shows a line that the demo did not tell: %s", line)
		}
	}
}

func wantPNG(t *testing.T, path string) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Error(err)
		return
	}
	defer file.Close()
	if _, err := png.DecodeConfig(file); err != nil {
		t.Errorf("%s: %v", path, err)
	}
}

func TestADemoInWhichNothingFailsSaysWhatItDidNotSee(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	err := demo.RunWith(t.Context(), &out, demo.Setup{Pictures: t.TempDir(), Intact: true, Width: 60})
	if err == nil {
		t.Fatalf("no error after\n%s", &out)
	}
	for line := range strings.Lines(out.String()) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 60 && !strings.HasPrefix(line, "Pictures: ") {
			t.Errorf("a line of %d columns in a terminal of 60: %s", n, line)
		}
	}
	for _, unseen := range []string{
		"the portrait fails on gpu-2", "portraits are blocked on gpu-2", "portraits avoid gpu-2", "the block runs out by itself, told once",
	} {
		if !strings.Contains(err.Error(), unseen) {
			t.Errorf("the error does not name %q: %v", unseen, err)
		}
		wantInOrder(t, out.String(), "✗ not observed: "+unseen)
	}
	wantInOrder(t, out.String(), "✓ six jobs of three tenants complete", "✓ every job ends exactly once")
}

func TestADemoWithoutEnoughTimeSaysSo(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	err := demo.RunWith(t.Context(), &out, demo.Setup{Pictures: t.TempDir(), Timeout: 10 * time.Second, Cooldown: time.Minute})
	if err == nil || !strings.Contains(err.Error(), "within the 10s") || !strings.Contains(err.Error(), "the block runs out by itself") {
		t.Errorf("the demo ended with %v after\n%s", err, &out)
	}
}

// comfyHosts are simulated hosts that the demo takes for real ones: it can script nothing there.
func comfyHosts(t *testing.T, n int) string {
	t.Helper()
	var hosts []string
	for i := range n {
		sim, err := comfysim.Start(comfysim.Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(sim.Close)
		hosts = append(hosts, fmt.Sprintf("real-%d=%s", i+1, sim.URL()))
	}
	return strings.Join(hosts, ",")
}

func TestTheDemoRunsOnHostsOfOnesOwn(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := demo.RunWith(t.Context(), &out, demo.Setup{Hosts: comfyHosts(t, 2), Pictures: t.TempDir(), Cooldown: 2 * time.Second}); err != nil {
		t.Fatalf("%v after\n%s", err, &out)
	}
	wantInOrder(t, out.String(),
		"acme job-07 portrait real-2 failed UnidentifiedImageError in LoadImage", "acme job-07 portrait real-1 completed",
		"The block has run out meanwhile.", "acme portrait real-2 blocked for", "3 The block", // too short for a scene, and so made again
		"✓ portraits avoid real-2", "✓ posters still run on real-2", "✓ portraits run on real-2 again",
		"✓ no block of it remains", "✓ every picture is its own job's",
	)
}

func TestTheDemoOnASingleHostSaysWhatItCannotShow(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := demo.RunWith(t.Context(), &out, demo.Setup{Hosts: comfyHosts(t, 1), Pictures: t.TempDir()}); err != nil {
		t.Fatalf("%v after\n%s", err, &out)
	}
	wantInOrder(t, out.String(),
		"acme job-07 portrait real-1 failed", "✓ the job ends dead, there being no other host",
		"acme job-08 portrait waiting", "✓ posters still run on real-1", "acme job-08 portrait real-1 completed",
		"✓ every picture is its own job's (11 pictures",
	)
}

func TestTheDemoNamesAHostThatIsNotThere(t *testing.T) {
	t.Parallel()
	sim, err := comfysim.Start(comfysim.Config{})
	if err != nil {
		t.Fatal(err)
	}
	sim.Close()
	err = demo.RunWith(t.Context(), io.Discard, demo.Setup{Hosts: "here=" + sim.URL(), Timeout: 15 * time.Second})
	if err == nil || !strings.Contains(err.Error(), "host here ("+sim.URL()+") is not online") {
		t.Errorf("the error is %v", err)
	}
}

// stopper ends the demo when a word was written.
type stopper struct {
	word string
	stop context.CancelFunc
	mu   sync.Mutex // guards out
	out  bytes.Buffer
}

func (s *stopper) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if bytes.Contains(p, []byte(s.word)) {
		s.stop()
	}
	return s.out.Write(p)
}

func TestADemoCanBeStoppedAtAnyTime(t *testing.T) {
	t.Parallel()
	for _, word := range []string{"comfyherd demo", "online", "started", "blocked", "✓"} {
		t.Run(word, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s := &stopper{word: word, stop: cancel}
			if err := demo.RunWith(ctx, s, demo.Setup{}); !errors.Is(err, context.Canceled) {
				t.Errorf("the demo ended with %v after\n%s", err, &s.out)
			}
			if strings.Contains(s.out.String(), "In numbers") {
				t.Error("a stopped demo went on to its end")
			}
		})
	}
}
