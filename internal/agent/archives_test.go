package agent_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// catalogues gives every catalogue that the host stores.
func catalogues(h *house) (next func() queue.Catalog) {
	changes := make(chan queue.Change[queue.Catalog], 100)
	ctx, stop := context.WithCancel(h.ctx)
	done := make(chan error, 1)
	go func() { done <- h.q.WatchCatalogs(ctx, func(c queue.Change[queue.Catalog]) { changes <- c }) }()
	h.t.Cleanup(func() { stop(); <-done })
	return func() queue.Catalog {
		for {
			if c := await(h, changes, "a change of the catalogue"); c.Phase == queue.Put {
				return c.Value
			}
		}
	}
}

func TestScriptsAndSubgraphsAreInTheCatalogueAsTheyWereWhenComfyUIStarted(t *testing.T) {
	t.Parallel()
	h := found(t)
	pages := map[string]string{
		"object_info": `{"KSampler":{}}`, "models": `[]`, "i18n": `{"en":{}}`,
		"extensions": `["/extensions/core/x.js","/extensions/my%20pack/js/a.js","/extensions/my%20pack/b.js","/extensions/my%20pack/gone.js",` +
			`"/extensions/my%20pack/../../x.js","/extensions/%2e%2e/x.js","/extensions/a%2Fb/x.js","/extensions/no","x","","/extensions/huge/a.js"]`,
		"extensions/huge/a.js": strings.Repeat("x", 16<<20+1),
		"extensions/core/x.js": "x", "extensions/my pack/js/a.js": "a", "extensions/my pack/b.js": "b", "x.js": "secret", "extensions/a/b/x.js": "x",
		"global_subgraphs": `{"one":{"name":"s"},"../two":{},"lost":{}}`, "global_subgraphs/one": `{"data":"{}"}`,
	}
	h.fake.pages = maps.Clone(pages)
	next := catalogues(h)
	h.hire(h.q, agent.Config{LearnEvery: time.Millisecond})
	h.run()
	want := map[string]map[string]string{
		"extensions/my pack/": {"js/a.js": "a", "b.js": "b"}, "global_subgraphs/": {"one": `{"data":"{}"}`},
	}
	archives := func(c queue.Catalog) map[string]map[string]string {
		t.Helper()
		found := map[string]map[string]string{}
		for route, digest := range c.Blobs {
			if route[len(route)-1] != '/' {
				continue
			}
			packed, err := h.q.CatalogBlob(h.ctx, digest)
			if errors.Is(err, queue.ErrNoFile) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			files, err := queue.OpenArchive(packed)
			if err != nil {
				t.Fatal(err)
			}
			found[route] = map[string]string{}
			for name, content := range files {
				found[route][name] = string(content)
			}
		}
		return found
	}
	first := next()
	if diff := cmp.Diff(want, archives(first)); diff != "" || first.Blobs["i18n"] != queue.CatalogDigest([]byte(pages["i18n"])) {
		t.Errorf("%v: %s", first.Blobs, diff)
	}
	h.fake.set(func() { h.fake.pages["extensions/my pack/b.js"], h.fake.pages["models"] = "newer", `["vae"]` })
	if diff := cmp.Diff(want, archives(next())); diff != "" {
		t.Errorf("before ComfyUI was started again: %s", diff)
	}
	h.fake.set(func() { h.fake.state.Connected, h.fake.process = false, "second" })
	want["extensions/my pack/"]["b.js"] = "newer"
	if diff := cmp.Diff(want, archives(next())); diff != "" {
		t.Errorf("after that: %s", diff)
	}
	if _, err := h.nc.Request("$JS.API.STREAM.PURGE.OBJ_COMFY_CATALOG", nil, time.Minute); err != nil {
		t.Fatal(err)
	}
	for cmp.Diff(want, archives(next())) != "" { // until they are in the store again
	}
}
