package gateway

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
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

	mu       sync.Mutex // guards all below
	hosts    mirror[hostCatalog]
	grants   mirror[[]job.Tenant] // of hosts that serve some tenants only
	views    map[string]*view     // by the digests of the answers that are merged in them
	current  map[job.Tenant]*view
	last     map[job.Tenant]*view                    // the newest that the tenant has received
	versions map[job.Tenant]map[string][]hostsAnswer // of archives, by route and a slash: that of most hosts first

	pages  *cache[*page]             // what is made of several answers, and files of archives
	opened *cache[map[string][]byte] // archives by digest
	blobs  *cache[[]byte]            // answers of hosts by digest
	infos  *cache[[]classDef]        // object_info by digest, parsed
}

func newCatalogs(q *queue.Queue, changed func()) *catalogs {
	c := &catalogs{
		q: q, changed: changed, hosts: mirror[hostCatalog]{values: map[string]hostCatalog{}}, grants: mirror[[]job.Tenant]{values: map[string][]job.Tenant{}},
		views: map[string]*view{}, current: map[job.Tenant]*view{}, last: map[job.Tenant]*view{},
		versions: map[job.Tenant]map[string][]hostsAnswer{},
	}
	c.pages, c.opened = newCache[*page](mostPageBytes, &c.merging), newCache[map[string][]byte](mostOpenBytes, &c.merging)
	c.blobs, c.infos = newCache[[]byte](mostBlobBytes, &c.merging), newCache[[]classDef](mostInfoBytes, &c.merging)
	return c
}

// mirror has the values of a bucket, kept up to date by its watch.
type mirror[V any] struct {
	values map[string]V
	unseen map[string]bool // keys that the watch has not given since its last Reset: at Synced they are removed
}

func (m *mirror[V]) take(phase queue.Phase, key string, value V) {
	delete(m.unseen, key)
	switch phase {
	case queue.Reset:
		m.unseen = map[string]bool{}
		for key := range m.values {
			m.unseen[key] = true
		}
	case queue.Put:
		m.values[key] = value
	case queue.Gone, queue.Invalid:
		delete(m.values, key)
	case queue.Synced:
		for key := range m.unseen {
			delete(m.values, key)
		}
		m.unseen = nil
	}
}

// follow keeps the catalogues up to date until ctx ends.
func (c *catalogs) follow(ctx context.Context, log *slog.Logger) {
	var both sync.WaitGroup
	both.Go(func() {
		followAgain(ctx, log, "the catalogues of hosts", func() error { return c.q.WatchCatalogs(ctx, c.host) })
	})
	both.Go(func() {
		followAgain(ctx, log, "the grants of hosts", func() error { return c.q.WatchGrants(ctx, c.grant) })
	})
	both.Wait()
	c.merging.Wait()
}

