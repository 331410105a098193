package gateway_test

import (
	"image/color"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// replacements are the nodes that the host b puts in the place of others. No host has FormerLoader, FormerSave, Former and Later.
const replacements = `{"Former":[{"new_node_id":"Later"}],"FormerLoader":[{"input_mapping":[{"new_id":"image","old_id":"file"}],"new_node_id":"LoadImage","output_mapping":[{"new_idx":0,"old_idx":3}]}],"FormerSave":[{"new_node_id":"SaveImage"}]}`

func TestNodesThatNoHostHasAreReplacedAsComfyUIReplacesThem(t *testing.T) {
	t.Parallel()
	f := open(t)
	withPacks(f)
	f.upload("/upload/image", "in.png", painted(t, color.White))
	former := graph{
		"1": node("FormerLoader", map[string]any{"file": "in.png", "dropped": 1}),
		"2": node("FormerSave", map[string]any{"images": []any{"1", 3}, "filename_prefix": "former"}),
	}
	id := f.prompt(map[string]any{"prompt": former})
	entry := f.ended(id)
	if name := saved(t, entry, "2").Get("filename"); !strings.HasPrefix(name, "former") {
		t.Errorf("the picture is %q", name)
	}
	prompt, _ := entry["prompt"].([]any)
	want := map[string]any{
		"1": node("LoadImage", map[string]any{"image": "in.png"}),
		"2": node("SaveImage", map[string]any{"images": []any{"1", 0.0}, "filename_prefix": "former"}),
	}
	if diff := cmp.Diff(want, prompt[2]); diff != "" {
		t.Errorf("the history does not show what has run:\n%s", diff)
	}
	var v2 struct{ ID string }
	f.do(http.MethodPost, "/api/v2/jobs", map[string]any{"workflow": former}).into(t, &v2)
	f.ended(v2.ID)
	if diff := cmp.Diff(want, f.get("/api/v2/jobs/" + v2.ID + "/workflow")["workflow"]); diff != "" {
		t.Errorf("the workflow of the job in the Comfy API v2 is not the one that has run:\n%s", diff)
	}
}

func TestAReplacementThatNoHostHasEitherIsRefusedUnderTheFormerName(t *testing.T) {
	t.Parallel()
	f := open(t)
	withPacks(f)
	missing := picture(31)
	missing["3"] = node("Former", map[string]any{"x": 1})
	a := f.do(http.MethodPost, "/prompt", map[string]any{"prompt": missing})
	var refusal struct {
		Error struct {
			Type  string
			Extra map[string]any `json:"extra_info"`
		}
	}
	if a.into(t, &refusal); a.status != http.StatusBadRequest || refusal.Error.Type != "missing_node_type" || refusal.Error.Extra["class_type"] != "Former" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := f.do(http.MethodPost, "/api/v2/jobs", map[string]any{"workflow": missing}); a.status != http.StatusUnprocessableEntity || !strings.Contains(string(a.body), "Former") {
		t.Errorf("v2: %d %s", a.status, a.body)
	}
}
