package gateway

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// catalogs keeps the catalogues of the fleet's hosts and the answers that are made of them: to its clients, all hosts that may run
// a tenant's jobs appear as one ComfyUI. Answers are merged once after each change, and served from memory.
type catalogs struct {
	q       *queue.Queue
	changed func() // at each change; it does not block

	merging sync.WaitGroup

	mu      sync.Mutex // guards all below
	hosts   kept[queue.Catalog]
	grants  kept[[]job.Tenant] // of hosts that serve some tenants only
	views   map[string]*view   // by the digests of the answers that are merged in them
	current map[job.Tenant]*view
	last    map[job.Tenant]*view // the newest that the tenant has received

	reading sync.Mutex // held while files are read, so that each is read once; guards all below
	blobs   map[string][]byte
	infos   map[string][]classDef // object_info, parsed
}

// page is an answer that is ready to be sent.
type page struct {
	body, zipped []byte
	tag          string
}

func newCatalogs(q *queue.Queue, changed func()) *catalogs {
	return &catalogs{
		q: q, changed: changed, hosts: kept[queue.Catalog]{values: map[string]queue.Catalog{}}, grants: kept[[]job.Tenant]{values: map[string][]job.Tenant{}},
		views: map[string]*view{}, current: map[job.Tenant]*view{}, last: map[job.Tenant]*view{}, blobs: map[string][]byte{}, infos: map[string][]classDef{},
	}
}

// kept are the values of a bucket, kept up to date by its watch.
type kept[V any] struct {
	values map[string]V
	unseen map[string]bool // keys that the watch has not given since its last Reset: at Synced they are removed
}

func (k *kept[V]) take(phase queue.Phase, key string, value V) {
	delete(k.unseen, key)
	switch phase {
	case queue.Reset:
		k.unseen = map[string]bool{}
		for key := range k.values {
			k.unseen[key] = true
		}
	case queue.Put:
		k.values[key] = value
	case queue.Gone, queue.Invalid:
		delete(k.values, key)
	case queue.Synced:
		for key := range k.unseen {
			delete(k.values, key)
		}
		k.unseen = nil
	}
}

// follow keeps the catalogues up to date until ctx ends.
func (c *catalogs) follow(ctx context.Context, log *slog.Logger) {
	var both sync.WaitGroup
	both.Go(func() {
		again(ctx, log, "the catalogues of hosts", func() error { return c.q.WatchCatalogs(ctx, c.host) })
	})
	both.Go(func() {
		again(ctx, log, "the grants of hosts", func() error { return c.q.WatchGrants(ctx, c.grant) })
	})
	both.Wait()
	c.merging.Wait()
}

func (c *catalogs) host(change queue.Change[queue.Catalog]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hosts.take(change.Phase, change.Key, change.Value)
	clear(c.current)
	c.changed()
}

func (c *catalogs) grant(change queue.Change[queue.HostGrant]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if change.Phase == queue.Invalid { // it gets no jobs
		change.Phase, change.Value.Tenants = queue.Put, []job.Tenant{""}
	}
	c.grants.take(change.Phase, change.Key, change.Value.Tenants)
	clear(c.current)
	c.changed()
}

// serves reports whether a host may run a tenant's jobs.
func (c *catalogs) serves(tenant job.Tenant, host string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.granted(host, tenant)
}

// granted is serves; c.mu must be held.
func (c *catalogs) granted(host string, tenant job.Tenant) bool {
	tenants := c.grants.values[host]
	return len(tenants) == 0 || slices.Contains(tenants, tenant)
}

// answering is what some hosts answer to a route.
type answering struct {
	digest string
	hosts  int       // how many answer it
	time   time.Time // when the newest of them was asked
}

// answering are the answers to a route of the hosts that may run a tenant's jobs, by digest; c.mu must be held.
func (c *catalogs) answering(tenant job.Tenant, route string) []answering {
	groups := map[string]answering{}
	for name, host := range c.hosts.values {
		digest := host.Blobs[route]
		if digest == "" || !c.granted(name, tenant) {
			continue
		}
		a := groups[digest]
		a.digest, a.hosts = digest, a.hosts+1
		if host.Time.After(a.time) {
			a.time = host.Time
		}
		groups[digest] = a
	}
	return slices.SortedFunc(maps.Values(groups), func(a, b answering) int { return strings.Compare(a.digest, b.digest) })
}

// sources are the answers of a tenant's hosts to a route, each with how many answer it.
func (c *catalogs) sources(ctx context.Context, tenant job.Tenant, route string) ([]source, error) {
	c.mu.Lock()
	hosts := c.answering(tenant, route)
	c.mu.Unlock()
	return gathered(hosts, func(a answering) (source, error) {
		body, err := c.blob(ctx, a.digest)
		return source{body: body, hosts: a.hosts, time: a.time}, err
	})
}

// read are the parsed object_info of hosts.
func (c *catalogs) read(ctx context.Context, hosts []answering) ([]source, error) {
	return gathered(hosts, func(a answering) (source, error) {
		classes, err := c.parsed(ctx, a.digest)
		return source{classes: classes, hosts: a.hosts, time: a.time}, err
	})
}

