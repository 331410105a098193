package gateway

import (
	"encoding/json"
	"errors"
	"net/http"
	"path"
	"strings"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// settingsFile is where ComfyUI keeps the settings of its page among a user's files.
const settingsFile = "comfy.settings.json"

// largestUserFile is the most bytes of a file that a page keeps.
const largestUserFile = 16 << 20

func (g *Gateway) settings(r *http.Request, of *tenant) (map[string]json.RawMessage, error) {
	settings := map[string]json.RawMessage{}
	file, err := g.q.UserFile(r.Context(), of.name, settingsFile)
	if errors.Is(err, queue.ErrNoFile) {
		return settings, nil
	}
	if err == nil && json.Unmarshal(file.Data, &settings) != nil {
		settings = map[string]json.RawMessage{} // the page itself may write the file
	}
	return settings, err
}

func (g *Gateway) getSettings(w http.ResponseWriter, r *http.Request, of *tenant) error {
	settings, err := g.settings(r, of)
	if err != nil {
		return err
	}
	answerJSON(w, http.StatusOK, settings)
	return nil
}

func (g *Gateway) getSetting(w http.ResponseWriter, r *http.Request, of *tenant) error {
	settings, err := g.settings(r, of)
	if err != nil {
		return err
	}
	value := settings[r.PathValue("id")]
	if value == nil {
		value = json.RawMessage("null")
	}
	answerJSON(w, http.StatusOK, value)
	return nil
}

// postSettings changes the settings that are given and leaves the others.
func (g *Gateway) postSettings(w http.ResponseWriter, r *http.Request, of *tenant) error {
	body, err := requestBody(w, r, largestCall)
	if err != nil {
		return err
	}
	changes := map[string]json.RawMessage{}
	if id := r.PathValue("id"); id != "" {
		if !json.Valid(body) {
			return malformed("a setting is a JSON value")
		}
		changes[id] = body
	} else if json.Unmarshal(body, &changes) != nil {
		return malformed("settings are a JSON object")
	}
	settings, err := g.settings(r, of)
	if err != nil {
		return err
	}
	for id, value := range changes {
		settings[id] = value
	}
	if err := g.q.PutUserFile(r.Context(), of.name, settingsFile, encode(settings), true); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// userFileInfo is a file as lists show it; times are in ms.
type userFileInfo struct {
	Path     string `json:"path"`
	Size     int    `json:"size"`
	Modified int64  `json:"modified"`
	Created  int64  `json:"created"`
}

func infoOf(name string, f *queue.UserFile) userFileInfo {
	return userFileInfo{name, f.Size, f.Modified.UnixMilli(), f.Modified.UnixMilli()}
}

// listUserData answers the files below a folder: their paths within it, or (split) the parts of the paths, or (full_info) more.
func (g *Gateway) listUserData(w http.ResponseWriter, r *http.Request, of *tenant) error {
	query := r.URL.Query()
	dir := strings.Trim(query.Get("dir"), "/")
	if dir == "" {
		return &failed{http.StatusBadRequest, "no_dir", "give the folder in dir"}
	}
	dir, ok := cleanPath(dir)
	if !ok {
		return &failed{http.StatusForbidden, "invalid_path", "dir must stay below the tenant's files"}
	}
	files, err := g.q.UserFiles(r.Context(), of.name)
	if err != nil {
		return err
	}
	recurse, split, full := query.Get("recurse") == "true", query.Get("split") == "true", query.Get("full_info") == "true"
	shown, exists := []any{}, false
	for i := range files {
		below, in := strings.CutPrefix(files[i].Path, dir+"/")
		exists = exists || in
		if !in || !recurse && strings.Contains(below, "/") {
			continue
		}
		switch {
		case full:
			shown = append(shown, infoOf(below, &files[i]))
		case split:
			shown = append(shown, append([]string{below}, strings.Split(below, "/")...))
		default:
			shown = append(shown, below)
		}
	}
	if !exists {
		return &failed{http.StatusNotFound, "not_found", "there is no such folder"}
	}
	answerJSON(w, http.StatusOK, shown)
	return nil
}

// listUserDataV2 answers the files and folders directly in a folder.
func (g *Gateway) listUserDataV2(w http.ResponseWriter, r *http.Request, of *tenant) error {
	dir := strings.Trim(r.URL.Query().Get("path"), "/")
	if dir != "" {
		clean, ok := cleanPath(dir)
		if !ok {
			return &failed{http.StatusForbidden, "invalid_path", "path must stay below the tenant's files"}
		}
		dir = clean + "/"
	}
	files, err := g.q.UserFiles(r.Context(), of.name)
	if err != nil {
		return err
	}
	shown, folders := []any{}, map[string]bool{}
	for i := range files {
		below, in := strings.CutPrefix(files[i].Path, dir)
		if !in {
			continue
		}
		name, _, deeper := strings.Cut(below, "/")
		switch {
		case !deeper:
			shown = append(shown, map[string]any{
				"name": name, "path": files[i].Path, "type": "file", "size": files[i].Size, "modified": files[i].Modified.Unix(),
			})
		case !folders[name]:
			folders[name] = true
			shown = append(shown, map[string]any{"name": name, "path": dir + name, "type": "directory"})
		}
	}
	answerJSON(w, http.StatusOK, shown)
	return nil
}

// userPath is the path of a file in the request, where it is one part in which slashes are escaped.
func userPath(text string) (string, error) {
	clean, ok := cleanPath(text)
	if !ok || strings.Contains(text, `\`) || len(clean) > longestUserPath {
		return "", &failed{http.StatusBadRequest, "invalid_path", "the path must stay below the tenant's files"}
	}
	return clean, nil
}

const longestUserPath = 512

func (g *Gateway) getUserFile(w http.ResponseWriter, r *http.Request, of *tenant) error {
	name, err := userPath(r.PathValue("file"))
	if err != nil {
		return err
	}
	file, err := g.q.UserFile(r.Context(), of.name, name)
	if errors.Is(err, queue.ErrNoFile) {
		return errNoUserFile
	}
	if err != nil {
		return err
	}
	h := w.Header()
	kind := contentTypeByName(name)
	switch strings.ToLower(path.Ext(name)) {
	case ".json", ".css", ".txt":
	default: // a page may keep anything; a browser must not run it
		kind = "application/octet-stream"
		h.Set("Content-Disposition", "attachment")
	}
	h.Set("Content-Type", kind)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	_, _ = w.Write(file.Data)
	return nil
}

var errNoUserFile = &failed{http.StatusNotFound, "not_found", "there is no such file"}

func (g *Gateway) postUserFile(w http.ResponseWriter, r *http.Request, of *tenant) error {
	name, err := userPath(r.PathValue("file"))
	if err != nil {
		return err
	}
	body, err := requestBody(w, r, largestUserFile)
	if err != nil {
		return err
	}
	if err := g.q.PutUserFile(r.Context(), of.name, name, body, r.URL.Query().Get("overwrite") != "false"); err != nil {
		return err
	}
	return g.answerUserFile(w, r, of, name)
}

// answerUserFile answers the path of a file that was written, or (full_info) more of it.
func (g *Gateway) answerUserFile(w http.ResponseWriter, r *http.Request, of *tenant, name string) error {
	if r.URL.Query().Get("full_info") != "true" {
		answerJSON(w, http.StatusOK, name)
		return nil
	}
	file, err := g.q.UserFile(r.Context(), of.name, name)
	if err != nil {
		return err
	}
	answerJSON(w, http.StatusOK, infoOf(name, &file))
	return nil
}

func (g *Gateway) deleteUserFile(w http.ResponseWriter, r *http.Request, of *tenant) error {
	name, err := userPath(r.PathValue("file"))
	if err != nil {
		return err
	}
	err = g.q.RemoveUserFile(r.Context(), of.name, name)
	if errors.Is(err, queue.ErrNoFile) {
		return errNoUserFile
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// moveUserFile gives a file another path. A crash between the two writes leaves it under both.
func (g *Gateway) moveUserFile(w http.ResponseWriter, r *http.Request, of *tenant) error {
	from, err := userPath(r.PathValue("file"))
	if err != nil {
		return err
	}
	to, err := userPath(r.PathValue("dest"))
	if err != nil {
		return err
	}
	file, err := g.q.UserFile(r.Context(), of.name, from)
	if errors.Is(err, queue.ErrNoFile) {
		return errNoUserFile
	}
	if err != nil {
		return err
	}
	if from != to {
		if err := g.q.PutUserFile(r.Context(), of.name, to, file.Data, r.URL.Query().Get("overwrite") != "false"); err != nil {
			return err
		}
		if err := g.q.RemoveUserFile(r.Context(), of.name, from); err != nil && !errors.Is(err, queue.ErrNoFile) {
			return err
		}
	}
	return g.answerUserFile(w, r, of, to)
}
