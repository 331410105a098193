package comfysim

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// result is the result of a node: its values by slot, and its ui output, nil when it has none.
type result struct {
	values []any
	ui     map[string]any
	broken bool // ui cannot be written as JSON
}

// cache answers equal nodes from earlier runs, keyed by what a node is and everything upstream of it; node ids do not
// matter. By default only the nodes of the latest prompt are kept.
type cache struct {
	keep    bool
	results map[string]*result
}

func newCache(keep bool) *cache { return &cache{keep: keep, results: map[string]*result{}} }

func (c *cache) reset() { clear(c.results) }

// retain drops what the prompt with these signatures does not have.
func (c *cache) retain(signatures map[string]string) {
	if c.keep {
		return
	}
	wanted := make(map[string]bool, len(signatures))
	for _, s := range signatures {
		wanted[s] = true
	}
	maps.DeleteFunc(c.results, func(key string, _ *result) bool { return !wanted[key] })
}

// signatures computes the key of every node of a graph whose links all resolve.
func (p *process) signatures(g *graph) map[string]string {
	done := make(map[string]string, len(g.order))
	for _, id := range g.order {
		p.signature(g, id, done)
	}
	return done
}

func (p *process) signature(g *graph, id string, done map[string]string) string {
	if s, ok := done[id]; ok {
		return s
	}
	n := g.nodes[id]
	if n == nil {
		return "absent " + id
	}
	done[id] = "cycle " + id
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%q", n.className())
	for _, name := range slices.Sorted(maps.Keys(n.inputs)) {
		value := n.inputs[name]
		if from, slot, ok := link(value); ok {
			_, _ = fmt.Fprintf(h, "|%q link %s %d", name, p.signature(g, from, done), slot)
			continue
		}
		text, _ := json.Marshal(value)
		_, _ = fmt.Fprintf(h, "|%q %s", name, text)
		if n.className() == "LoadImage" && name == "image" { // IS_CHANGED hashes the file
			f, _ := p.inputFile(value)
			_, _ = fmt.Fprintf(h, " %x", sha256.Sum256(f.data))
		}
	}
	done[id] = hex.EncodeToString(h.Sum(nil))
	return done[id]
}
