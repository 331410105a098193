package comfysim

import (
	"encoding/json"
	"net/http"
	"strconv"
)

func (p *process) getQueue(w http.ResponseWriter, _ *http.Request) {
	running, pending := p.snapshot()
	now, waiting := []json.RawMessage{}, []json.RawMessage{}
	if running != nil {
		now = append(now, running.tuple())
	}
	for _, e := range pending {
		waiting = append(waiting, e.tuple())
	}
	answer(w, http.StatusOK, map[string]any{"queue_running": now, "queue_pending": waiting})
}

// command reads the body of a control request, which must be an object.
func command(w http.ResponseWriter, r *http.Request) (map[string]any, bool) {
	body, ok := readBody(w, r)
	if !ok {
		return nil, false
	}
	v, err := decode(body)
	object, isObject := v.(map[string]any)
	if err != nil || !isObject {
		trouble(w)
		return nil, false
	}
	return object, true
}

// ids reads a list of ids; a string counts as the list of its letters, as in Python, and so names nothing.
func ids(v any) []string {
	list, _ := v.([]any)
	var out []string
	for _, item := range list {
		out = append(out, pythonText(item))
	}
	return out
}

func (p *process) postQueue(w http.ResponseWriter, r *http.Request) {
	do, ok := command(w, r)
	if !ok {
		return
	}
	if truthy(do["clear"]) {
		p.clearPending()
	}
	for _, id := range ids(do["delete"]) {
		p.remove(id)
	}
	w.WriteHeader(http.StatusOK)
}

func (p *process) postHistory(w http.ResponseWriter, r *http.Request) {
	do, ok := command(w, r)
	if !ok {
		return
	}
	if truthy(do["clear"]) {
		p.forgetAll()
	}
	for _, id := range ids(do["delete"]) {
		p.forget(id)
	}
	w.WriteHeader(http.StatusOK)
}

// postInterrupt stops what runs, or only the prompt named. An empty or broken body is a global interrupt.
func (p *process) postInterrupt(w http.ResponseWriter, r *http.Request) {
	body, ok := readBody(w, r)
	if !ok {
		return
	}
	v, err := decode(body)
	do, isObject := v.(map[string]any)
	if err == nil && !isObject {
		trouble(w)
		return
	}
	id, _ := do["prompt_id"].(string)
	p.interrupt(id)
	w.WriteHeader(http.StatusOK)
}

func (p *process) postFree(w http.ResponseWriter, r *http.Request) {
	do, ok := command(w, r)
	if !ok {
		return
	}
	p.mu.Lock()
	p.freeModels = p.freeModels || truthy(do["unload_models"])
	p.freeMemory = p.freeMemory || truthy(do["free_memory"])
	p.mu.Unlock()
	p.poke()
	w.WriteHeader(http.StatusOK)
}

// getHistory lists entries: the newest max_items, or from offset counted from the oldest.
func (p *process) getHistory(w http.ResponseWriter, r *http.Request) {
	all := p.records()
	limit, errLimit := strconv.Atoi(r.URL.Query().Get("max_items"))
	offset, errOffset := strconv.Atoi(r.URL.Query().Get("offset"))
	if errLimit == nil && errOffset != nil {
		offset = max(0, len(all)-limit)
	}
	all = all[min(max(offset, 0), len(all)):]
	if errLimit == nil {
		all = all[:min(max(limit, 0), len(all))]
	}
	writeHistory(w, all)
}

func (p *process) getHistoryItem(w http.ResponseWriter, r *http.Request) {
	if found := p.record(r.PathValue("id")); found != nil {
		writeHistory(w, []*record{found})
		return
	}
	answer(w, http.StatusOK, map[string]any{})
}

// writeHistory answers 500 when an output cannot be written as JSON. It keeps the order.
func writeHistory(w http.ResponseWriter, records []*record) {
	out := []byte("{")
	for i, r := range records {
		if r.broken {
			trouble(w)
			return
		}
		if i > 0 {
			out = append(out, ", "...)
		}
		out = append(append(append(out, encode(r.entry.id)...), ": "...), r.item()...)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = w.Write(append(out, '}'))
}
