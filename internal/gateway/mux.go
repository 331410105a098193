package gateway

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"
)

// handler serves both APIs for the requests of one listener.
func (g *Gateway) handler(l listener) http.Handler {
	mux := http.NewServeMux()
	g.mountComfy(mux)
	g.mountV2(mux)
	return g.metrics.measured(g.identify(l.tenant, loopback(hostOf(l.Addr().String())), mux))
}

// route answers one request of a tenant. An error that it returns is answered in the form of the path's API; nothing may have been
// written then.
type route func(w http.ResponseWriter, r *http.Request, of *tenant) error

// handle adds a route of ComfyUI's own API under its path and under /api, as ComfyUI does.
func (g *Gateway) handle(mux *http.ServeMux, pattern string, answer route) {
	method, path, _ := strings.Cut(pattern, " ")
	serve := g.serving(routeOf(pattern), answer)
	mux.Handle(method+" "+path, serve)
	if !strings.HasPrefix(path, "/api/") && !strings.HasPrefix(path, "/internal/") {
		mux.Handle(method+" /api"+path, serve)
	}
}

// serving makes a handler of a route, which is counted under a name.
func (g *Gateway) serving(name string, answer route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		routed(w, name)
		if err := g.ask(g.log, answer, w, r); err != nil {
			if errors.Is(err, errNoPath) {
				routed(w, routeNone)
			}
			answerError(w, r, err)
		}
	})
}

// ask has a route answer a request, and logs what went wrong inside while a client waits for the answer. The caller must answer an
// error also when the request's context has ended: Go's server sends 200 for a handler that writes nothing, and when the gateway is
// killed the client may still be there.
func (g *Gateway) ask(log *slog.Logger, answer route, w http.ResponseWriter, r *http.Request) error {
	name, err := tenantOf(r)
	if err == nil {
		var of *tenant
		if of, err = g.tenant(r.Context(), name); err == nil {
			err = answer(w, r, of)
		}
	}
	if err != nil && refusalOf(err).status >= http.StatusInternalServerError && r.Context().Err() == nil {
		log.Warn("a request has failed", "tenant", name, "method", r.Method, "path", r.URL.Path, "error", err)
	}
	return err
}

// mountComfy adds the routes of ComfyUI's own API. What is not here is answered 404, or 405 when the path has another method.
func (g *Gateway) mountComfy(mux *http.ServeMux) {
	for pattern, answer := range g.comfyRoutes() {
		g.handle(mux, pattern, answer)
	}
	mux.Handle("/", g.serving(routeOf("/"), g.getPage))
}

func (g *Gateway) comfyRoutes() map[string]route {
	return map[string]route{
		"GET /ws": g.getSocket, "GET /prompt": g.getPrompt, "POST /prompt": g.metrics.submits(apiComfy, g.postPrompt),
		"GET /queue": g.getQueue, "POST /queue": g.postQueue, "POST /interrupt": g.postInterrupt, "POST /free": g.postFree,
		"GET /history": g.getHistory, "POST /history": g.postHistory, "GET /history/{id}": g.getHistoryOf,
		"GET /view": g.getView, "POST /upload/image": g.postUpload, "POST /upload/mask": g.postMask,

		"GET /api/jobs": g.listComfyJobs, "GET /api/jobs/{id}": g.getComfyJob,
		"POST /api/jobs/{id}/cancel": g.cancelComfyJob, "POST /api/jobs/cancel": g.cancelComfyJobs,

		"GET /history_v2": g.getHistoryV2, "GET /history_v2/{id}": g.getHistoryV2Of,
		"GET /api/job/{id}/status": g.getJobStatus, "GET /api/user": g.getUser,

		"GET /settings": g.getSettings, "POST /settings": g.postSettings, "GET /settings/{id}": g.getSetting, "POST /settings/{id}": g.postSettings,
		"GET /userdata": g.listUserData, "GET /v2/userdata": g.listUserDataV2,
		"GET /userdata/{file}": g.getUserFile, "POST /userdata/{file}": g.postUserFile, "DELETE /userdata/{file}": g.deleteUserFile,
		"POST /userdata/{file}/move/{dest}": g.moveUserFile,

		"GET /object_info": g.getObjectInfo, "GET /object_info/{class}": g.getClass,
		"GET /models": g.getList("models"), "GET /models/{folder}": g.getModels, "GET /embeddings": g.getList("embeddings"),
		"GET /experiment/models": g.getModelFolders, "GET /experiment/models/{folder}": g.getModelFiles,

		"GET /features": g.getFeatures, "GET /system_stats": g.getSystemStats, "GET /users": g.getUsers,
		"GET /internal/logs": g.getLogs, "GET /internal/logs/raw": g.getRawLogs, "PATCH /internal/logs/subscribe": g.subscribeLogs,
		"GET /internal/folder_paths": g.getNothing, "GET /internal/files/{folder}": g.getFiles,

		"GET /extensions": g.getExtensions, "GET /extensions/{pack}/{file...}": g.getExtension,
		"GET /i18n": g.getUnited("i18n", uniteObjects(deepest)), "GET /node_replacements": g.getUnited(replacementsRoute, uniteReplacements),
		"GET /workflow_templates": g.getUnited(templatesRoute, uniteTemplates), "GET /workflow_templates/{pack}/{file...}": g.getTemplate,
		"GET /global_subgraphs": g.getUnited(subgraphsRoute, uniteSubgraphs), "GET /global_subgraphs/{id}": g.getSubgraph,
		"GET /view_metadata/{folder}": g.getMetadata, "GET /experiment/models/preview/{folder}/{index}/{file...}": g.getPreview, "GET /docs/{file...}": g.getDoc,

		"GET /api/etn/languages": g.getLanguages, "GET /api/etn/translate/{language}/{text}": g.getTranslation,
		"GET /api/etn/model_info": g.getModelInfo, "GET /api/etn/model_info/{folder}": g.getModelInfo,
		"GET /api/etn/image/{id}": g.getPicture, "PUT /api/etn/image/{id}": g.putPicture, "PUT /api/etn/upload/{folder}/{file}": g.refuseETN,
		"POST /api/etn/workflow/{action}": g.workflowExchange,
	}
}
