package gateway

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

const (
	mostUnited = 64 << 20 // bytes of different answers to one route that are united
	// deepest is how deep translations are merged; below that the first host's count.
	deepest = 16
)

// united is one answer made of those of a tenant's hosts to a route, once after each change of them.
func (c *catalogs) united(ctx context.Context, tenant job.Tenant, route string, unite func([]source) []byte) (*page, error) {
	hosts := c.answers(tenant, route)
	var key strings.Builder
	key.WriteString(route)
	for _, a := range hosts {
		key.WriteString("\n" + a.digest + " " + strconv.Itoa(a.hosts))
	}
	return c.pages.get(ctx, key.String(), func(ctx context.Context) (cached[*page], error) {
		sources, err := gathered(hosts, func(a hostsAnswer) (source, error) {
			body, err := c.blob(ctx, a.digest)
			return source{body: body, hosts: a.hosts, time: a.time}, err
		})
		if err != nil {
			return cached[*page]{}, err
		}
		p := newPage(unite(bounded(sources)))
		return cached[*page]{value: &p, size: p.size()}, nil
	})
}

// bounded leaves out what is beyond mostUnited: the answers of the fewest hosts.
func bounded(sources []source) []source {
	total := 0
	for i := range sources {
		if total += len(sources[i].body); total > mostUnited {
			return sources[:i]
		}
	}
	return sources
}

// getUnited answers a route of which each host has a part.
func (g *Gateway) getUnited(route string, unite func([]source) []byte) route {
	return func(w http.ResponseWriter, r *http.Request, of *tenant) error {
		p, err := g.catalogs.united(r.Context(), of.name, route, unite)
		if err != nil {
			return err
		}
		p.answer(w, r)
		return nil
	}
}

// uniteObjects unites JSON objects, and the objects in them up to a depth. Where two have different values the first one's counts.
func uniteObjects(depth int) func([]source) []byte {
	return func(sources []source) []byte {
		united := json.RawMessage("{}")
		for _, s := range sources {
			if body := bytes.TrimSpace(s.body); len(body) > 0 && body[0] == '{' {
				united = merged(united, body, depth)
			}
		}
		return united
	}
}

func merged(first, second json.RawMessage, depth int) json.RawMessage {
	var a, b map[string]json.RawMessage
	if depth == 0 || bytes.Equal(first, second) || !object(first, &a) || !object(second, &b) {
		return first
	}
	for name, value := range b {
		if known, there := a[name]; there {
			value = merged(known, value, depth-1)
		}
		a[name] = value
	}
	return encode(a)
}

// object reads a JSON object; false for any other value.
func object(raw json.RawMessage, into *map[string]json.RawMessage) bool {
	raw = bytes.TrimSpace(raw)
	return len(raw) > 0 && raw[0] == '{' && json.Unmarshal(raw, into) == nil
}

// uniteTemplates unites lists of workflows, by the pack that brings them.
func uniteTemplates(sources []source) []byte {
	packs := map[string][]string{}
	for _, s := range sources {
		var listed map[string]json.RawMessage
		if !object(s.body, &listed) {
			continue
		}
		for pack, raw := range listed {
			var names []string
			if !texts(raw, &names) {
				continue
			}
			if known, there := packs[pack]; there {
				packs[pack] = unite(known, names)
			} else {
				packs[pack] = unite(names, nil)
			}
		}
	}
	return encode(packs)
}

// subgraph is an entry of /global_subgraphs, as far as it says which one it is. Its id depends on where the host is installed.
type subgraph struct {
	Source string `json:"source"`
	Name   string `json:"name"`
	Info   struct {
		Pack string `json:"node_pack"`
	} `json:"info"`
}

