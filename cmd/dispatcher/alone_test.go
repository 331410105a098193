package main_test

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	main "github.com/comfyherd/comfyherd/cmd/dispatcher"
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// startAlone is a NATS with all streams, a dead letter and no dispatcher.
func startAlone(t *testing.T) *fleet {
	t.Helper()
	server, err := natsserver.Start(natsserver.Config{Port: -1, StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	nc, err := nats.Connect(server.URL(), nats.Timeout(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	q, err := queue.Open(t.Context(), nc, queue.Config{})
	if err != nil {
		t.Fatal(err)
	}
	q.Close()
	letter := nats.NewMsg("comfy.dead.acme")
	letter.Header.Set("Comfy-Job-Id", "buried")
	if _, err := nc.RequestMsg(letter, testTimeout); err != nil {
		t.Fatal(err)
	}
	return &fleet{url: server.URL()}
}

func TestWithoutADispatcherCommandsDoWhatTheyCanAndSayWhatIsMissing(t *testing.T) {
	t.Parallel()
	f := startAlone(t)
	code, _, say := f.ask(t, picture, "submit", "-", "--wait", "--timeout=1s")
	if code != 4 || !strings.Contains(say, "no dispatcher is running, so all jobs wait") {
		t.Errorf("submit --wait: code %d, said %s", code, say)
	}
	input := filepath.Join(t.TempDir(), "cat.png")
	if err := os.WriteFile(input, []byte("a cat"), 0o600); err != nil {
		t.Fatal(err)
	}
	load := `{"10":{"class_type":"LoadImage","inputs":{"image":"x.png"}},"9":{"class_type":"SaveImage","inputs":{"images":["10",0],"filename_prefix":"ComfyUI"}}}`
	if code, out, say := f.ask(t, load, "submit", "-", "--id=kept", "--input=10.image="+input); code != 0 || out != "kept\n" {
		t.Errorf("submit --input: code %d, %q, %s", code, out, say)
	}
	f.expect(t, 0, []string{"cancel", "early", "--force", "--tenant=acme"}, "acme/early cancelled")
	f.expect(t, 0, []string{"status", "acme/early"}, "job early of tenant acme, priority 5", "cancelled")
	f.expect(t, 0, []string{"cancel", "acme/early"}, "acme/early was already cancelled")
	f.expect(t, 1, []string{"status", "nobody"}, "dispatcher: tenant default has no job nobody")
	for _, args := range [][]string{
		{"jobs"}, {"why", "early"}, {"queue"}, {"fetch", "early", "--out=" + t.TempDir()}, {"cancel", "--all", "--yes"}, {"hosts", "drain", "gpu-1"},
		{"dead", "requeue", "acme/buried"}, {"dead", "purge", "--all", "--yes"}, {"blocks", "clear", "--host=gpu-1"}, {"tenants", "set", "acme", "--weight=2"},
	} {
		f.expect(t, 1, args, "no dispatcher is running on this NATS: start one with `dispatcher run`")
	}
	text := told(t, f.url, []string{"watch", "--all", "--tenant=acme"}, "cancelled")
	if !strings.Contains(text, "acme/early") {
		t.Errorf("watch said %q", text)
	}

	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	begin := sync.OnceFunc(func() {
		running.Go(func() {
			if code := main.Run(ctx, []string{"run", "--nats-url=" + f.url, "--log-level=error"}, nil, io.Discard, io.Discard); code != 0 {
				t.Errorf("dispatcher run ended with %d", code)
			}
		})
	})
	waits := &ear{heard: func(said string) {
		if strings.Contains(said, "no dispatcher is running") {
			begin() // only now
		}
	}}
	bounded, stop := context.WithTimeout(t.Context(), testTimeout)
	defer stop()
	if code := main.Run(bounded, []string{"wait", "acme/early", "--nats-url=" + f.url}, nil, waits, waits); code != 3 || !strings.Contains(waits.text(), "early: cancelled by ") {
		t.Errorf("wait: code %d, said %s", code, waits.text())
	}
}

// A dispatcher's answer says that it is three hours later in NATS than on this machine.
func TestSubmitInCountsFromTheTimeOfNATS(t *testing.T) {
	t.Parallel()
	f := startAlone(t)
	code, _, say := f.ask(t, picture, "submit", "-", "--id=unknown", "--in=1h")
	if code != 0 || !strings.Contains(say, "note: no dispatcher answers and gives the time of NATS, so that --in=1h0m0s counts from this machine's clock") {
		t.Errorf("without a dispatcher: code %d, said %q", code, say)
	}
	nc, err := nats.Connect(f.url, nats.Timeout(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	ahead := time.Now().Add(3 * time.Hour)
	if _, err := nc.Subscribe("comfy.tenants.default.queue", func(msg *nats.Msg) {
		answer := nats.NewMsg(msg.Reply)
		answer.Header.Set("Comfy-Time", ahead.UTC().Format(time.RFC3339Nano))
		answer.Data = []byte("{}")
		_ = nc.PublishMsg(answer)
	}); err != nil {
		t.Fatal(err)
	}
	jobs, err := nc.SubscribeSync("comfy.jobs.default.5")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if code, _, say := f.ask(t, picture, "submit", "-", "--id=known", "--in=1h"); code != 0 || say != "" {
		t.Errorf("with a dispatcher: code %d, said %q", code, say)
	}
	msg, err := jobs.NextMsg(testTimeout)
	if err != nil {
		t.Fatal(err)
	}
	var spec struct {
		RunAt time.Time `json:"run_at"`
	}
	if err := json.Unmarshal(msg.Data, &spec); err != nil || spec.RunAt.Before(ahead.Add(time.Hour)) {
		t.Errorf("the job runs at %v, an hour from %v is later: %v", spec.RunAt, ahead, err)
	}
}