func (c *catalogs) host(change queue.Change[queue.Catalog]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hosts.take(change.Phase, change.Key, hostCatalog{change.Value, archivesOf(&change.Value)})
	clear(c.current)
	clear(c.versions)
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
	clear(c.versions)
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

// hostCatalog is a host's catalogue, and by what hosts with the same archives are recognised.
type hostCatalog struct {
	queue.Catalog
	archives [sha256.Size]byte
}

// archivesOf is a sum of the archives of a catalogue.
func archivesOf(c *queue.Catalog) [sha256.Size]byte {
	var all []byte
	for _, route := range slices.Sorted(maps.Keys(c.Blobs)) {
		if strings.HasSuffix(route, "/") {
			all = append(append(append(all, route...), c.Blobs[route]...), 0)
		}
	}
	return sha256.Sum256(all)
}

// hostsAnswer is what some hosts answer to a route.
type hostsAnswer struct {
	digest string
	hosts  int       // how many answer it
	time   time.Time // when the newest of them was asked
}

// byHosts orders what hosts answer: what most of them do first, then what is newest. It is the same order on every gateway.
func byHosts(a, b hostsAnswer) int {
	if a.hosts != b.hosts {
		return b.hosts - a.hosts
	}
	return cmp.Or(b.time.Compare(a.time), strings.Compare(a.digest, b.digest))
}

// add counts hosts that answer this.
func (a hostsAnswer) add(digest string, hosts int, asked time.Time) hostsAnswer {
	a.digest, a.hosts = digest, a.hosts+hosts
	if asked.After(a.time) {
		a.time = asked
	}
	return a
}

// answersLocked are the answers to a route of the hosts that may run a tenant's jobs, by digest; c.mu must be held.
func (c *catalogs) answersLocked(tenant job.Tenant, route string) []hostsAnswer {
	groups := map[string]hostsAnswer{}
	for name, host := range c.hosts.values {
		if digest := host.Blobs[route]; digest != "" && c.granted(name, tenant) {
			groups[digest] = groups[digest].add(digest, 1, host.Time)
		}
	}
	return slices.SortedFunc(maps.Values(groups), byHosts)
}

// answers is answersLocked, when c.mu is not held.
func (c *catalogs) answers(tenant job.Tenant, route string) []hostsAnswer {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answersLocked(tenant, route)
}

// hostsAnswering are the hosts that may run a tenant's jobs and answer this to a route.
func (c *catalogs) hostsAnswering(tenant job.Tenant, route, digest string) []string {
	return c.hostsOf(tenant, func(c *queue.Catalog) bool { return c.Blobs[route] == digest })
}

// withClass are the hosts that may run a tenant's jobs and have a node class for which wanted holds. The error says what could not be read of others.
func (c *catalogs) withClass(ctx context.Context, tenant job.Tenant, wanted func(classDef) bool) (hosts []string, err error) {
	for _, a := range c.answers(tenant, objectInfoRoute) {
		classes, unread := c.parsed(ctx, a.digest)
		err = errors.Join(err, unread)
		if slices.ContainsFunc(classes, wanted) {
			hosts = append(hosts, c.hostsAnswering(tenant, objectInfoRoute, a.digest)...)
		}
	}
	return hosts, err
}

// hostsOf are the hosts that may run a tenant's jobs and for whose catalogue this holds, by name.
func (c *catalogs) hostsOf(tenant job.Tenant, holds func(*queue.Catalog) bool) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for name, host := range c.hosts.values {
		if c.granted(name, tenant) && holds(&host.Catalog) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// sources are the answers of a tenant's hosts to a route, each with how many answer it.
func (c *catalogs) sources(ctx context.Context, tenant job.Tenant, route string) ([]source, error) {
	hosts := c.answers(tenant, route)
	return gathered(hosts, func(a hostsAnswer) (source, error) {
		body, err := c.blob(ctx, a.digest)
		return source{body: body, hosts: a.hosts, time: a.time}, err
	})
}

// read are the parsed object_info of hosts.
func (c *catalogs) read(ctx context.Context, hosts []hostsAnswer) ([]source, error) {
	return gathered(hosts, func(a hostsAnswer) (source, error) {
		classes, err := c.parsed(ctx, a.digest)
		return source{classes: classes, hosts: a.hosts, time: a.time}, err
	})
}

// gathered reads what hosts answer. What cannot be read is left out, since a file may expire before the entry that names it; it is
// an error when nothing can be.
func gathered(hosts []hostsAnswer, read func(hostsAnswer) (source, error)) ([]source, error) {
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

// parsed is an object_info.
func (c *catalogs) parsed(ctx context.Context, digest string) ([]classDef, error) {
	return c.infos.get(ctx, digest, func(ctx context.Context) (cached[[]classDef], error) {
		body, err := c.q.CatalogBlob(ctx, digest)
		return cached[[]classDef]{value: parseClasses(body), size: len(body)}, err
	})
}

// These bound what is kept in memory: answers of hosts, object_info (one has about 1 MB), answers of the gateway, and archives.
const (
	mostBlobBytes = 256 << 20
	mostInfoBytes = 128 << 20
	mostPageBytes = 64 << 20
	mostOpenBytes = 128 << 20
)

// blob is what a host has answered.
func (c *catalogs) blob(ctx context.Context, digest string) ([]byte, error) {
	return c.blobs.get(ctx, digest, func(ctx context.Context) (cached[[]byte], error) {
		body, err := c.q.CatalogBlob(ctx, digest)
		return cached[[]byte]{value: body, size: len(body)}, err
	})
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
