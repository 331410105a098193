package gateway

import (
	"net/http"
	"strings"

	"github.com/comfyherd/comfyherd/internal/job"
)

// handler serves both APIs for the requests of one listener.
func (g *Gateway) handler(fallback job.Tenant) http.Handler {
	mux := http.NewServeMux()
	g.mountComfy(mux)
	g.mountV2(mux)
	return g.identify(fallback, mux)
}

// route answers one request of a tenant. An error that it returns is answered in the form of the path's API; nothing may have been
// written then.
type route func(w http.ResponseWriter, r *http.Request, of *tenant) error

// handle adds a route of ComfyUI's own API under its path and under /api, as ComfyUI does.
func (g *Gateway) handle(mux *http.ServeMux, pattern string, answer route) {
	method, path, _ := strings.Cut(pattern, " ")
	serve := g.serving(answer)
	mux.Handle(method+" "+path, serve)
	if !strings.HasPrefix(path, "/api/") && !strings.HasPrefix(path, "/internal/") {
		mux.Handle(method+" /api"+path, serve)
	}
}

// serving makes a handler of a route.
func (g *Gateway) serving(answer route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, err := tenantOf(r)
		if err == nil {
			var of *tenant
			if of, err = g.tenant(r.Context(), name); err == nil {
				err = answer(w, r, of)
			}
		}
		if err == nil {
			return
		}
		if f := failedOf(err); f.status >= http.StatusInternalServerError {
			g.log.Warn("a request has failed", "tenant", name, "method", r.Method, "path", r.URL.Path, "error", err)
		}
		answerError(w, r, err)
	})
}

// mountComfy adds the routes of ComfyUI's own API.
func (g *Gateway) mountComfy(mux *http.ServeMux) {
	g.handle(mux, "GET /ws", g.getSocket)
	g.handle(mux, "GET /prompt", g.getPrompt)
	g.handle(mux, "POST /prompt", g.postPrompt)
	g.handle(mux, "GET /queue", g.getQueue)
	g.handle(mux, "GET /view", g.getView)
	g.handle(mux, "POST /upload/image", g.postUpload)
	g.handle(mux, "POST /upload/mask", g.postMask)
	g.handle(mux, "POST /queue", g.postQueue)
	g.handle(mux, "POST /interrupt", g.postInterrupt)
	g.handle(mux, "GET /history", g.getHistory)
	g.handle(mux, "GET /history/{id}", g.getHistoryOf)
}
