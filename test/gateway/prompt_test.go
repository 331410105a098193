package gateway_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
)

func TestAPromptRunsAndItsHistoryIsComplete(t *testing.T) {
	t.Parallel()
	f := open(t)
	id := uuid.NewString()
	a := f.do(http.MethodPost, "/api/prompt", map[string]any{
		"prompt": picture(1), "prompt_id": id, "client_id": "tab", "extra_data": map[string]any{"extra_pnginfo": map[string]any{"workflow": map[string]any{"id": "w"}}},
	})
	var got struct {
		ID     string         `json:"prompt_id"`
		Number float64        `json:"number"`
		Errors map[string]any `json:"node_errors"`
	}
	a.into(t, &got)
	if a.status != http.StatusOK || got.ID != id || got.Number == 0 || got.Errors == nil || len(got.Errors) != 0 {
		t.Fatalf("POST /prompt: %d %s", a.status, a.body)
	}
	entry := f.ended(id)
	status, _ := entry["status"].(map[string]any)
	if status["status_str"] != "success" || status["completed"] != true {
		t.Errorf("status %v", status)
	}
	tuple, _ := entry["prompt"].([]any)
	if len(tuple) != 5 || tuple[0] != got.Number || tuple[1] != id {
		t.Fatalf("prompt %v", tuple)
	}
	extra, _ := tuple[3].(map[string]any)
	if extra["client_id"] != "tab" || extra["create_time"] == nil || extra["extra_pnginfo"] == nil {
		t.Errorf("extra data %v", extra)
	}
	outputs, _ := entry["outputs"].(map[string]any)
	saved, _ := outputs["2"].(map[string]any)
	images, _ := saved["images"].([]any)
	if len(images) != 1 {
		t.Fatalf("outputs %v", outputs)
	}
	image, _ := images[0].(map[string]any)
	if image["subfolder"] != id || image["type"] != "output" || image["filename"] != "ComfyUI_00001_.png" {
		t.Errorf("image %v", image)
	}
}

func TestKeysOfAPromptAreShownNowhere(t *testing.T) {
	t.Parallel()
	f := open(t)
	const secret = "comfyui-secret-0123456789"
	id := f.prompt(map[string]any{"prompt": slow(0.3, 3), "extra_data": map[string]any{"api_key_comfy_org": secret, "note": "kept"}})
	queue := f.do(http.MethodGet, "/queue", nil)
	f.ended(id)
	history, detail := f.do(http.MethodGet, "/history/"+id, nil), f.do(http.MethodGet, "/api/jobs/"+id, nil)
	for name, a := range map[string]*answer{"queue": queue, "history": history, "job": detail} {
		if bytes.Contains(a.body, []byte(secret)) || !bytes.Contains(a.body, []byte("kept")) {
			t.Errorf("%s: %s", name, a.body)
		}
	}
	got := false
	for _, sim := range shared.sims {
		for _, sent := range sim.Prompts() {
			got = got || bytes.Contains(sent, []byte(secret))
		}
	}
	if !got {
		t.Error("the host was not given the key")
	}
}

func TestAPromptMayBeLargerThanAMessage(t *testing.T) {
	t.Parallel()
	f := open(t)
	g := picture(4)
	g["9"] = node("SimText", map[string]any{"text": strings.Repeat("a picture in base64 ", 60_000)})
	g["8"] = node("PreviewAny", map[string]any{"source": []any{"9", 0}})
	id := f.prompt(map[string]any{"prompt": g})
	if entry := f.ended(id); saved(t, entry, "2") == nil {
		t.Errorf("%v", entry["status"])
	}
}
