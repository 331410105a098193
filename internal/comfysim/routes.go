package comfysim

import (
	"net/http"
	"net/url"
	"strings"
)

const internalError = "500 Internal Server Error\n\nServer got itself in trouble"

// routes is the process's whole HTTP side.
func (p *process) routes() http.Handler {
	mux := http.NewServeMux()
	both := func(method, path string, h http.HandlerFunc) {
		mux.HandleFunc(method+" "+path, h)
		mux.HandleFunc(method+" /api"+path, h)
	}
	both("GET", "/ws", p.tracked(p.handleSocket))
	both("GET", "/prompt", p.getPrompt)
	both("POST", "/prompt", p.postPrompt)
	both("GET", "/queue", p.getQueue)
	both("POST", "/queue", p.postQueue)
	both("GET", "/history", p.getHistory)
	both("GET", "/history/{id}", p.getHistoryItem)
	both("POST", "/history", p.postHistory)
	both("POST", "/interrupt", p.postInterrupt)
	both("POST", "/free", p.postFree)
	both("GET", "/system_stats", p.getStats)
	both("GET", "/object_info", p.getObjectInfo)
	both("GET", "/object_info/{class}", p.getClassInfo)
	both("GET", "/models", p.getModelFolders)
	both("GET", "/models/{folder}", p.getModels)
	both("GET", "/embeddings", p.getEmbeddings)
	p.packRoutes(both, mux)
	both("GET", "/view_metadata/{folder}", p.getModelMetadata)
	both("GET", "/features", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, features()) })
	both("POST", "/upload/image", p.postUpload)
	both("POST", "/upload/mask", p.postUpload)
	both("GET", "/view", p.getView)
	mux.HandleFunc("GET /internal/logs", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, p.logText()) })
	mux.HandleFunc("GET /internal/logs/raw", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]any{"entries": p.logEntries(), "size": map[string]any{"cols": 80, "rows": 24}})
	})
	if !p.cfg.old() {
		mux.HandleFunc("GET /api/jobs", p.getJobs)
		mux.HandleFunc("GET /api/jobs/{id}", p.getJob)
		mux.HandleFunc("POST /api/jobs/{id}/cancel", p.cancelJob)
		mux.HandleFunc("POST /api/jobs/cancel", p.cancelJobs)
	}
	p.simRoutes(mux)
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	return p.guarded(mux)
}

// guarded refuses foreign origins and applies the faults of requests.
func (p *process) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if foreign(r) {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		path := strings.TrimPrefix(r.URL.Path, "/api")
		if strings.HasPrefix(path, "/sim/") {
			next.ServeHTTP(w, r)
			return
		}
		p.loop.wait(p.ctx.Done())
		for _, f := range p.srv.faults.forRequest(path) {
			switch f.Kind {
			case FaultSlowInfo:
				p.loop.close()
				p.hub.stall(f.For)
				p.hold(r, f.For)
				p.loop.open()
			case FaultSlowAnswer:
				p.hold(r, f.Delay)
			case FaultWrongJSON:
				w.Header().Set("Content-Type", "application/json; charset=utf-8")
				_, _ = w.Write([]byte(`{"prompt_id": "` + strings.Repeat("x", 8)))
				return
			default:
				plain(w, status(f, http.StatusInternalServerError), internalError)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// foreign says whether a browser sent this from another site.
func foreign(r *http.Request) bool {
	if r.Header.Get("Sec-Fetch-Site") == "cross-site" {
		return true
	}
	origin := r.Header.Get("Origin")
	u, err := url.Parse(origin)
	return origin != "" && (err != nil || u.Host != r.Host)
}

func status(f Fault, otherwise int) int {
	if f.Status != 0 {
		return f.Status
	}
	return otherwise
}

// tracked keeps the process from being gone while a hijacked connection's handler runs.
func (p *process) tracked(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p.wg.Add(1)
		defer p.wg.Done()
		h(w, r)
	}
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write(encode(body))
}

func plain(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(text))
}

func trouble(w http.ResponseWriter) { plain(w, http.StatusInternalServerError, internalError) }
