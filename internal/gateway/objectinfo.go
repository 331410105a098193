package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
)

// view is the merged object_info of some hosts. Tenants whose hosts give the same answers share a view, whatever the names of the
// hosts are.
type view struct {
	hosts []hostsAnswer
	begin sync.Once
	done  chan struct{} // closed when it is merged; then all below is set

	classes classes
	info    page // /object_info
	err     error
}

// mostViews bounds the merged answers that are kept, of which tenants with other hosts, and earlier states of the fleet, have one each.
const mostViews = 16

// mergeTime bounds reading what is merged.
const mergeTime = time.Minute

// merged is the object_info of a tenant's hosts. While a newer one is being merged it is the last one that the tenant has received,
// so only the first request of a tenant waits. It reports how the answer was found, for the metrics.
func (c *catalogs) merged(ctx context.Context, tenant job.Tenant) (*view, string, error) {
	c.mu.Lock()
	v := c.view(tenant)
	last := c.last[tenant]
	c.mu.Unlock()
	begun := false
	v.begin.Do(func() {
		begun = true
		c.merging.Go(func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), mergeTime)
			defer cancel()
			c.merge(ctx, v)
		})
	})
	found := infoMerged
	select {
	case <-v.done:
		if !begun {
			found = infoReady
		}
	default:
		if last != nil {
			return last, infoEarlier, nil
		}
	}
	select {
	case <-v.done:
	case <-ctx.Done():
		return nil, found, ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if v.err != nil { // the next request tries again
		c.forget(v)
		if last != nil {
			return last, infoEarlier, nil
		}
		return nil, found, v.err
	}
	c.last[tenant] = v
	return v, found, nil
}

// How an object_info was found.
const (
	infoReady   = "ready"   // in memory
	infoEarlier = "earlier" // that of before a change, while a newer one is being merged
	infoMerged  = "merged"  // the request waited for it
)

// view finds the view of a tenant; c.mu must be held.
func (c *catalogs) view(tenant job.Tenant) *view {
	if v := c.current[tenant]; v != nil {
		return v
	}
	hosts := c.answersLocked(tenant, objectInfoRoute)
	var key strings.Builder
	for _, a := range hosts {
		key.WriteString(a.digest + " " + strconv.Itoa(a.hosts) + "\n")
	}
	v := c.views[key.String()]
	if v == nil {
		if len(c.views) >= mostViews {
			clear(c.views)
		}
		v = &view{hosts: hosts, done: make(chan struct{})}
		c.views[key.String()] = v
	}
	c.current[tenant] = v
	return v
}

// forget has a view made again; c.mu must be held.
func (c *catalogs) forget(v *view) {
	for key, other := range c.views {
		if other == v {
			delete(c.views, key)
		}
	}
	for tenant, other := range c.current {
		if other == v {
			delete(c.current, tenant)
		}
	}
}

const objectInfoRoute = "object_info"

// merge merges a view. Of the answers of its hosts it reads and parses only those that are not in memory yet.
func (c *catalogs) merge(ctx context.Context, v *view) {
	defer close(v.done)
	sources, err := c.read(ctx, v.hosts)
	if err != nil {
		v.err = err
		return
	}
	v.classes = mergeClasses(sources)
	v.info = newPage(v.classes.json(nil))
}

// json is the whole answer, with other definitions of some classes.
func (c *classes) json(others map[string]json.RawMessage) []byte {
	out := []byte{'{'}
	for i, class := range c.order {
		if i > 0 {
			out = append(out, ", "...)
		}
		def := c.defs[class]
		if other := others[class]; other != nil {
			def = other
		}
		out = append(append(append(out, encode(class)...), ": "...), def...)
	}
	return append(out, '}')
}

// getObjectInfo answers the classes of all hosts of the tenant as those of one ComfyUI, with the tenant's uploads among the choices.
func (g *Gateway) getObjectInfo(w http.ResponseWriter, r *http.Request, of *tenant) error {
	v, found, err := g.catalogs.merged(r.Context(), of.name)
	g.metrics.info.WithLabelValues(found).Inc()
	if err != nil {
		return err
	}
	g.uploads.page(v, of.name, g.uploaded(r.Context(), of.name)).answer(w, r)
	return nil
}

// getClass answers one class; an empty object when no host has it.
func (g *Gateway) getClass(w http.ResponseWriter, r *http.Request, of *tenant) error {
	v, found, err := g.catalogs.merged(r.Context(), of.name)
	g.metrics.info.WithLabelValues(found).Inc()
	if err != nil {
		return err
	}
	shown := map[string]json.RawMessage{}
	class := r.PathValue("class")
	if def, known := v.classes.defs[class]; known {
		shown[class] = withUploads(def, g.uploaded(r.Context(), of.name))
	}
	answerJSON(w, http.StatusOK, shown)
	return nil
}
