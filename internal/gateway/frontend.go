package gateway

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path"
	"strings"
)

// getPage answers a file of ComfyUI's page, when the gateway has its folder. The page looks for the API below its own path, so it
// also works when the path has a key.
func (g *Gateway) getPage(w http.ResponseWriter, r *http.Request, _ *tenant) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return &failed{http.StatusMethodNotAllowed, "method_not_allowed", "this gateway does not serve this path with this method"}
	}
	if strings.HasPrefix(r.URL.Path, "/api/") || strings.HasPrefix(r.URL.Path, "/internal/") {
		return errNoPath
	}
	if g.cfg.Frontend == "" {
		return g.getRoot(w, r)
	}
	root, err := os.OpenRoot(g.cfg.Frontend)
	if err != nil {
		return err
	}
	defer root.Close()
	name := strings.TrimPrefix(path.Clean("/"+r.URL.Path), "/")
	if name == "" {
		name = "index.html"
	}
	file, err := root.Open(name)
	if errors.Is(err, fs.ErrNotExist) && name == "user.css" {
		w.Header().Set("Content-Type", "text/css")
		return nil
	}
	if errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(name, "templates/index") { // of another Python package; a page counts on JSON
		answer := any([]string{})
		if strings.Contains(name, "logo") {
			answer = struct{}{}
		}
		answerJSON(w, http.StatusOK, answer)
		return nil
	}
	if err != nil { // also when it leads out of the folder
		return errNoPath
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return errNoPath
	}
	switch {
	case strings.HasPrefix(name, "assets/"): // the names have a hash of the content
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	case path.Ext(name) == ".html":
		w.Header().Set("Cache-Control", "no-store, must-revalidate")
	default:
		w.Header().Set("Cache-Control", "no-cache")
	}
	http.ServeContent(w, r, name, info.ModTime(), file)
	return nil
}

var errNoPath = &failed{http.StatusNotFound, "not_found", "this gateway does not serve this path"}

// getRoot says what this is to a person who opens the address in a browser.
func (g *Gateway) getRoot(w http.ResponseWriter, r *http.Request) error {
	if r.URL.Path != "/" {
		return errNoPath
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, err := w.Write([]byte("This is a gateway of comfyherd. It serves ComfyUI's API: point a program that was written for ComfyUI at this address.\n" +
		"To see ComfyUI's page here, start the gateway with --gateway-frontend and the static folder of the Python package comfyui-frontend-package.\n"))
	return err
}

// getFiles answers the names of a tenant's files in one of ComfyUI's folders, the newest first.
func (g *Gateway) getFiles(w http.ResponseWriter, r *http.Request, of *tenant) error {
	folder := r.PathValue("folder")
	names := []string{}
	switch folder {
	case outputFolder, tempFolder:
		if err := of.rows.refresh(r.Context()); err != nil {
			return err
		}
		ended := of.shownEnded()
		for i := len(ended) - 1; i >= 0; i-- {
			for _, o := range ended[i].Last.Outputs {
				if o.Type == folder && o.Object != "" {
					names = append(names, shownFolder(ended[i].Job, o.Subfolder)+"/"+o.Filename+" ["+folder+"]")
				}
			}
		}
	case inputFolder:
		names = append(names, g.uploaded(r.Context(), of.name)...)
	default:
		return errNoPath
	}
	answerJSON(w, http.StatusOK, names)
	return nil
}
