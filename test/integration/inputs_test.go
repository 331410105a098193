package integration_test

import (
	"bytes"
	"encoding/base64"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
)

// pngOf is a small picture of one colour.
func pngOf(t *testing.T, c color.RGBA) []byte {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, 8, 8))
	for i := range 64 {
		img.SetRGBA(i%8, i/8, c)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// loads is a job that loads a file and saves it as it is.
func loads(in job.Input) job.Spec {
	in.Node, in.Input = "1", "image"
	return job.Spec{Inputs: []job.Input{in}, Workflow: graph(map[string]any{
		"1": node("LoadImage", "image", "replaced.png"),
		"9": node("SaveImage", "images", link("1"), "filename_prefix", "out"),
	})}
}

func TestInputsReachTheWorkflowFromObjectsURLsAndDataURIs(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 1, hosts: names("a"), agent: agent.Config{InputURLs: "127.0.0.0/8"}})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("token") != "secret" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_, _ = w.Write(pngOf(t, rgb(0x00ff00)))
	}))
	f.stops = append(f.stops, server.Close)
	if _, err := f.q.StoreInput(f.context(), "acme/in/cat.png", "image/png", bytes.NewReader(pngOf(t, rgb(0xff0000)))); err != nil {
		t.Fatal(err)
	}
	data := "data:image/png;base64," + base64.StdEncoding.EncodeToString(pngOf(t, rgb(0x0000ff)))
	for want, in := range map[int]job.Input{
		0xff0000: {Object: "acme/in/cat.png"},
		0x00ff00: {URL: server.URL + "/cat.png?token=secret"},
		0x0000ff: {URL: data, Filename: "cat.png"},
	} {
		f.wantPicture(f.end(f.submit("acme", loads(in))), rgb(want))
	}
	files := f.sims["a"].Files("input")
	slices.Sort(files)
	if len(slices.Compact(files)) != 3 {
		t.Errorf("uploaded are %q, want three files of their own", files)
	}
	for _, file := range files {
		if !strings.HasPrefix(file, "comfyherd/") || !strings.HasSuffix(file, "cat.png") {
			t.Errorf("uploaded as %s", file)
		}
	}
	for subject := range f.subjects("COMFY_EVENTS", "comfy.events.jobs.>") {
		if m := f.stored("COMFY_EVENTS", subject); strings.Contains(string(m.Data), "secret") {
			t.Errorf("a secret stands in %s: %s", subject, m.Data)
		}
	}
}

func TestAnInputThatIsNotThereEndsTheJobAtOnce(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 1, hosts: names("a", "b"), agent: agent.Config{InputURLs: "127.0.0.0/8"}})
	server := httptest.NewServer(http.NotFoundHandler())
	f.stops = append(f.stops, server.Close)
	for name, in := range map[string]job.Input{
		"no such object": {Object: "acme/in/none.png"},
		"HTTP 404":       {URL: server.URL + "/none.png?token=secret"},
	} {
		spec := loads(in)
		end := f.end(f.submit("acme", spec))
		if end.EventKind != job.Dead || end.Reason != string(failure.NotRetryable) || end.Kind != failure.InvalidWorkflow || len(end.Attempts) != 1 {
			t.Errorf("%s: ended %s, %s, %s after %d attempts", name, end.EventKind, end.Reason, end.Kind, len(end.Attempts))
		}
		if !strings.Contains(end.Message, "input image of node 1") || strings.Contains(end.Message, "secret") {
			t.Errorf("%s: the message is %q", name, end.Message)
		}
	}
	if n := f.runs(); n["a"]+n["b"] != 0 {
		t.Errorf("runs are %v", n)
	}
	if n := f.total("COMFY_EVENTS", "comfy.events.blocks.>"); n != 0 {
		t.Errorf("%d block events", n)
	}
}

func TestAnUploadThatFailsSendsTheJobElsewhere(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 1, hosts: []comfysim.Config{
		{Name: "a", Faults: []comfysim.Fault{{Kind: comfysim.FaultStatus, Path: "/upload/image"}}}, {Name: "b"},
	}})
	spec := loads(job.Input{URL: "data:image/png;base64," + base64.StdEncoding.EncodeToString(pngOf(t, rgb(0x123456)))})
	spec.PreferHosts = []string{"a"}
	chain := f.chain(f.submit("acme", spec))
	if got, want := story(chain), "queued started@a failed@a retrying started@b completed@b"; got != want {
		t.Fatalf("chain is %q, want %q: %s", got, want, chain[len(chain)-1].Message)
	}
	if e := chain[2]; e.Kind != failure.HostSick || !strings.Contains(e.Message, "cannot store input files") {
		t.Errorf("failed as %s: %s", e.Kind, e.Message)
	}
	f.wantPicture(chain[5], rgb(0x123456))
}
