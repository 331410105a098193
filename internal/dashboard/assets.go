package dashboard

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
)

//go:embed assets
var embedded embed.FS

// asset is one file of the page, as it is and compressed.
type asset struct {
	contentType string
	raw         []byte
	zipped      func() []byte // compressed when it is first called, since most dispatchers have no viewer when they start
}

// assets are the files of the page. They are served below a hash of all of them, so a browser may keep them for ever and a new
// version has new addresses; modules import each other by relative paths, which stay below the same hash.
type assets struct {
	hash   string
	files  map[string]asset // by path, such as views/jobs.js
	shells map[Role]asset   // index.html, with the hash in its paths and the viewer's role, by which the page chooses its first calls
}

const (
	shellName  = "index.html" // the page itself, which is not below the hash
	scriptName = "page.js"    // all modules in one
	themeName  = "theme.js"   // what runs before the first paint, so it is no module
)

func loadAssets() (*assets, error) {
	a := &assets{files: map[string]asset{}, shells: map[Role]asset{}}
	modules := map[string][]byte{}
	sum := sha256.New()
	err := fs.WalkDir(embedded, "assets", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		raw, err := embedded.ReadFile(name)
		if err != nil {
			return err
		}
		name = strings.TrimPrefix(name, "assets/")
		_, _ = fmt.Fprintf(sum, "%s %d\n", name, len(raw)) // a hash fails no write
		_, _ = sum.Write(raw)
		if raw = lean(name, raw); path.Ext(name) == ".js" && name != themeName {
			modules[name] = raw
			return nil
		}
		a.files[name] = newAsset(name, raw)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the embedded page: %w", err)
	}
	script, err := joined(modules, "app.js")
	if err != nil {
		return nil, fmt.Errorf("join the modules of the page: %w", err)
	}
	_, _ = sum.Write(script)
	a.hash = hex.EncodeToString(sum.Sum(nil))[:16]
	a.files[scriptName] = newAsset(scriptName, script)
	for _, role := range []Role{Act, Look, OfTenant} {
		filled := strings.NewReplacer("{hash}", a.hash, "{role}", string(role)).Replace(string(a.files[shellName].raw))
		a.shells[role] = newAsset(shellName, []byte(filled))
	}
	delete(a.files, shellName)
	return a, nil
}

// lean leaves out of our own scripts and styles what a browser has no use for: comments that have lines of their own, and indentation.
// It takes a seventh off the page. Vendored files stay as they are.
func lean(name string, raw []byte) []byte {
	if ext := path.Ext(name); strings.HasPrefix(name, "vendor/") || ext != ".js" && ext != ".css" {
		return raw
	}
	var kept bytes.Buffer
	comment := false
	for line := range bytes.Lines(raw) {
		line = bytes.TrimLeft(line, " \t")
		comment = comment || bytes.HasPrefix(line, []byte("/*"))
		if !comment && !bytes.HasPrefix(line, []byte("//")) && len(line) > 1 {
			_, _ = kept.Write(line) // a buffer fails no write
		}
		comment = comment && !bytes.Contains(line, []byte("*/"))
	}
	return kept.Bytes()
}

func newAsset(name string, raw []byte) asset {
	contentType := mime.TypeByExtension(path.Ext(name))
	switch path.Ext(name) {
	case ".js": // a system's own table may call it text/plain, which browsers refuse
		contentType = "text/javascript; charset=utf-8"
	case ".svg":
		contentType = "image/svg+xml"
	case "":
		contentType = "text/plain; charset=utf-8"
	}
	return asset{contentType: contentType, raw: raw, zipped: sync.OnceValue(func() []byte { return compressed(raw) })}
}

func compressed(raw []byte) []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is valid, and a buffer fails no write
	_, _ = w.Write(raw)
	_ = w.Close()
	return b.Bytes()
}

// serve gives a file below the current hash. Below another one, as in a page that is older than this program, nothing is found.
func (a *assets) serve(w http.ResponseWriter, r *http.Request) {
	found, there := a.files[r.PathValue("path")]
	if !there || r.PathValue("hash") != a.hash {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	found.write(w, r, a.hash)
}

func (a *asset) write(w http.ResponseWriter, r *http.Request, tag string) {
	h := w.Header()
	h.Set("Content-Type", a.contentType)
	h.Set("Vary", "Accept-Encoding")
	tag = `"` + tag + `"`
	h.Set("ETag", tag)
	if slices.Contains(listed(r.Header.Get("If-None-Match")), tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	body := a.raw
	if accepts(r, "gzip") {
		h.Set("Content-Encoding", "gzip")
		body = a.zipped()
	}
	_, _ = io.Copy(w, bytes.NewReader(body)) // the viewer may be gone
}

// accepts reports whether the browser reads an encoding.
func accepts(r *http.Request, encoding string) bool {
	for _, offer := range listed(r.Header.Get("Accept-Encoding")) {
		name, quality, _ := strings.Cut(offer, ";")
		if strings.TrimSpace(name) == encoding {
			return strings.TrimSpace(quality) != "q=0"
		}
	}
	return false
}

// listed splits a header at its commas.
func listed(header string) []string {
	parts := strings.Split(header, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

// shell gives the page, which every view of it is a part of.
func (d *Dashboard) shell(w http.ResponseWriter, r *http.Request) {
	who, known := d.viewer(r)
	if !known {
		goTo(w, "login")
		return
	}
	w.Header().Set("Cache-Control", "no-cache")
	shell := d.assets.shells[who.Role]
	shell.write(w, r, d.assets.hash+"-"+string(who.Role))
}
