package integration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// sends is a workflow whose picture comes over the websocket only.
func sends(color int) json.RawMessage {
	return graph(map[string]any{
		"1": node("EmptyImage", "width", 1200, "height", 900, "batch_size", 2, "color", color),
		"2": node("SaveImageWebsocket", "images", link("1")),
	})
}

// frames follows a tenant's frames until the test ends.
func (f *fleet) frames(tenant job.Tenant) <-chan queue.Frame {
	f.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	all, done := make(chan queue.Frame, 1000), make(chan struct{})
	before := f.nc.NumSubscriptions()
	go func() {
		defer close(done)
		_ = f.q.FollowFrames(ctx, tenant, func(frame queue.Frame) { all <- frame })
	}()
	f.t.Cleanup(func() { stop(); <-done })
	f.eventually("the subscription to frames", func() bool { return f.nc.NumSubscriptions() > before && f.nc.FlushWithContext(f.context()) == nil })
	return all
}

// recorded reads the record of a job's run.
func (f *fleet) recorded(tenant, id string) map[string]any {
	f.t.Helper()
	body, _, err := f.q.OpenOutput(f.context(), queue.RecordName(job.Tenant(tenant), job.ID(id)))
	if err != nil {
		f.t.Fatal(err)
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	if err != nil {
		f.t.Fatal(err)
	}
	var record map[string]any
	if err := json.Unmarshal(text, &record); err != nil {
		f.t.Fatalf("the record is %s: %v", text, err)
	}
	return record
}

// kindsOf are the kinds of text frames in their order, and how many bytes the binary ones have.
func kindsOf(t *testing.T, frames []queue.Frame) (kinds []string, pictures []int) {
	t.Helper()
	for _, f := range frames {
		if f.Binary {
			pictures = append(pictures, len(f.Data))
			continue
		}
		if !bytes.HasPrefix(f.Data, []byte(`{"type":`)) {
			t.Errorf("a frame begins with %.20s", f.Data)
		}
		var message struct{ Type string }
		if err := json.Unmarshal(f.Data, &message); err != nil {
			t.Errorf("%s: %v", f.Data, err)
		}
		kinds = append(kinds, message.Type)
	}
	return kinds, pictures
}

func TestAJobThatAsksForItHasItsFramesAndItsRecord(t *testing.T) {
	t.Parallel()
	f := startClosed(t, comfysim.Config{Name: "gpu-1"})
	frames := f.frames("acme")
	acme, _ := f.tenant("acme")
	events, seen := f.listen(acme, "comfy.events.jobs.acme.>"), f.listen(acme, "comfy.live.jobs.acme.*.frame")
	f.publish(acme, "acme", job.Spec{ID: "one", Workflow: sends(0x336699), Live: job.LiveFrames, ExtraData: json.RawMessage(`{"api_key":"very-secret"}`)})
	completed, err := job.DecodeEvent(job.Completed, f.next(events, ".one.completed").Data)
	if err != nil {
		t.Fatal(err)
	}
	got := []queue.Frame{<-frames}
	for ; got[len(got)-1].Number < 8; got = append(got, <-frames) {
	}
	kinds, pictures := kindsOf(t, got)
	kinds = slices.DeleteFunc(kinds, func(kind string) bool { return kind == "progress_state" }) // five a second at most
	if diff := cmp.Diff([]string{"execution_start", "execution_cached", "executing", "executing"}, kinds[:4]); diff != "" {
		t.Error(diff)
	}
	if slices.ContainsFunc(kinds, func(kind string) bool { return strings.HasPrefix(kind, "execution_s") && kind != "execution_start" }) {
		t.Errorf("an end is among %v", kinds)
	}
	if len(pictures) == 0 || pictures[0] < int(completed.Outputs[0].Size) {
		t.Errorf("the pictures have %v bytes, the outputs %v", pictures, completed.Outputs)
	}
	for i, frame := range got {
		if frame.Number != uint64(i+1) || frame.Attempt != 1 || frame.Job != "one" {
			t.Errorf("frame %d is number %d of %s#%d", i+1, frame.Number, frame.Job, frame.Attempt)
		}
	}
	if msg := f.next(seen, ".one.frame"); msg.Header.Get("Comfy-Attempt") != "1" || msg.Header.Get("Comfy-Frame-Kind") != "text" {
		t.Errorf("the tenant gets %v", msg.Header)
	}
	record := f.recorded("acme", "one")
	entry, _ := record[completed.PromptID].(map[string]any)
	if status, _ := entry["status"].(map[string]any); status["status_str"] != "success" {
		t.Errorf("the record is %v", record)
	}
	if text, _ := json.Marshal(record); bytes.Contains(text, []byte("very-secret")) || !bytes.Contains(text, []byte("[extra_data]")) {
		t.Errorf("the record shows a secret: %s", text)
	}
}

func TestARunThatFailsHasARecordAndAPlainJobHasNone(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 1, hosts: names("a")})
	fails := graph(map[string]any{
		"1": node("EmptyImage", "width", 16, "height", 16, "batch_size", 1, "color", 0),
		"2": node("SimRaise", "image", link("1"), "kind", "ValueError", "message", "no such luck"),
		"3": node("SaveImage", "images", link("2"), "filename_prefix", "x"),
	})
	dead := f.end(f.submit("acme", job.Spec{ID: "fails", Workflow: fails, MaxAttempts: 1, Record: true}))
	if dead.EventKind != job.Dead {
		t.Fatalf("the job ended %+v", dead)
	}
	text, _ := json.Marshal(f.recorded("acme", "fails"))
	if !bytes.Contains(text, []byte("execution_error")) || !bytes.Contains(text, []byte("no such luck")) {
		t.Errorf("the record is %s", text)
	}
	f.end(f.submit("acme", job.Spec{ID: "plain", Workflow: picture(0x112233)}))
	if _, _, err := f.q.OpenOutput(f.context(), queue.RecordName("acme", "plain")); err == nil {
		t.Error("a job that did not ask for a record has one")
	}
}

