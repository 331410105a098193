package integration_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// planted is a key that nobody but ComfyUI may see.
const planted = "comfyui-planted-0123456789abcdef"

// journal keeps what is written, from any goroutine.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) text() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// withKey is an envelope whose extra_data has the planted key.
func withKey(id, rest string, workflow []byte) []byte {
	return fmt.Appendf(nil, `{"id":%q,"extra_data":{"api_key_comfy_org":%q,"other":[%[2]q],"extra_pnginfo":{"workflow":{"nodes":[]}}}%[3]s,"workflow":%[4]s}`, id, planted, rest, workflow)
}

// A job of each end is run with a key in its extra_data; then nothing that the run leaves behind has the key: no event, letter,
// answer or log line, and no byte of NATS' files.
func TestNoKeyOfAJobIsLeftBehind(t *testing.T) {
	t.Parallel()
	quotes := comfysim.Fault{Kind: comfysim.FaultRaise, Class: "ImageInvert", Exception: "ValueError", Message: "401 for key " + planted}
	log := &journal{}
	f := start(t, setup{dispatchers: 1, log: log, hosts: []comfysim.Config{{Name: "a", Faults: []comfysim.Fault{quotes}}}})
	everything := f.subscribe("comfy.>") // offers too, which have it
	const lane = "comfy.jobs.acme.5"
	wants := map[string]job.EventKind{
		"completes": job.Completed, "raises": job.Dead, "expires": job.Dead, "cancelled": job.Cancelled,
	}
	f.publish(lane, fmt.Appendf(nil, `{"id":"stands","only_hosts":["b"],"workflow":%s}`, picture(9))) // NATS removes a file with nothing in it
	f.publish(lane, withKey("completes", "", picture(1)))
	f.publish(lane, withKey("raises", `,"max_attempts":1`, inverted(1, 1)))
	f.publish(lane, withKey("expires", `,"expires_in":"1ms","only_hosts":["b"]`, picture(2)))
	f.publish(lane, withKey("cancelled", `,"only_hosts":["b"]`, picture(3)))
	invalid := f.ours("acme", f.publish(lane, withKey("", `,"max_attempts":1000`, picture(4))))
	noJSON := f.ours("acme", f.publish(lane, withKey("", `,"max_attempts":1`, []byte("{"))))
	f.await(receipt("acme", "cancelled"), job.Waiting)
	call[jetstream.CancelAnswer](f, "cancel", jetstream.CancelRequest{Tenant: "acme", Job: "cancelled"})
	for id, want := range wants {
		if end := f.end(receipt("acme", id)); end.EventKind != want {
			t.Errorf("%s ended %s: %s, want %s", id, end.EventKind, end.Message, want)
		} else if id == "raises" && !strings.Contains(end.Message, "401 for key [extra_data]") {
			t.Errorf("the dead event says %q", end.Message)
		}
	}
	f.end(invalid)
	f.end(noJSON)
	if runs := f.sims["a"].Runs(); len(runs) == 0 || !strings.Contains(runs[0].ExtraData, planted) {
		t.Fatalf("ComfyUI got %+v, want the key", runs)
	}

	// Letters without their secret do not run again by themselves.
	f.sims["a"].ClearFaults()
	call[queue.CountAnswer](f, "unblock", queue.UnblockRequest{Host: "a"})
	request := jetstream.RequeueRequest{Tenant: "acme", Job: "raises"}
	if answer := call[jetstream.RequeueAnswer](f, "requeue", request); answer.Count != 0 || len(answer.NeedExtraData) != 1 {
		t.Errorf("requeue without extra_data answers %+v", answer)
	}
	request.ExtraData = fmt.Appendf(nil, `{"own_key":%q}`, planted)
	if answer := call[jetstream.RequeueAnswer](f, "requeue", request); answer.Jobs["raises"] != "raises-r1" {
		t.Fatalf("requeue answers %+v", answer)
	}
	if end := f.end(receipt("acme", "raises-r1")); end.EventKind != job.Completed {
		t.Errorf("the requeued job ended %s: %s", end.EventKind, end.Message)
	}
	runs := f.sims["a"].Runs()
	if last := runs[len(runs)-1]; !strings.Contains(last.ExtraData, planted) {
		t.Errorf("the requeued job ran with %s", last.ExtraData)
	}
	letters := call[jetstream.DeadAnswer](f, "dead", jetstream.DeadRequest{})
	if len(letters.Dead) != 4 {
		t.Errorf("%d jobs are dead, want 4", len(letters.Dead))
	}
	if letter := f.letter(invalid); strings.Join(letter.ExtraData(), ",") != "api_key_comfy_org,extra_pnginfo,other" || letter.Reason != failure.InvalidJob {
		t.Errorf("the letter says that it had %v", letter.ExtraData())
	}
	heard := 0
	for pending, _, err := everything.Pending(); pending > 0 && err == nil; pending, _, err = everything.Pending() {
		msg := f.next(everything)
		heard++
		offered := strings.HasSuffix(msg.Subject, ".offer") || strings.HasPrefix(msg.Subject, "comfy.jobs.") || msg.Subject == "comfy.api.requeue"
		if !offered && bytes.Contains(msg.Data, []byte(planted)) {
			t.Errorf("%s has the key: %s", msg.Subject, msg.Data)
		}
	}
	if heard < 20 {
		t.Errorf("only %d messages were heard", heard)
	}
	if strings.Contains(log.text(), planted) {
		t.Error("a log line has the key")
	}
	if !strings.Contains(log.text(), "raises") {
		t.Error("the log was not read")
	}
	f.eventually("NATS has written what it knows", func() bool { return len(filesWith(t, f.dir, planted)) == 0 })
	if len(filesWith(t, f.dir, "COMFY_JOBS")) == 0 {
		t.Error("no file of NATS was read")
	}
	call[jetstream.CancelAnswer](f, "cancel", jetstream.CancelRequest{Tenant: "acme", Job: "stands"})
	f.drained()
}

