package gateway_test

import (
	"bytes"
	"fmt"
	"image/color"
	"image/png"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// Krita puts its pictures into the memory of ComfyUI, and gets the results from there as soon as a node has made them.
func TestKritaCarriesItsPicturesOverHTTP(t *testing.T) {
	t.Parallel()
	f := open(t, tenantOf(t), tenantOf(t)+"-other")
	other := f.as(tenantOf(t) + "-other")
	withPacks(f)
	client := uuid.NewString()
	s := f.socket(client)
	for _, picture := range [][]byte{[]byte("no picture"), painted(t, color.RGBA{1, 2, 3, 255})} { // the second replaces the first
		if a := f.do(http.MethodPut, "/api/etn/image/0badcafe", picture, "Expect", "100-continue"); a.status != http.StatusCreated || string(a.body) != `{"status":"success"}` {
			t.Fatalf("PUT: %d %s", a.status, a.body)
		}
	}
	for path, picture := range map[string]string{"/api/etn/image/a.b": "x", "/api/etn/image/..%2Fx": "x", "/api/etn/image/" + strings.Repeat("a", 129): "x"} {
		if a := f.do(http.MethodPut, path, picture); a.status != http.StatusBadRequest {
			t.Errorf("PUT %s: %d %s", path, a.status, a.body)
		}
	}
	g := graph{
		"1": node("ETN_LoadImageCache", map[string]any{"id": "0badcafe"}),
		"3": node("SimSleep", map[string]any{"image": []any{"1", 0}, "seconds": 0, "steps": 0, "preview": "none"}),
		"2": node("ETN_SaveImageCache", map[string]any{"images": []any{"3", 0}, "format": "PNG"}),
	}
	id := f.prompt(map[string]any{"prompt": g, "client_id": client, "prompt_id": uuid.NewString()})
	made := s.until("executed", id)
	output, _ := made.data["output"].(map[string]any)
	images, _ := output["images"].([]any)
	if len(images) != 1 {
		t.Fatalf("%v", made.data)
	}
	image, _ := images[0].(map[string]any)
	key, _ := image["id"].(string)
	if image["source"] != "http" || key == "" {
		t.Fatalf("%v", image)
	}
	a := f.do(http.MethodGet, "/api/etn/image/"+key, nil) // the prompt may still run
	picture, err := png.Decode(bytes.NewReader(a.body))
	if err != nil {
		t.Fatalf("GET: %d %v %v", a.status, a.header, err)
	}
	if got := color.RGBAModel.Convert(picture.At(0, 0)); a.status != http.StatusOK || got != color.Color(color.RGBA{1, 2, 3, 255}) || a.header.Get("Content-Type") != "image/png" {
		t.Errorf("GET: %d %v %v", a.status, a.header, got)
	}
	s.end(id)
	entry := f.ended(id)
	if tuple, _ := entry["prompt"].([]any); !strings.Contains(fmt.Sprint(tuple), "0badcafe") {
		t.Errorf("the client's own id is not in the history: %v", tuple)
	}
	if a := other.do(http.MethodGet, "/api/etn/image/"+key, nil); a.status != http.StatusNotFound {
		t.Errorf("another tenant: %d", a.status)
	}
	stolen := other.prompt(map[string]any{"prompt": g}) // of another tenant's picture
	if status, _ := other.ended(stolen)["status"].(map[string]any); status["status_str"] != "error" {
		t.Errorf("another tenant has used the picture: %v", status)
	}
}