// gathered reads what hosts answer. What cannot be read is left out, since a file may expire before the entry that names it; it is
// an error when nothing can be.
func gathered(hosts []answering, read func(answering) (source, error)) ([]source, error) {
	var all []source
	var failed error
	for _, a := range hosts {
		s, err := read(a)
		if err != nil {
			failed = err
			continue
		}
		all = append(all, s)
	}
	if len(all) > 0 {
		return all, nil
	}
	return nil, failed
}

// parsed is an object_info, read and parsed once.
func (c *catalogs) parsed(ctx context.Context, digest string) ([]classDef, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if classes, known := c.infos[digest]; known {
		return classes, nil
	}
	body, err := c.q.CatalogBlob(ctx, digest)
	if err != nil {
		return nil, err
	}
	if len(c.infos) >= mostInfos {
		clear(c.infos)
	}
	c.infos[digest] = parseClasses(body)
	return c.infos[digest], nil
}

// mostInfos bounds the object_info that are kept in memory; one has about 1 MB.
const mostInfos = 128

// mostBlobBytes bounds the files that are kept in memory.
const mostBlobBytes = 256 << 20

func (c *catalogs) blob(ctx context.Context, digest string) ([]byte, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if body := c.blobs[digest]; body != nil {
		return body, nil
	}
	body, err := c.q.CatalogBlob(ctx, digest)
	if err != nil {
		return nil, err
	}
	total := len(body)
	for _, kept := range c.blobs {
		total += len(kept)
	}
	if total > mostBlobBytes {
		clear(c.blobs)
	}
	c.blobs[digest] = body
	return body, nil
}

func newPage(body []byte) page {
	sum := sha256.Sum256(body)
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	if _, err := w.Write(body); err != nil || w.Close() != nil {
		zipped.Reset()
	}
	return page{body: body, zipped: zipped.Bytes(), tag: `"` + hex.EncodeToString(sum[:16]) + `"`}
}

// answer sends a page, compressed when the client takes that, or 304 when the client has it already.
func (p *page) answer(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("ETag", p.tag)
	h.Set("Vary", "Accept-Encoding")
	h.Set("Cache-Control", "no-cache")
	if strings.Contains(r.Header.Get("If-None-Match"), p.tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	body := p.body
	if len(p.zipped) > 0 && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		body = p.zipped
	}
	_, _ = w.Write(body) // the client has gone
}

// list is a list of texts, united over the tenant's hosts; false when no host has answered the route.
func (g *Gateway) list(ctx context.Context, of *tenant, route string) ([]string, bool, error) {
	sources, err := g.catalogs.sources(ctx, of.name, route)
	if err != nil || len(sources) == 0 {
		return []string{}, false, err
	}
	return mergeLists(sources), true, nil
}

// getList answers a route whose answer is a list of texts.
func (g *Gateway) getList(route string) route {
	return func(w http.ResponseWriter, r *http.Request, of *tenant) error {
		list, _, err := g.list(r.Context(), of, route)
		if err != nil {
			return err
		}
		answerJSON(w, http.StatusOK, list)
		return nil
	}
}

// getModels answers the files in a folder of models, of all hosts together.
func (g *Gateway) getModels(w http.ResponseWriter, r *http.Request, of *tenant) error {
	list, known, err := g.list(r.Context(), of, "models/"+r.PathValue("folder"))
	if err != nil {
		return err
	}
	if !known {
		return &failed{http.StatusNotFound, "not_found", "no host has this folder of models"}
	}
	answerJSON(w, http.StatusOK, list)
	return nil
}

// getModelFolders answers the folders of models. Where they are on a host is not shown.
func (g *Gateway) getModelFolders(w http.ResponseWriter, r *http.Request, of *tenant) error {
	list, _, err := g.list(r.Context(), of, "models")
	if err != nil {
		return err
	}
	type folder struct {
		Name       string   `json:"name"`
		Folders    []string `json:"folders"`
		Extensions []string `json:"extensions"`
	}
	folders := []folder{}
	for _, name := range list {
		folders = append(folders, folder{name, []string{}, []string{}})
	}
	answerJSON(w, http.StatusOK, folders)
	return nil
}

// getModelFiles answers the files in a folder of models with what ComfyUI's page shows of them.
func (g *Gateway) getModelFiles(w http.ResponseWriter, r *http.Request, of *tenant) error {
	list, known, err := g.list(r.Context(), of, "models/"+r.PathValue("folder"))
	if err != nil {
		return err
	}
	if !known {
		return &failed{http.StatusNotFound, "not_found", "no host has this folder of models"}
	}
	type file struct {
		Name     string `json:"name"`
		Index    int    `json:"pathIndex"`
		Modified int64  `json:"modified"`
		Created  int64  `json:"created"`
		Size     int64  `json:"size"`
	}
	files := []file{}
	for _, name := range list {
		files = append(files, file{Name: name})
	}
	answerJSON(w, http.StatusOK, files)
	return nil
}
