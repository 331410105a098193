package gateway_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/gateway"
)

// packsOf is what a host's node packs bring. All have the pack "every", b in another version than the others; b alone has "only b".
func packsOf(host string) comfysim.Packs {
	packs := comfysim.Packs{
		Extensions: map[string]map[string]string{"every": {
			"js/main.js": "import './part.js' // of most", "js/part.js": "", "style.css": "/* of most */", "docs/Node/en.md": "# Help", "page.html": "<p>",
		}},
		Translations: json.RawMessage(`{"en":{"nodeDefs":{"Every":{"display_name":"Every"}}}}`),
		Templates:    map[string]map[string]string{"every": {"start.json": `{"nodes":[]}`, "start.jpg": "JPEG"}},
		Subgraphs:    map[string]map[string]string{"every": {"Blur": `{"nodes":["blur"]}`}},
	}
	if host == "b" {
		packs.Extensions["every"] = map[string]string{"js/main.js": "// of b", "js/newer.js": "", "style.css": "/* of b */"}
		packs.Extensions["only b"] = map[string]string{"x.js": "export default 1"}
		packs.Translations = json.RawMessage(`{"en":{"nodeDefs":{"Every":{"display_name":"B"},"OnlyB":{"display_name":"B"}}},"de":{}}`)
		packs.Replacements = json.RawMessage(replacements)
		packs.Templates["only b"] = map[string]string{"b.json": `{"nodes":["b"]}`}
		packs.Tooling = true // a pack with classes, and without scripts
		packs.Extensions["comfyui-tooling-nodes"] = map[string]string{"docs/ETN_ApplyMask/en.md": "# Mask", "page.html": "<script>1</script>"}
		packs.Pictures = map[string]string{"checkpoints/" + onlyB: "RIFFxxxxWEBP"}
	}
	return packs
}

// withPacks waits until the catalogues of all hosts are there.
func withPacks(f *face) []string {
	f.t.Helper()
	for {
		catalogued(f)
		var paths []string
		f.do(http.MethodGet, "/api/extensions", nil).into(f.t, &paths)
		var subgraphs map[string]any
		f.do(http.MethodGet, "/global_subgraphs", nil).into(f.t, &subgraphs)
		if slices.Contains(paths, "/extensions/only%20b/x.js") && slices.Contains(paths, "/extensions/every/js/part.js") && len(subgraphs) == 1 {
			return paths
		}
	}
}

// text is the body of a GET that is answered 200.
func (f *face) text(path string) string {
	f.t.Helper()
	a := f.do(http.MethodGet, path, nil)
	if a.status != http.StatusOK {
		f.t.Fatalf("GET %s: %d %.300s", path, a.status, a.body)
	}
	return string(a.body)
}

func TestAPageLoadsTheScriptsOfTheHostsNodePacks(t *testing.T) {
	t.Parallel()
	f := open(t)
	paths := withPacks(f)
	if diff := cmp.Diff([]string{"/extensions/every/js/main.js", "/extensions/every/js/part.js", "/extensions/only%20b/x.js"}, paths); diff != "" {
		t.Error(diff)
	}
	script := f.do(http.MethodGet, "/extensions/every/js/main.js", nil, "Accept-Encoding", "gzip")
	if h := script.header; script.status != http.StatusOK || h.Get("Content-Type") != "text/javascript; charset=utf-8" || h.Get("Content-Encoding") != "gzip" || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("a script: %d %v", script.status, h)
	}
	if again := f.do(http.MethodGet, "/extensions/every/js/main.js", nil, "If-None-Match", script.header.Get("ETag")); again.status != http.StatusNotModified {
		t.Errorf("with its ETag: %d", again.status)
	}
	for path, want := range map[string][2]string{ // one version of the pack, with what is in no list
		"/extensions/every/js/main.js":                               {"import './part.js' // of most", "text/javascript; charset=utf-8"},
		"/api/extensions/every/style.css":                            {"/* of most */", "text/css; charset=utf-8"},
		"/extensions/every/docs/Node/en.md":                          {"# Help", "text/markdown; charset=utf-8"},
		"/extensions/only%20b/x.js":                                  {"export default 1", "text/javascript; charset=utf-8"},
		"/extensions/comfyui-tooling-nodes/docs/ETN_ApplyMask/en.md": {"# Mask", "text/markdown; charset=utf-8"},
		"/extensions/comfyui-tooling-nodes/page.html":                {"<script>1</script>", "text/plain; charset=utf-8"}, // it is read, and never run
		"/extensions/only b/x.js":                                    {"export default 1", "text/javascript; charset=utf-8"},
	} {
		a := f.do(http.MethodGet, strings.ReplaceAll(path, " ", "%20"), nil)
		if a.status != http.StatusOK || string(a.body) != want[0] || a.header.Get("Content-Type") != want[1] {
			t.Errorf("%s: %d %q %v", path, a.status, a.body, a.header)
		}
	}
	for _, path := range []string{
		"/extensions/every/js/newer.js", "/extensions/nobody/x.js", "/extensions/comfyui-tooling-nodes/absent.md", "/extensions/simulated/absent.md", "/extensions/every/", "/extensions/every/js", "/extensions/every/..%2F..%2Fhistory", "/extensions/..%2Fhistory/x",
		"/extensions/every/js%5Cmain.js", "/extensions/every/js/main.js%3Fx", "/extensions/every%2Fjs/main.js", "/extensions/core/x.js", "/extensions/every/%252e%252e/x",
	} {
		if a := f.do(http.MethodGet, path, nil); a.status != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	if a := f.do(http.MethodPost, "/extensions/every/js/main.js", "x"); a.status != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", a.status)
	}
}

