package comfy_test

import (
	"bytes"
	"image"
	"image/png"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// ComfyUI answers the node from its cache the second time, with an id that the node pack may have forgotten.
func TestPicturesInTheMemoryOfANodePackAreOutputsOfEachPrompt(t *testing.T) {
	t.Parallel()
	r := simulate(t, comfysim.Config{KeepCache: true, Packs: comfysim.Packs{Tooling: true}})
	var picture bytes.Buffer
	if err := png.Encode(&picture, image.NewRGBA(image.Rect(0, 0, 8, 8))); err != nil {
		t.Fatal(err)
	}
	if err := r.host.PutCached(within(t), "an-id", &picture); err != nil {
		t.Fatal(err)
	}
	nodes := map[string]any{
		"1": node(workflow.CacheClass, map[string]any{workflow.CacheInput: "an-id"}),
		"9": node("ETN_SaveImageCache", map[string]any{"images": link("1"), "format": "PNG"}),
	}
	var names []string
	for range 2 {
		result, err := r.run(promptOf(t, nodes), comfy.Watch{})
		if err != nil || len(result.Outputs) != 1 || result.Missing {
			t.Fatalf("%+v, %v", result, err)
		}
		o := result.Outputs[0]
		if o.Type != workflow.CachedOutput || o.Media != "images" || !strings.HasSuffix(o.Filename, ".png") {
			t.Errorf("%+v", o)
		}
		if content, contentType := readAll(t, r.host, o); !bytes.HasPrefix(content, []byte("\x89PNG")) || contentType != "image/png" {
			t.Errorf("%s %.20q", contentType, content)
		}
		names = append(names, o.Filename)
	}
	if names[0] == names[1] {
		t.Error("the second prompt has the picture of the first")
	}
	_, _, _, err := r.host.Open(within(t), comfy.Output{Filename: "forgotten.png", Type: workflow.CachedOutput})
	if failure.KindOf(err) != failure.Lost {
		t.Errorf("a picture that was forgotten: %v", err)
	}
}

func TestAPictureThatANodePackDoesNotTakeSaysWhoIsAtFault(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]failure.Kind{
		http.StatusOK: "", http.StatusCreated: "", http.StatusAccepted: failure.Refused, http.StatusNotFound: failure.Refused,
		http.StatusInternalServerError: failure.HostLost, http.StatusBadGateway: failure.HostLost,
	} {
		host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		if err := host.PutCached(within(t), "a", strings.NewReader("x")); failure.KindOf(err) != want {
			t.Errorf("%d: %v", status, err)
		}
	}
	if err := gone(t).PutCached(within(t), "a", strings.NewReader("x")); failure.KindOf(err) != failure.HostLost {
		t.Errorf("of a host that is gone: %v", err)
	}
	if !workflow.CachedID("aZ09-_") || slices.ContainsFunc([]string{"", "a/b", "a.b", "..", "a b", strings.Repeat("a", 129)}, workflow.CachedID) {
		t.Error("another id is taken")
	}
}
