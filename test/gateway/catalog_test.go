package gateway_test

import (
	"image/color"
	"net/http"
	"slices"
	"testing"
)

// catalogued waits until both hosts are in the merged object_info.
func catalogued(f *face) map[string]any {
	f.t.Helper()
	for {
		info := f.get("/api/object_info")
		if slices.Contains(choices(info), onlyB) {
			return info
		}
	}
}

func choices(info map[string]any) []string {
	loader, _ := info["CheckpointLoaderSimple"].(map[string]any)
	input, _ := loader["input"].(map[string]any)
	required, _ := input["required"].(map[string]any)
	spec, _ := required["ckpt_name"].([]any)
	var list []string
	if len(spec) > 0 {
		all, _ := spec[0].([]any)
		for _, one := range all {
			text, _ := one.(string)
			list = append(list, text)
		}
	}
	return list
}

func TestTheFleetLooksLikeOneComfyUI(t *testing.T) {
	t.Parallel()
	f := open(t)
	info := catalogued(f)
	if !slices.Contains(choices(info), checkpoint) || info["KSampler"] == nil {
		t.Errorf("the choices are %v", choices(info))
	}
	a := f.do(http.MethodGet, "/object_info", nil, "Accept-Encoding", "gzip")
	if a.header.Get("Content-Encoding") != "gzip" || a.header.Get("ETag") == "" {
		t.Errorf("%v", a.header)
	}
	if again := f.do(http.MethodGet, "/object_info", nil, "If-None-Match", a.header.Get("ETag")); again.status != http.StatusNotModified {
		t.Errorf("with its ETag: %d", again.status)
	}
	if one := f.get("/object_info/SaveImage"); one["SaveImage"] == nil {
		t.Errorf("one class: %v", one)
	}
	if none := f.get("/object_info/Nobody"); len(none) != 0 {
		t.Errorf("no class: %v", none)
	}
	var models []string
	f.do(http.MethodGet, "/models/checkpoints", nil).into(t, &models)
	if !slices.Contains(models, onlyB) {
		t.Errorf("models: %v", models)
	}
	if a := f.do(http.MethodGet, "/models/nothing", nil); a.status != http.StatusNotFound {
		t.Errorf("an unknown folder: %d", a.status)
	}
	stats := f.get("/system_stats")
	devices, _ := stats["devices"].([]any)
	system, _ := stats["system"].(map[string]any)
	if len(devices) != 4 || system["argv"] == nil {
		t.Errorf("%v", stats)
	}
}

func TestWhatNoHostCanRunIsRefusedAsComfyUIRefusesIt(t *testing.T) {
	t.Parallel()
	f := open(t)
	catalogued(f)
	loads := func(name string) graph {
		return graph{
			"4": node("CheckpointLoaderSimple", map[string]any{"ckpt_name": name}),
			"5": node("EmptyLatentImage", map[string]any{"width": 64, "height": 64, "batch_size": 1}),
			"8": node("VAEDecode", map[string]any{"samples": []any{"5", 0}, "vae": []any{"4", 2}}),
			"9": node("SaveImage", map[string]any{"images": []any{"8", 0}, "filename_prefix": "x"}),
		}
	}
	type refusal struct {
		Error struct {
			Type, Message string
			Extra         map[string]any `json:"extra_info"`
		}
		Nodes map[string]struct {
			Class  string `json:"class_type"`
			Errors []struct {
				Type  string
				Extra map[string]any `json:"extra_info"`
			}
		} `json:"node_errors"`
	}
	refused := func(g any) refusal {
		a := f.do(http.MethodPost, "/prompt", map[string]any{"prompt": g})
		var got refusal
		if a.into(t, &got); a.status != http.StatusBadRequest {
			t.Errorf("%d %s", a.status, a.body)
		}
		return got
	}
	if got := refused(loads("nobody-has-this.safetensors")); got.Error.Type != "prompt_outputs_failed_validation" || len(got.Nodes["4"].Errors) != 1 ||
		got.Nodes["4"].Errors[0].Type != "value_not_in_list" || got.Nodes["4"].Errors[0].Extra["received_value"] != "nobody-has-this.safetensors" {
		t.Errorf("a missing model: %+v", got)
	}
	missing := picture(30)
	missing["3"] = node("NobodyHasThis", map[string]any{"x": 1})
	if got := refused(missing); got.Error.Type != "missing_node_type" || got.Error.Extra["node_id"] != "3" || got.Error.Extra["class_type"] != "NobodyHasThis" {
		t.Errorf("a missing class: %+v", got)
	}
	if got := refused(graph{}); got.Error.Type == "" || got.Error.Message == "" {
		t.Errorf("an empty prompt: %+v", got)
	}
	id := f.prompt(map[string]any{"prompt": loads(onlyB)}) // only B has it, and gets it
	if entry := f.ended(id); saved(t, entry, "9") == nil {
		t.Errorf("%v", entry)
	}
	if len(f.get("/history")) != 1 {
		t.Error("what was refused is in the history")
	}
}

// ComfyUI's page fills the list of a node that loads a picture from object_info.
func TestUploadsOfATenantAreAmongItsChoices(t *testing.T) {
	t.Parallel()
	f := open(t, tenantOf(t), tenantOf(t)[:20]+"-other")
	catalogued(f)
	f.get("/object_info") // which gateways keep
	f.upload("/upload/image", "mine.png", painted(t, color.White))
	f.upload("/upload/image", "deep.png", painted(t, color.White), "subfolder", "below")
	offered := func(f *face, path string) []any {
		loader, _ := f.get(path)["LoadImage"].(map[string]any)
		required, _ := loader["input"].(map[string]any)["required"].(map[string]any)
		spec, _ := required["image"].([]any)
		if len(spec) == 0 {
			t.Fatalf("%s: LoadImage has no image: %v", path, loader)
		}
		list, _ := spec[0].([]any)
		return list
	}
	for _, path := range []string{"/object_info", "/object_info/LoadImage"} {
		if list := offered(f, path); !slices.Contains(list, any("mine.png")) || slices.Contains(list, any("below/deep.png")) {
			t.Errorf("%s: the choices are %v", path, list)
		}
		if list := offered(f.as(tenantOf(t)[:20]+"-other"), path); slices.Contains(list, any("mine.png")) {
			t.Errorf("%s: another tenant may choose %v", path, list)
		}
	}
	var files []string
	if f.do(http.MethodGet, "/internal/files/input", nil).into(t, &files); !slices.Contains(files, "mine.png") {
		t.Errorf("the files are %v", files)
	}
}
