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
