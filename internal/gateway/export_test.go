package gateway

import (
	"net/http"
	"net/http/httptest"

	"github.com/comfyherd/comfyherd/internal/job"
)

// Identify gives the tenant and path that a handler receives of a request, and the status of the answer.
func Identify(cfg Config, fallback job.Tenant, r *http.Request) (tenant job.Tenant, path string, status int) {
	g := &Gateway{keys: newKeyring(cfg.Keys)}
	answer := httptest.NewRecorder()
	g.identify(fallback, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		tenant, _ = tenantOf(r)
		path = r.URL.Path
	})).ServeHTTP(answer, r)
	return tenant, path, answer.Code
}

// MergeClasses merges the object_info of hosts, each with how many answer it.
func MergeClasses(answers map[string]int) map[string]string {
	var sources []source
	for body, hosts := range answers {
		sources = append(sources, source{body: []byte(body), hosts: hosts})
	}
	merged := map[string]string{}
	for class, def := range mergeClasses(sources).defs {
		merged[class] = string(def)
	}
	return merged
}

// ReadPrompt reads the body of POST /prompt and gives what is stored of it.
func ReadPrompt(body []byte) (stored []byte, err error) {
	p, err := readPrompt(body)
	if err != nil {
		return nil, err
	}
	return storedBody(p), nil
}

// PlainJSON is JSON without the words that only Python's has.
func PlainJSON(body []byte) []byte { return plainJSON(body) }

// CleanPath is a path of a client, if it stays below its folder.
func CleanPath(path string) (string, bool) { return cleanPath(path) }

// ShownFrame is a host's message as clients receive it: with the flag for previews with metadata, and without.
func ShownFrame(isBinary bool, data []byte, prompt string, id job.ID) [][]byte {
	if isBinary {
		f := shownBinary(data, prompt, id)
		return [][]byte{f.data, f.plain}
	}
	text, ok := readText(data)
	if !ok {
		return nil
	}
	if text.Data.ID != prompt {
		return nil
	}
	return [][]byte{shownText(data, &text, id).data}
}