func TestTheScriptsOfNodePacksCanBeTurnedOff(t *testing.T) {
	t.Parallel()
	withPacks(open(t))
	for name, c := range map[string]struct {
		cfg    gateway.Extensions
		listed int
		status map[string]int
	}{
		"None": {gateway.Extensions{Off: true}, 0, map[string]int{"/extensions/every/js/main.js": 404, "/extensions/every/style.css": 404, "/extensions/only%20b/x.js": 404, "/extensions/comfyui-tooling-nodes/page.html": 404}},
		"One":  {gateway.Extensions{Packs: []string{"only b"}}, 1, map[string]int{"/extensions/every/js/main.js": 404, "/extensions/every/style.css": 404, "/extensions/only%20b/x.js": 200}},
	} {
		f := openWith(t, gateway.Config{Extensions: c.cfg})
		var paths []string
		for len(paths) < c.listed { // the gateway is a new one
			f.do(http.MethodGet, "/extensions", nil).into(t, &paths)
		}
		catalogued(f)
		if f.do(http.MethodGet, "/extensions", nil).into(t, &paths); len(paths) != c.listed {
			t.Errorf("%s: %v", name, paths)
		}
		for path, want := range c.status {
			if a := f.do(http.MethodGet, path, nil); a.status != want {
				t.Errorf("%s: %s: %d %s", name, path, a.status, a.body)
			}
		}
	}
}

func TestTranslationsWorkflowsAndSubgraphsAreThoseOfAllHosts(t *testing.T) {
	t.Parallel()
	f := open(t)
	withPacks(f)
	for path, want := range map[string]string{
		"/api/i18n":                                `{"de":{},"en":{"nodeDefs":{"Every":{"display_name":"Every"},"OnlyB":{"display_name":"B"}}}}`,
		"/api/node_replacements":                   replacements,
		"/workflow_templates":                      `{"every":["start"],"only b":["b"]}`,
		"/api/workflow_templates/every/start.json": `{"nodes":[]}`, "/api/workflow_templates/every/start.jpg": "JPEG",
		"/api/workflow_templates/only%20b/b.json": `{"nodes":["b"]}`,
		"/global_subgraphs/unknown":               "null",
	} {
		if got := f.text(path); got != want {
			t.Errorf("%s: %s", path, got)
		}
	}
	var listed map[string]struct{ Name, Data string }
	f.do(http.MethodGet, "/api/global_subgraphs", nil).into(t, &listed)
	for id, entry := range listed {
		var one struct{ Name, Data string }
		if f.do(http.MethodGet, "/api/global_subgraphs/"+id, nil).into(t, &one); entry.Name != "Blur" || entry.Data != "" || one.Data != `{"nodes":["blur"]}` {
			t.Errorf("%s: %+v, %+v", id, entry, one)
		}
	}
	for _, path := range []string{"/workflow_templates/every/none.json", "/workflow_templates/nobody/start.json", "/workflow_templates/every/..%2F..%2Fx"} {
		if a := f.do(http.MethodGet, path, nil); a.status != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	if f.get("/features")["node_replacements"] != true {
		t.Error("the page does not ask for replacements")
	}
}

func TestAHostThatHasAModelSaysWhatItIs(t *testing.T) {
	t.Parallel()
	f := open(t)
	withPacks(f)
	for path, want := range map[string]string{
		"/view_metadata/checkpoints?filename=" + onlyB:          `{"modelspec.title":"only-b"}`,
		"/api/experiment/models/preview/checkpoints/0/" + onlyB: "RIFFxxxxWEBP",
		"/api/etn/languages":                                                              `[{"code":"de","name":"German"}]`,
		"/api/etn/translate/de/was%3F%2050%25":                                            `"de→en: was? 50%"`,
		"/api/etn/model_info/checkpoints?offset=1&limit=8":                                `{"_meta":{"count":1,"offset":1,"total":2},"only-b.safetensors":{"base_model":"sd15","is_inpaint":false}}`,
		"/api/etn/model_info?offset=0&limit=1":                                            `{"_meta":{"count":1,"offset":0,"total":2},"v1-5-pruned-emaonly.safetensors":{"base_model":"sd15","is_inpaint":false}}`,
		"/api/etn/model_info/checkpoints?offset=9999999999&limit=99999999999999999999999": `{"_meta":{"count":0,"offset":9999999999,"total":2}}`,
	} {
		if got := f.text(path); got != want {
			t.Errorf("%s: %s", path, got)
		}
	}
	for path, want := range map[string]int{
		"/view_metadata/checkpoints?filename=nobody.safetensors": 404, "/view_metadata/..%2Fx?filename=" + onlyB: 404, "/view_metadata/checkpoints": 404,
		"/experiment/models/preview/checkpoints/0/" + checkpoint: 404, "/experiment/models/preview/checkpoints/0/..%2F" + onlyB: 404,
		"/docs/KSampler/en.md": 404, "/docs/..%2Fhistory": 404, "/api/etn/model_info/nothing": 400, "/api/etn/translate/de/" + strings.Repeat("x", 5000): 413,
		"/api/etn/image/one": 404, "/api/etn/image/..%2Fone": 404,
	} {
		if a := f.do(http.MethodGet, path, nil); a.status != want {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	if a := f.do(http.MethodPut, "/api/etn/upload/loras/a.safetensors", "x"); a.status != http.StatusNotImplemented {
		t.Errorf("PUT of a model: %d %s", a.status, a.body)
	}
	if a := f.do(http.MethodPost, "/api/etn/workflow/subscribe", "{}"); a.status != http.StatusOK {
		t.Errorf("subscribe: %d %s", a.status, a.body)
	}
}
