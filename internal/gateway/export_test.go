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
