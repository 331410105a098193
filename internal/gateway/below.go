package gateway

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"mime"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// archives are the archives that a tenant's hosts have, by route and a slash. Of each there are several versions when hosts differ: the
// first is the one that counts. They are looked up once after each change.
func (c *catalogs) archives(tenant job.Tenant) map[string][]hostsAnswer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.versions[tenant]; known != nil {
		return known
	}
	type alike struct { // hosts with the same archives
		blobs map[string]string
		hosts hostsAnswer
	}
	installed := map[[sha256.Size]byte]alike{}
	for name, host := range c.hosts.values {
		if c.granted(name, tenant) {
			installed[host.archives] = alike{host.Blobs, installed[host.archives].hosts.add("", 1, host.Time)}
		}
	}
	groups := map[string]map[string]hostsAnswer{}
	for _, of := range installed {
		for route, digest := range of.blobs {
			if !strings.HasSuffix(route, "/") {
				continue
			}
			if groups[route] == nil {
				groups[route] = map[string]hostsAnswer{}
			}
			groups[route][digest] = groups[route][digest].add(digest, of.hosts.hosts, of.hosts.time)
		}
	}
	found := make(map[string][]hostsAnswer, len(groups))
	for route, versions := range groups {
		for _, a := range versions {
			found[route] = append(found[route], a)
		}
		slices.SortFunc(found[route], byHosts)
	}
	c.versions[tenant] = found
	return found
}

// open gives the files of an archive.
func (c *catalogs) open(ctx context.Context, digest string) (map[string][]byte, error) {
	return c.opened.get(ctx, digest, func(ctx context.Context) (cached[map[string][]byte], error) {
		packed, err := c.q.CatalogBlob(ctx, digest)
		if err != nil {
			return cached[map[string][]byte]{}, err
		}
		files, err := queue.OpenArchive(packed)
		return cached[map[string][]byte]{value: files, size: len(packed) + 1}, err
	})
}

// archived is a file of an archive, ready to be sent; nil when it has no such file.
func (c *catalogs) archived(ctx context.Context, digest, file, kind string) (*page, error) {
	files, err := c.open(ctx, digest)
	if err != nil {
		return nil, err
	}
	body, there := files[file]
	if !there {
		return nil, nil
	}
	return c.pages.get(ctx, digest+"/"+file, func(context.Context) (cached[*page], error) {
		p := newPage(body)
		p.kind = kind
		return cached[*page]{value: &p, size: len(p.zipped) + pageOverhead}, nil // body is a part of the archive
	})
}

// pageOverhead is what a page takes beside its bytes.
const pageOverhead = 300

// Extensions says of which node packs the files for ComfyUI's page are served. The zero value: of all.
type Extensions struct {
	Off   bool
	Packs []string // these alone; empty: all
}

func (e *Extensions) serves(pack string) bool {
	return !e.Off && pack != "" && pack != pageItself && (len(e.Packs) == 0 || slices.Contains(e.Packs, pack))
}

const (
	extensionsRoute = "extensions"
	pageItself      = "core" // the scripts that ComfyUI's page brings itself
)

var errNoExtension = &failed{http.StatusNotFound, "not_found", "no host that runs your prompts has this file of a node pack, or this gateway does not serve the pack (--gateway-extensions)"}

// getExtensions answers the scripts of node packs that a page loads: those of every pack that any host of the tenant has. Of a pack that
// hosts have in several versions it is one version, since the scripts of a pack need each other.
func (g *Gateway) getExtensions(w http.ResponseWriter, r *http.Request, of *tenant) error {
	paths := []string{}
	for route, versions := range g.catalogs.archives(of.name) {
		pack, is := strings.CutPrefix(strings.TrimSuffix(route, "/"), extensionsRoute+"/")
		if !is || strings.Contains(pack, "/") || !g.cfg.Extensions.serves(pack) {
			continue
		}
		files, err := g.catalogs.open(r.Context(), versions[0].digest)
		if err != nil {
			g.log.Warn("the scripts of a node pack cannot be read; pages work without them", "pack", pack, "error", err)
			continue
		}
		for file := range files {
			if path.Ext(file) == ".js" && fileOfPack(file) {
				paths = append(paths, "/"+extensionsRoute+"/"+quoted(pack)+"/"+file)
			}
		}
	}
	slices.Sort(paths)
	answerJSON(w, http.StatusOK, paths)
	return nil
}