// filesWith names the files below a folder that have a text.
func filesWith(t *testing.T, dir, text string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() { // else it was removed meanwhile
			if content, err := os.ReadFile(path); err == nil && bytes.Contains(content, []byte(text)) {
				found = append(found, path)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestAPIKeysReachComfyUIAndAreWrittenNowhere(t *testing.T) {
	t.Parallel()
	const secret = "comfyui-4f9c1d7e-never-on-a-disk"
	f := startClosed(t, comfysim.Config{Name: "gpu-1"})
	nc, _ := f.tenant("acme")
	acme := jetstream.NewClient(nc, "acme")
	if _, err := acme.KeepAPIKeys(f.context(), jetstream.APIKeys{Job: "one", APIKey: secret}); err != nil {
		t.Fatal(err)
	}
	spec := jetstream.Spec{ID: "one", Workflow: picture(0x123456), APIKeys: true, Record: true}
	if _, err := acme.Submit(f.context(), 5, spec); err != nil {
		t.Fatal(err)
	}
	if end := f.end(receipt("acme", "one")); end.EventKind != job.Completed {
		t.Fatalf("the job ended %+v", end)
	}
	if got := string(f.sims["gpu-1"].Prompts()[0]); !strings.Contains(got, secret) {
		t.Errorf("ComfyUI got %s", got)
	}
	f.eventually("the keys are removed", func() bool {
		keys, err := f.q.APIKeys(f.context(), "acme", "one")
		return err == nil && keys == nil
	})
	if held := filesWith(t, f.dir, secret); len(held) > 0 {
		t.Errorf("the key is in %v", held)
	}
	spec.ID = "late"
	if _, err := acme.Submit(f.context(), 5, spec); err != nil {
		t.Fatal(err)
	}
	if end := f.end(receipt("acme", "late")); end.EventKind != job.Dead || !strings.Contains(end.Message, "no keys are kept") {
		t.Errorf("a job without its keys ended %+v", end)
	}
	var bad *jetstream.BadRequest
	if _, err := acme.KeepAPIKeys(f.context(), jetstream.APIKeys{Job: "j-1", APIKey: secret}); !errors.As(err, &bad) {
		t.Errorf("keys of an id that nobody may use: %v", err)
	}
}
