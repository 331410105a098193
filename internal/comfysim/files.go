package comfysim

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
)

var modelFolders = [...]string{
	"checkpoints", "configs", "loras", "vae", "text_encoders", "diffusion_models", "clip_vision", "style_models",
	"embeddings", "diffusers", "vae_approx", "controlnet", "gligen", "upscale_models", "hypernetworks",
}

func (p *process) getModelFolders(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, modelFolders)
}

func (p *process) getModels(w http.ResponseWriter, r *http.Request) {
	if !slices.Contains(modelFolders[:], r.PathValue("folder")) {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	answer(w, http.StatusOK, p.cfg.models(r.PathValue("folder")))
}

// fileKinds are the folders that files live in.
var fileKinds = [...]string{"input", "output", "temp"}

// postUpload is POST /upload/image and /upload/mask.
func (p *process) postUpload(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseMultipartForm(32 << 20); err != nil {
		code := http.StatusBadRequest
		if strings.Contains(err.Error(), "request body too large") {
			code = http.StatusRequestEntityTooLarge
		}
		w.WriteHeader(code)
		return
	}
	defer func() { _ = r.MultipartForm.RemoveAll() }()
	kind := r.FormValue("type")
	if kind == "" {
		kind = "input"
	}
	if !slices.Contains(fileKinds[:], kind) {
		trouble(w)
		return
	}
	name, data, ok := uploaded(r)
	subfolder := path.Clean("/" + r.FormValue("subfolder"))[1:]
	if !ok || name == "" || escapes(r.FormValue("subfolder")) || escapes(name) {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if strings.Contains(name, "/") {
		trouble(w)
		return
	}
	overwrite := r.FormValue("overwrite") == "true" || r.FormValue("overwrite") == "1"
	name, ok = p.srv.store.upload(kind, subfolder, name, data, overwrite)
	if !ok {
		trouble(w)
		return
	}
	answer(w, http.StatusOK, map[string]any{"name": name, "subfolder": subfolder, "type": kind})
}

// uploaded reads the file of the form. Its name is taken from the header, since FileHeader.Filename loses folders.
func uploaded(r *http.Request) (name string, data []byte, ok bool) {
	f, header, err := r.FormFile("image")
	if err != nil {
		return "", nil, false
	}
	defer f.Close()
	_, params, err := mime.ParseMediaType(header.Header.Get("Content-Disposition"))
	if err != nil {
		return "", nil, false
	}
	if data, err = io.ReadAll(f); err != nil {
		return "", nil, false
	}
	if data == nil {
		data = []byte{}
	}
	return params["filename"], data, true
}

func escapes(name string) bool {
	clean := path.Clean(name)
	return clean == ".." || strings.HasPrefix(clean, "../") || path.IsAbs(name)
}

// getView is GET /view, with Range, HEAD and the jpeg form of preview.
func (p *process) getView(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	name, kind := q.Get("filename"), q.Get("type")
	if !q.Has("filename") {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if kind == "" {
		kind = "output"
	}
	for _, k := range fileKinds {
		if bare, ok := strings.CutSuffix(name, " ["+k+"]"); ok {
			name, kind = bare, k
		}
	}
	if name == "" || name[0] == '/' || strings.Contains(name, "..") || !slices.Contains(fileKinds[:], kind) {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if escapes(q.Get("subfolder")) {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	f, ok := p.srv.store.get(kind, q.Get("subfolder"), path.Base(name))
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Disposition", fmt.Sprintf("filename=%q", path.Base(name)))
	if preview := q.Get("preview"); preview != "" {
		viewPreview(w, f, preview)
		return
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Type", contentType(name))
	w.Header().Set("Etag", fmt.Sprintf(`"%x-%x"`, f.at.UnixNano(), len(f.data)))
	http.ServeContent(w, r, "", f.at, bytes.NewReader(f.data))
}

// viewPreview re-encodes a picture as preview=webp;90 or jpeg;90 asks.
func viewPreview(w http.ResponseWriter, f file, preview string) {
	format, quality, _ := strings.Cut(preview, ";")
	pic, err := decodePicture(f.data)
	if err != nil {
		trouble(w)
		return
	}
	w.Header().Set("Content-Type", "image/"+format)
	if format != "jpeg" {
		w.Header().Set("Content-Type", "image/webp")
		_, _ = w.Write(encodeWEBP(pic))
		return
	}
	q, err := strconv.Atoi(quality)
	if err != nil {
		q = 90
	}
	data, err := encodeJPEG(pic, min(max(q, 1), 100))
	if err != nil {
		trouble(w)
		return
	}
	_, _ = w.Write(data)
}

func contentType(name string) string {
	switch strings.ToLower(path.Ext(name)) {
	case ".png":
		return "image/png"
	case ".jpg", ".jpeg":
		return "image/jpeg"
	case ".webp":
		return "image/webp"
	case ".gif":
		return "image/gif"
	case ".flac":
		return "audio/flac"
	case ".glb":
		return "model/gltf-binary"
	case ".mp4":
		return "video/mp4"
	}
	return "application/octet-stream"
}
