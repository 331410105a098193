package comfysim

import (
	"encoding/json"
	"net/http"
	"path"
	"slices"
	"strings"
)

func (p *process) uploads() []string { return p.srv.store.names("input") }

func (p *process) getObjectInfo(w http.ResponseWriter, _ *http.Request) {
	classes := p.srv.classes()
	all := make(map[string]map[string]json.RawMessage, len(classes))
	for name, c := range classes {
		all[name] = c.info(p.uploads)
	}
	answer(w, http.StatusOK, all)
}

// getClassInfo answers {} with 200 for a class that is not installed.
func (p *process) getClassInfo(w http.ResponseWriter, r *http.Request) {
	one := map[string]any{}
	if c := p.srv.classes()[r.PathValue("class")]; c != nil {
		one[c.name] = c.info(p.uploads)
	}
	answer(w, http.StatusOK, one)
}

func (p *process) getStats(w http.ResponseWriter, _ *http.Request) {
	const ram = 32 << 30
	system := "linux"
	if p.cfg.old() {
		system = "posix"
	}
	answer(w, http.StatusOK, map[string]any{
		"system": map[string]any{
			"os": system, "ram_total": int64(ram), "ram_free": int64(ram / 2), "comfyui_version": p.cfg.Version,
			"python_version": "3.13.5 (main, Aug 10 2026, 12:06:59) [GCC 14.2.0]", "pytorch_version": "2.6.0+cu124",
			"embedded_python": false, "deploy_environment": "local-git", "argv": []string{"main.py", "--listen", "127.0.0.1"},
		},
		"devices": []any{map[string]any{
			"name": "cuda:0 NVIDIA Simulated (" + p.cfg.Name + ") : cudaMallocAsync", "type": "cuda", "index": 0,
			"vram_total": p.cfg.VRAM, "vram_free": p.cfg.VRAM, "torch_vram_total": 0, "torch_vram_free": 0,
		}},
	})
}

// getEmbeddings lists the embeddings without their endings.
func (p *process) getEmbeddings(w http.ResponseWriter, _ *http.Request) {
	names := []string{}
	for _, file := range p.cfg.models("embeddings") {
		names = append(names, strings.TrimSuffix(file, path.Ext(file)))
	}
	answer(w, http.StatusOK, names)
}

// getModelMetadata answers what the head of a model file says of it; only files of the safetensors format have one.
func (p *process) getModelMetadata(w http.ResponseWriter, r *http.Request) {
	file := r.URL.Query().Get("filename")
	if !strings.HasSuffix(file, ".safetensors") || !slices.Contains(p.cfg.models(r.PathValue("folder")), file) {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	answer(w, http.StatusOK, map[string]any{"modelspec.title": strings.TrimSuffix(file, ".safetensors")})
}
