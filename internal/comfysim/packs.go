package comfysim

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Packs is what node packs bring for ComfyUI's page, and what a host says of its models.
type Packs struct {
	// Tooling is the node pack comfyui-tooling-nodes, by which Krita carries pictures.
	Tooling bool
	// Extensions are the files below /extensions/<pack>/ by pack and path. Those that end in .js are listed.
	Extensions map[string]map[string]string
	// Translations and Replacements are the answers of /i18n and /node_replacements.
	Translations, Replacements json.RawMessage
	// Templates are the files below /api/workflow_templates/<pack>/. Those that end in .json are listed.
	Templates map[string]map[string]string
	// Subgraphs are workflows by pack and name. Their ids depend on the host's name, as ComfyUI's depend on its folder.
	Subgraphs map[string]map[string]string
	// Pictures are small pictures of models, in WebP, by folder/file.
	Pictures map[string]string
}

// pathIndex is the place among a folder's paths where all models are.
const pathIndex = 1

func (p *process) packRoutes(both func(method, path string, h http.HandlerFunc), mux *http.ServeMux) {
	packs := &p.cfg.Packs
	both("GET", "/extensions", p.getExtensions)
	mux.HandleFunc("GET /extensions/{pack}/{file...}", func(w http.ResponseWriter, r *http.Request) {
		staticFile(w, r, packs.Extensions[r.PathValue("pack")])
	})
	both("GET", "/i18n", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, orEmpty(packs.Translations)) })
	both("GET", "/node_replacements", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, orEmpty(packs.Replacements)) })
	both("GET", "/workflow_templates", p.getTemplates)
	mux.HandleFunc("GET /api/workflow_templates/{pack}/{file...}", func(w http.ResponseWriter, r *http.Request) {
		staticFile(w, r, packs.Templates[r.PathValue("pack")])
	})
	both("GET", "/global_subgraphs", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, p.subgraphs(false)) })
	both("GET", "/global_subgraphs/{id}", func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusOK, p.subgraphs(true)[r.PathValue("id")])
	})
	both("GET", "/experiment/models/{folder}", p.getModelFiles)
	both("GET", "/experiment/models/preview/{folder}/{index}/{file...}", p.getModelPicture)
	mux.HandleFunc("GET /api/etn/languages", p.tooled(func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, []map[string]string{{"name": "German", "code": "de"}})
	}))
	mux.HandleFunc("GET /api/etn/translate/{language}/{text}", p.tooled(func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusOK, r.PathValue("language")+"→en: "+r.PathValue("text"))
	}))
	mux.HandleFunc("GET /api/etn/model_info/{folder}", p.tooled(p.getModelInfo))
	mux.HandleFunc("GET /api/etn/image/{id}", p.tooled(p.getCached))
	mux.HandleFunc("PUT /api/etn/image/{id}", p.tooled(p.putCached))
}

func orEmpty(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 {
		return json.RawMessage("{}")
	}
	return raw
}

func staticFile(w http.ResponseWriter, r *http.Request, files map[string]string) {
	content, there := files[r.PathValue("file")]
	if !there {
		plain(w, http.StatusNotFound, "404: Not Found")
		return
	}
	w.Header().Set("Content-Type", mime.TypeByExtension(path.Ext(r.PathValue("file"))))
	_, _ = w.Write([]byte(content))
}

// getExtensions lists scripts of ComfyUI's own page, behind which there are no files here, and those of node packs.
func (p *process) getExtensions(w http.ResponseWriter, _ *http.Request) {
	paths := []string{"/extensions/core/clipspace.js", "/extensions/core/widgetInputs.js"}
	for _, pack := range slices.Sorted(maps.Keys(p.cfg.Packs.Extensions)) {
		for _, file := range slices.Sorted(maps.Keys(p.cfg.Packs.Extensions[pack])) {
			if path.Ext(file) == ".js" {
				paths = append(paths, "/extensions/"+url.PathEscape(pack)+"/"+file)
			}
		}
	}
	answer(w, http.StatusOK, paths)
}