func TestHostsThatAreInstalledAlikeShareTheirCatalogue(t *testing.T) {
	t.Parallel()
	models := map[string][]string{"checkpoints": {"a.safetensors"}}
	f := startClosed(t, comfysim.Config{Name: "gpu-1", Models: models}, comfysim.Config{Name: "gpu-2", Models: models})
	catalogs := map[string]queue.Catalog{}
	changes, both := make(chan queue.Change[queue.Catalog]), make(chan struct{})
	ctx, stop := context.WithCancel(context.Background())
	defer func() { stop(); <-both }()
	go func() {
		defer close(both)
		_ = f.q.WatchCatalogs(ctx, func(c queue.Change[queue.Catalog]) {
			select {
			case changes <- c:
			case <-ctx.Done():
			}
		})
	}()
	for len(catalogs) < 2 {
		if c := <-changes; c.Phase == queue.Put {
			catalogs[c.Key] = c.Value
		}
	}
	if diff := cmp.Diff(catalogs["gpu-1"].Blobs, catalogs["gpu-2"].Blobs); diff != "" {
		t.Error(diff)
	}
	for route, want := range map[string]string{"object_info": `"a.safetensors"`, "models": `"checkpoints"`, "models/checkpoints": `["a.safetensors"]`} {
		body, err := f.q.CatalogBlob(f.context(), catalogs["gpu-1"].Blobs[route])
		if err != nil || !bytes.Contains(body, []byte(want)) {
			t.Errorf("%s is %.200s, %v; want %s in it", route, body, err, want)
		}
	}
}

func TestPagesThatDescribeAHostArePassedOn(t *testing.T) {
	t.Parallel()
	files := []string{"a.safetensors"}
	for range 3_000 {
		files = append(files, "a-model-with-"+strings.Repeat("a-long-name-", 30)+".safetensors")
	}
	f := startClosed(t, comfysim.Config{Name: "gpu-1", Models: map[string][]string{"loras": files}})
	for route, want := range map[string]struct {
		status int
		text   string
	}{
		"view_metadata/loras": {200, `{"modelspec.title":"a"}`}, "api/models/loras": {200, "a-model-with"}, "models/nothing": {404, ""}, "object_info/KSampler": {200, "sampler_name"},
		"view": {403, "none of the routes"}, "internal/logs": {403, ""}, "userdata": {403, ""}, "models/../history": {403, ""}, "system_stats": {403, ""}, "": {403, ""},
		"object_info": {403, ""}, "models/%2e%2e/history": {403, ""}, "extensions//x": {403, ""},
	} {
		got, err := f.q.HostPage(f.context(), "gpu-1", queue.PageRequest{Route: route, Query: url.Values{"filename": {"a.safetensors"}}})
		if err != nil || got.Status != want.status || !strings.Contains(string(got.Body), want.text) {
			t.Errorf("%s: %d %.100s, %v; want %d %s", route, got.Status, got.Body, err, want.status, want.text)
		}
		if route == "api/models/loras" && len(got.Body) < 1<<20 {
			t.Errorf("the list has %d bytes, less than a message", len(got.Body))
		}
	}
	if _, err := f.q.HostPage(f.context(), "nowhere", queue.PageRequest{Route: "models"}); !errors.Is(err, queue.ErrNoAgent) {
		t.Errorf("a host that is not there: %v", err)
	}
}
