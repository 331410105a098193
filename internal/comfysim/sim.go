package comfysim

import (
	"encoding/json"
	"net/http"
	"time"
)

// simRoutes are for drivers of real processes. No ComfyUI has them.
func (p *process) simRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /sim/runs", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, p.srv.Runs()) })
	mux.HandleFunc("GET /sim/faults", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, p.srv.Faults()) })
	mux.HandleFunc("POST /sim/faults", p.postFaults)
	mux.HandleFunc("POST /sim/clear", func(w http.ResponseWriter, _ *http.Request) {
		p.srv.ClearFaults()
		w.WriteHeader(http.StatusOK)
	})
	for path, full := range map[string]bool{"/sim/fill": true, "/sim/room": false} {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, _ *http.Request) {
			p.srv.store.fill(full)
			w.WriteHeader(http.StatusOK)
		})
	}
	mux.HandleFunc("POST /sim/die", func(w http.ResponseWriter, r *http.Request) {
		if d, ok := duration(w, r, "restart"); ok {
			confirm(w)
			p.srv.dieSoon(p, d)
		}
	})
	mux.HandleFunc("POST /sim/freeze", func(w http.ResponseWriter, r *http.Request) {
		if d, ok := duration(w, r, "for"); ok {
			confirm(w)
			p.srv.freezeSoon(p, d)
		}
	})
}

func (p *process) postFaults(w http.ResponseWriter, r *http.Request) {
	body, ok := readBody(w, r)
	if !ok {
		return
	}
	var faults []Fault
	if err := json.Unmarshal(body, &faults); err != nil {
		plain(w, http.StatusBadRequest, "want a JSON list of faults: "+err.Error())
		return
	}
	for _, f := range faults {
		p.srv.AddFault(f)
	}
	answer(w, http.StatusOK, p.srv.Faults())
}

// confirm sends the whole answer before what follows can keep it from leaving.
func confirm(w http.ResponseWriter) {
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
}

func duration(w http.ResponseWriter, r *http.Request, name string) (time.Duration, bool) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return 0, true
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		plain(w, http.StatusBadRequest, name+": want a duration such as 2s")
		return 0, false
	}
	return d, true
}
