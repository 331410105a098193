package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"mime"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
)

// uploads are the names of what tenants have uploaded, which ComfyUI shows among the choices of the nodes that load files.
type uploads struct {
	mu    sync.Mutex // guards all below
	known map[job.Tenant]knownUploads
	pages map[job.Tenant]uploadsPage
}

// knownUploads are a tenant's, as of a time.
type knownUploads struct {
	names []string // sorted
	read  time.Time
}

// uploadsPage is /object_info with a tenant's uploads in it.
type uploadsPage struct {
	of    *view
	names []string
	page  *page
}

const (
	uploadsFresh = 2 * time.Second // for which a list is used; what this gateway has stored itself is in it at once
	uploadsWait  = 2 * time.Second // for a list; without an answer the last list is used
	// mostUploadPages bounds the tenants whose answers are kept; the others' are made for each request.
	mostUploadPages = 64
)

func newUploads() *uploads {
	return &uploads{known: map[job.Tenant]knownUploads{}, pages: map[job.Tenant]uploadsPage{}}
}

// uploaded are the names of a tenant's uploads, sorted. Files in subfolders are left out, as ComfyUI does.
func (g *Gateway) uploaded(ctx context.Context, tenant job.Tenant) []string {
	u := g.uploads
	u.mu.Lock()
	known := u.known[tenant]
	u.mu.Unlock()
	if time.Since(known.read) < uploadsFresh {
		return known.names
	}
	ctx, cancel := context.WithTimeout(ctx, uploadsWait)
	defer cancel()
	read := time.Now()
	paths, err := g.q.Uploads(ctx, tenant)
	if err != nil {
		g.log.Info("the uploads of a tenant cannot be read: the choices show those that were read last", "tenant", tenant, "error", err)
		return known.names
	}
	names := slices.DeleteFunc(paths, func(name string) bool { return strings.Contains(name, "/") })
	slices.Sort(names)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.known[tenant] = knownUploads{names, read}
	return names
}

// forget has the list of a tenant's uploads read again.
func (u *uploads) forget(tenant job.Tenant) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.known, tenant)
}

// page is /object_info with a tenant's uploads.
func (u *uploads) page(v *view, tenant job.Tenant, names []string) *page {
	if len(names) == 0 {
		return &v.info
	}
	u.mu.Lock()
	made := u.pages[tenant]
	u.mu.Unlock()
	if made.of == v && slices.Equal(made.names, names) {
		return made.page
	}
	others := map[string]json.RawMessage{}
	for class, def := range v.classes.defs {
		if bytes.Contains(def, []byte(`_upload"`)) {
			others[class] = withUploads(def, names)
		}
	}
	fresh := newPage(v.classes.json(others))
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.pages) >= mostUploadPages {
		clear(u.pages)
	}
	u.pages[tenant] = uploadsPage{v, names, &fresh}
	return &fresh
}

// withUploads is the definition of a class with uploads among the choices of its inputs that take files.
func withUploads(def json.RawMessage, names []string) json.RawMessage {
	if len(names) == 0 {
		return def
	}
	return eachInput(def, func(_, _ string, spec json.RawMessage) json.RawMessage {
		takes := takesUploads(spec)
		if takes == nil {
			return spec
		}
		list, replace, is := choicesOf(spec)
		if !is {
			return spec
		}
		return replace(unite(list, slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !takes(name) })))
	})
}

// takesUploads says which files an input takes; nil when it takes none from the folder of uploads.
func takesUploads(spec json.RawMessage) func(name string) bool {
	var parts []json.RawMessage
	var o struct {
		Image  bool   `json:"image_upload"`
		Video  bool   `json:"video_upload"`
		Audio  bool   `json:"audio_upload"`
		File   bool   `json:"file_upload"`
		Mesh   bool   `json:"mesh_upload"`
		Folder string `json:"image_folder"`
	}
	if json.Unmarshal(spec, &parts) != nil || len(parts) < 2 || json.Unmarshal(parts[1], &o) != nil || o.Folder != "" && o.Folder != inputFolder {
		return nil
	}
	switch {
	case o.File, o.Mesh:
		return func(string) bool { return true }
	case o.Audio:
		return func(name string) bool { return isMedia(name, "audio", "video") }
	case o.Video:
		return func(name string) bool { return isMedia(name, "video") }
	case o.Image:
		return func(name string) bool { return isMedia(name, "image") }
	}
	return nil
}

func isMedia(name string, kinds ...string) bool {
	kind, _, _ := strings.Cut(mime.TypeByExtension(strings.ToLower(path.Ext(name))), "/")
	return slices.Contains(kinds, kind)
}
