package gateway

import (
	_ "embed"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// Document is the OpenAPI document of the Comfy API v2, version 2.0.0, as comfy-sdk 0.5.0 has it (spec/openapi.yaml), byte for byte.
// Its licence is MIT and is beside it.
//
//go:embed v2openapi.yaml
var Document []byte

const v2Prefix = "/api/v2/"

// mountV2 adds the routes of the Comfy API v2: those of the document, the list of jobs, which its clients call too, and the
// document itself.
func (g *Gateway) mountV2(mux *http.ServeMux) {
	routes := http.NewServeMux()
	for pattern, answer := range g.v2Routes() {
		method, path, _ := strings.Cut(pattern, " ")
		routes.Handle(method+" "+v2Prefix+path, g.servingV2(routeOfV2(path), answer))
	}
	mux.HandleFunc(v2Prefix, func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := routes.Handler(r); pattern != "" {
			routes.ServeHTTP(w, r)
			return
		}
		g.servingV2(routeNone, func(http.ResponseWriter, *http.Request, *tenant) error { return noRoute(routes, r) }).ServeHTTP(w, r)
	})
}

func (g *Gateway) v2Routes() map[string]route {
	return map[string]route{
		"POST assets":               g.postAsset,
		"POST assets/from-hash":     g.assetFromHash,
		"HEAD assets/by-hash/{sum}": g.headAssetByHash,
		"GET assets/{id}":           g.getAsset,
		"DELETE assets/{id}":        g.deleteAsset,
		"GET assets/{id}/{part}":    g.getAssetContent, // a literal content would be as specific as by-hash, which the mux refuses
		"POST jobs":                 g.metrics.submits(apiV2, g.postJob),
		"GET jobs":                  g.listJobs,
		"GET jobs/{id}":             g.getJob,
		"GET jobs/{id}/workflow":    g.getJobWorkflow,
		"GET jobs/{id}/events":      g.getJobEvents,
		"POST jobs/{id}/cancel":     g.cancelJob,
		"GET openapi.yaml":          getDocument,
	}
}

// noRoute says that a path does not exist, or with which methods it does.
func noRoute(routes *http.ServeMux, r *http.Request) error {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodDelete} {
		other := *r
		other.Method = method
		if _, pattern := routes.Handler(&other); pattern != "" {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) == 0 {
		return refuse(http.StatusNotFound, "not_found", "the Comfy API v2 has no path %.200q", r.URL.Path)
	}
	e := refuse(http.StatusMethodNotAllowed, "method_not_allowed", "%.200q does not take %.20s: use %s", r.URL.Path, r.Method, strings.Join(allowed, " or "))
	e.allow = strings.Join(allowed, ", ")
	return e
}

func getDocument(w http.ResponseWriter, _ *http.Request, _ *tenant) error {
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(Document) // the client has gone
	return nil
}

// requestHeader is the header with the id of a request, which clients show beside an error.
const requestHeader = "X-Comfy-Request-Id"

// servingV2 makes a handler of a route, which is counted under a name and answers errors in the envelope of the Comfy API v2. What went wrong inside is logged
// with the request's id, and the client receives only that id.
func (g *Gateway) servingV2(name string, answer route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		routed(w, name)
		id := uuid.NewString()
		w.Header().Set(requestHeader, id)
		if err := g.ask(g.log.With("request", id), answer, w, r); err != nil {
			refusalOf(err).write(w)
		}
	})
}

// v2Error answers an error in the form of the Comfy API v2.
func v2Error(w http.ResponseWriter, f *failed) { refusalOf(f).write(w) }

// writeV2 answers with JSON. None of the shapes has a value that JSON lacks.
func writeV2(w http.ResponseWriter, status int, answer any) {
	body, err := json.Marshal(answer)
	if err != nil {
		http.Error(w, "500 Internal Server Error", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client has gone
}