func (p *process) getTemplates(w http.ResponseWriter, _ *http.Request) {
	listed := map[string][]string{}
	for pack, files := range p.cfg.Packs.Templates {
		for _, file := range slices.Sorted(maps.Keys(files)) {
			if name, is := strings.CutSuffix(file, ".json"); is {
				listed[pack] = append(listed[pack], name)
			}
		}
	}
	answer(w, http.StatusOK, listed)
}

// subgraph is an entry of /global_subgraphs; Data only in the answer for one.
type subgraph struct {
	Source string            `json:"source"`
	Name   string            `json:"name"`
	Info   map[string]string `json:"info"`
	Data   string            `json:"data,omitempty"`
}

func (p *process) subgraphs(data bool) map[string]*subgraph {
	all := map[string]*subgraph{}
	for pack, of := range p.cfg.Packs.Subgraphs {
		for name, content := range of {
			id := sha256.Sum256([]byte("custom_node/" + p.cfg.Name + "/custom_nodes/" + pack + "/subgraphs/" + name + ".json"))
			s := &subgraph{Source: "custom_node", Name: name, Info: map[string]string{"node_pack": "custom_nodes." + pack}}
			if data {
				s.Data = content
			}
			all[hex.EncodeToString(id[:])] = s
		}
	}
	return all
}

func (p *process) getModelFiles(w http.ResponseWriter, r *http.Request) {
	if !slices.Contains(modelFolders[:], r.PathValue("folder")) {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	files := []map[string]any{}
	for _, name := range p.cfg.models(r.PathValue("folder")) {
		files = append(files, map[string]any{"name": name, "pathIndex": pathIndex, "modified": 1.5, "created": 1.5, "size": 1})
	}
	answer(w, http.StatusOK, files)
}

func (p *process) getModelPicture(w http.ResponseWriter, r *http.Request) {
	picture, there := p.cfg.Packs.Pictures[r.PathValue("folder")+"/"+r.PathValue("file")]
	if !there || r.PathValue("index") != strconv.Itoa(pathIndex) {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "image/webp")
	_, _ = w.Write([]byte(picture))
}

// tooled is a route of the node pack comfyui-tooling-nodes.
func (p *process) tooled(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !p.cfg.Packs.Tooling {
			plain(w, http.StatusNotFound, "404: Not Found")
			return
		}
		h(w, r)
	}
}

// toolingClasses are the classes of that pack that read and leave pictures.
func toolingClasses() map[string]json.RawMessage {
	const rest = `"is_input_list": false, "description": "", "python_module": "custom_nodes.comfyui-tooling-nodes", "category": "external_tooling", `
	return map[string]json.RawMessage{
		"ETN_LoadImageCache": json.RawMessage(`{"input": {"required": {"id": ["STRING", {"multiline": false}]}}, "input_order": {"required": ["id"]}, ` + rest +
			`"output": ["IMAGE", "MASK"], "output_is_list": [false, false], "output_name": ["image", "mask"], "name": "ETN_LoadImageCache", "display_name": "Load Image from Cache", "output_node": false}`),
		"ETN_SaveImageCache": json.RawMessage(`{"input": {"required": {"images": ["IMAGE"], "format": ["COMBO", {"options": ["PNG", "JPEG"], "default": "PNG"}]}}, "input_order": {"required": ["images", "format"]}, ` + rest +
			`"output": [], "output_is_list": [], "output_name": [], "name": "ETN_SaveImageCache", "display_name": "Save Image to Cache", "output_node": true}`),
	}
}

// getModelInfo answers of each file of a folder, or of a part of them, which model it is.
func (p *process) getModelInfo(w http.ResponseWriter, r *http.Request) {
	files := p.cfg.models(r.PathValue("folder"))
	offset, _ := strconv.Atoi(r.URL.Query().Get("offset"))
	limit, err := strconv.Atoi(r.URL.Query().Get("limit"))
	if err != nil {
		limit = 1000
	}
	part := files[min(offset, len(files)):min(offset+limit, len(files))]
	infos := map[string]any{}
	for _, name := range part {
		infos[name] = map[string]any{"base_model": "sd15", "is_inpaint": false}
	}
	if err == nil {
		infos["_meta"] = map[string]int{"offset": offset, "count": len(part), "total": len(files)}
	}
	answer(w, http.StatusOK, infos)
}