// uniteSubgraphs unites lists of subgraphs. One that hosts have under several ids is listed under that of the most hosts.
func uniteSubgraphs(sources []source) []byte {
	type choice struct {
		id    string
		entry json.RawMessage
		hosts int
	}
	choices := map[subgraph][]choice{}
	for _, s := range sources {
		var listed map[string]json.RawMessage
		if !object(s.body, &listed) {
			continue
		}
		for _, id := range slices.Sorted(maps.Keys(listed)) {
			var which subgraph
			if json.Unmarshal(listed[id], &which) != nil || which.Name == "" {
				continue
			}
			at := slices.IndexFunc(choices[which], func(c choice) bool { return c.id == id })
			if at < 0 {
				choices[which] = append(choices[which], choice{id: id, entry: listed[id]})
				at = len(choices[which]) - 1
			}
			choices[which][at].hosts += s.hosts
		}
	}
	united := map[string]json.RawMessage{}
	for _, of := range choices {
		best := slices.MinFunc(of, func(a, b choice) int { return cmp.Compare(b.hosts, a.hosts) }) // of several the first: of the most alike, or newest, hosts
		united[best.id] = best.entry
	}
	return encode(united)
}

// getSubgraph answers a subgraph, which every host of the tenant that has its id has alike; null when none does, as ComfyUI answers.
func (g *Gateway) getSubgraph(w http.ResponseWriter, r *http.Request, of *tenant) error {
	id := r.PathValue("id")
	for _, version := range g.catalogs.archives(of.name)[queue.ArchiveRoute(subgraphsRoute)] {
		p, err := g.catalogs.archived(r.Context(), version.digest, id, "")
		if err == nil && p != nil && json.Valid(p.body) {
			p.answer(w, r)
			return nil
		}
	}
	hosts, err := g.listing(r.Context(), of.name, subgraphsRoute, id)
	if err != nil {
		return err
	}
	none := newPage([]byte("null"))
	p, err := g.anyHost(r.Context(), hosts, queue.PageRequest{Route: subgraphsRoute + "/" + id}, errNoPath)
	switch {
	case len(hosts) == 0:
		p = &none
	case err != nil:
		return err
	}
	return answerPage(w, r, p)
}

const (
	subgraphsRoute = "global_subgraphs"
	templatesRoute = "workflow_templates"
)

// answerPage answers what should be JSON.
func answerPage(w http.ResponseWriter, r *http.Request, p *page) error {
	if !json.Valid(p.body) {
		return &failed{http.StatusBadGateway, "bad_answer", "the host's answer is no JSON"}
	}
	p.withType("").answer(w, r)
	return nil
}

// listing are the hosts whose answer to a route, a JSON object, has a member.
func (g *Gateway) listing(ctx context.Context, tenant job.Tenant, route, member string) ([]string, error) {
	var hosts []string
	return hosts, g.each(ctx, tenant, route, func(body []byte, of []string) {
		var members map[string]json.RawMessage
		if object(body, &members) && members[member] != nil {
			hosts = append(hosts, of...)
		}
	})
}

// each tells of the different answers of a tenant's hosts to a route, and which hosts answer it: first what most hosts answer. What cannot be
// read is left out; it is an error when nothing can be.
func (g *Gateway) each(ctx context.Context, tenant job.Tenant, route string, tell func(body []byte, hosts []string)) error {
	var failed error
	told := false
	for _, a := range g.catalogs.answers(tenant, route) {
		body, err := g.catalogs.blob(ctx, a.digest)
		if err != nil {
			failed = err
			continue
		}
		told = true
		tell(body, g.catalogs.hostsAnswering(tenant, route, a.digest))
	}
	if told {
		return nil
	}
	return failed
}

// getTemplate answers a file of a pack's example workflows.
func (g *Gateway) getTemplate(w http.ResponseWriter, r *http.Request, of *tenant) error {
	pack, file := r.PathValue("pack"), r.PathValue("file")
	absent := &failed{http.StatusNotFound, "not_found", "no host that runs your prompts has this workflow"}
	if !fileOfPack(pack) || strings.Contains(pack, "/") || !fileOfPack(file) {
		return absent
	}
	hosts, err := g.listing(r.Context(), of.name, templatesRoute, pack)
	if err != nil {
		return err
	}
	p, err := g.anyHost(r.Context(), hosts, queue.PageRequest{Route: "api/" + templatesRoute + "/" + pack + "/" + file}, absent)
	if err != nil {
		return err
	}
	p.withType(packType(file)).answer(w, r)
	return nil
}
