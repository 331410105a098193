package comfysim_test

import (
	"net/http"
	"testing"

	"github.com/comfyherd/comfyherd/internal/comfysim"
)

// foreign is a graph for a host with other nodes and models.
const foreign = `{"1":{"class_type":"LoadTheirs","inputs":{"model":"theirs.safetensors"}},
	"2":{"class_type":"KSampler","inputs":{"model":["1",0],"seed":"a text","sampler_name":"their_sampler","latent_image":["1",2]}},
	"3":{"class_type":"EmptyImage","inputs":{}},
	"4":{"class_type":"LoadImage","inputs":{"image":"theirs.png"}},
	"5":{"class_type":"SaveImage","inputs":{"images":["2",0]}},
	"6":{"class_type":"TheirSave","inputs":{"a":["3",0],"b":["4",0]}}}`

func TestALenientHostRunsAForeignGraph(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{Lenient: true})
	id := h.submit(foreign, "")
	h.ended(1)
	entry := h.history(id)
	if entry.Status.Str != "success" || len(entry.Outputs["5"]) == 0 || len(entry.Outputs["6"]) == 0 {
		t.Errorf("%+v", entry)
	}
	strict := start(t, comfysim.Config{})
	if code, text := strict.do("POST", "/prompt", `{"prompt": `+foreign+`}`); code != http.StatusBadRequest {
		t.Errorf("a strict host: %d %s", code, text)
	}
}

func TestALenientHostRefusesWhatNoComfyUICouldRead(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{Lenient: true})
	for name, body := range map[string]string{
		"no JSON":           `{`,
		"no class":          `{"prompt": {"1":{"inputs":{}}}}`,
		"a link to nothing": `{"prompt": {"1":{"class_type":"SaveImage","inputs":{"images":["9",0]}}}}`,
		"a cycle":           `{"prompt": {"1":{"class_type":"SaveImage","inputs":{"images":["2",0]}},"2":{"class_type":"X","inputs":{"a":["2",0]}}}}`,
		"no output":         `{"prompt": {"1":{"class_type":"EmptyImage","inputs":{}}}}`,
	} {
		if code, text := h.do("POST", "/prompt", body); code < http.StatusBadRequest {
			t.Errorf("%s: %d %s", name, code, text)
		}
	}
}