// fileOfPack reports whether a path stays below its pack, and is written as it is in an address.
func fileOfPack(file string) bool {
	clean, ok := cleanPath(file)
	return ok && clean == file && !strings.ContainsAny(file, `\?#%`)
}

// quoted is a text as Python quotes it in a path.
func quoted(text string) string {
	var out strings.Builder
	for _, b := range []byte(text) {
		if b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || strings.IndexByte("_.-~", b) >= 0 {
			out.WriteByte(b)
		} else {
			_, _ = fmt.Fprintf(&out, "%%%02X", b) // a Builder takes everything
		}
	}
	return out.String()
}

// getExtension answers a file of a node pack. The scripts that hosts list are in the catalogue; what these load beside them is asked of
// a host that has the same version of the scripts.
func (g *Gateway) getExtension(w http.ResponseWriter, r *http.Request, of *tenant) error {
	pack, file := r.PathValue("pack"), r.PathValue("file")
	if pack == pageItself {
		return g.getPage(w, r, of)
	}
	route := extensionsRoute + "/" + pack
	versions := g.catalogs.archives(of.name)[queue.ArchiveRoute(route)]
	if !g.cfg.Extensions.serves(pack) || !fileOfPack(file) {
		return errNoExtension
	}
	if len(versions) == 0 {
		return g.getUnlisted(w, r, of, pack, file)
	}
	digest := versions[0].digest
	p, err := g.catalogs.archived(r.Context(), digest, file, packType(file))
	if p == nil || err != nil { // also when the catalogue was lost
		hosts := g.catalogs.hostsAnswering(of.name, queue.ArchiveRoute(route), digest)
		p, err = g.anyHost(r.Context(), hosts, queue.PageRequest{Route: route + "/" + file}, errNoExtension)
	}
	if err != nil {
		return err
	}
	p.withType(packType(file)).answer(w, r)
	return nil
}

// getUnlisted answers a file of a node pack that has no scripts, such as the help for its nodes, of a host that has classes of the pack.
func (g *Gateway) getUnlisted(w http.ResponseWriter, r *http.Request, of *tenant, pack, file string) error {
	module := encode("custom_nodes." + pack)
	hosts, err := g.catalogs.withClass(r.Context(), of.name, func(d classDef) bool { return bytes.Contains(d.def, module) })
	if err != nil {
		return err
	}
	p, err := g.anyHost(r.Context(), hosts, queue.PageRequest{Route: extensionsRoute + "/" + pack + "/" + file}, errNoExtension)
	if err != nil {
		return err
	}
	p.withType(readType(file)).answer(w, r)
	return nil
}

// readType is packType for files that are read, and never run.
func readType(file string) string {
	kind := packType(file)
	if strings.HasPrefix(kind, "text/html") || strings.HasPrefix(kind, "text/javascript") || kind == "image/svg+xml" {
		return "text/plain; charset=utf-8"
	}
	return kind
}

// packType is the content type of a file of a node pack. Browsers run a script only with the right one, and what the system that
// a gateway runs on knows of types must not matter.
func packType(file string) string {
	switch ext := strings.ToLower(path.Ext(file)); ext {
	case ".js", ".mjs", ".cjs":
		return "text/javascript; charset=utf-8"
	case ".css", ".html":
		return "text/" + ext[1:] + "; charset=utf-8"
	case ".json", ".map":
		return "application/json; charset=utf-8"
	case ".md":
		return "text/markdown; charset=utf-8"
	case ".txt":
		return "text/plain; charset=utf-8"
	case ".wasm":
		return "application/wasm"
	case ".svg":
		return "image/svg+xml"
	case ".ico":
		return "image/x-icon"
	case ".woff", ".woff2", ".ttf", ".otf":
		return "font/" + ext[1:]
	case ".png", ".jpg", ".jpeg", ".gif", ".webp", ".avif", ".mp4", ".webm", ".mp3", ".wav", ".ogg":
		return cmp.Or(mime.TypeByExtension(ext), "application/octet-stream")
	}
	return "application/octet-stream"
}
