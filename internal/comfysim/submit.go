package comfysim

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

func (p *process) getPrompt(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, p.queueInfo())
}

// readBody answers 413 and fails when the body is over the limit.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	var from io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		zip, err := gzip.NewReader(r.Body)
		if err != nil {
			trouble(w)
			return nil, false
		}
		from = zip
	}
	body, err := io.ReadAll(from)
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		plain(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("Maximum request body size %d exceeded, actual body size %d", maxBody, max(r.ContentLength, maxBody+1)))
		return nil, false
	}
	return body, err == nil
}

// postPrompt is POST /prompt: number, id, validation, queue, in ComfyUI's order.
func (p *process) postPrompt(w http.ResponseWriter, r *http.Request) {
	body, ok := readBody(w, r)
	if !ok {
		return
	}
	for _, f := range p.srv.faults.forBody(string(body)) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(status(f, http.StatusForbidden))
		_, _ = w.Write([]byte("<html><body><h1>Request blocked</h1></body></html>"))
		return
	}
	p.srv.posted(body)
	fields, listLike, ok := submission(body)
	if !ok {
		trouble(w)
		return
	}
	e, ok := p.number(fields)
	if !ok {
		trouble(w)
		return
	}
	raw, given := fields["prompt"]
	if listLike || !given {
		refusal(w, reject("no_prompt", "No prompt provided", "No prompt provided", nil))
		return
	}
	id, problem := p.promptID(fields["prompt_id"])
	if problem != nil {
		refusal(w, *problem)
		return
	}
	g, err := parseGraph(raw)
	if err != nil {
		trouble(w)
		return
	}
	e.id, e.graph, e.body = id, g, string(body)
	p.submit(w, r, e, fields)
}

// submit validates, queues and answers an entry; the faults of submission act here.
func (p *process) submit(w http.ResponseWriter, r *http.Request, e *entry, fields map[string]json.RawMessage) {
	targets, ok := executionTargets(fields["partial_execution_targets"])
	if !ok {
		trouble(w)
		return
	}
	faults := p.srv.faults.forSubmit(e)
	for _, f := range faults {
		if f.Kind == FaultRefuse {
			plain(w, status(f, http.StatusServiceUnavailable), http.StatusText(status(f, http.StatusServiceUnavailable)))
			return
		}
	}
	v := p.validate(e.graph, targets)
	if !p.addExtra(e, fields, r.Header.Get("Comfy-Usage-Source")) {
		trouble(w)
		return
	}
	if v.problem != nil {
		refusal(w, v)
		return
	}
	for _, f := range faults {
		if f.Kind == FaultNodeErrors {
			v = v.spoiled(e.graph)
		}
	}
	e.outputs = v.outputs
	err := p.enqueue(e, faults)
	p.answerSubmit(w, r, e, v, err, faults)
}

// enqueue puts the entry; one that another program deletes is gone before the worker can see it.
func (p *process) enqueue(e *entry, faults []Fault) error {
	for _, f := range faults {
		if f.Kind == FaultDeletePending {
			p.vanish(e)
			return nil
		}
	}
	return p.put(e)
}

func (p *process) answerSubmit(w http.ResponseWriter, r *http.Request, e *entry, v verdict, err error, faults []Fault) {
	for _, f := range faults {
		switch f.Kind {
		case FaultSlowAccept:
			p.hold(r, f.Delay)
		case FaultResetAfterQueue:
			if c, ok := r.Context().Value(connKey{}).(*gatedConn); ok {
				c.reset()
			}
			return // what net/http makes of this has nowhere to go
		default: // acted before
		}
	}
	if err != nil {
		trouble(w)
		return
	}
	answer(w, http.StatusOK, map[string]any{"prompt_id": e.id, "number": e.number, "node_errors": v.nodes})
}

// hold keeps an answer back, no longer than the client or the process lives.
func (p *process) hold(r *http.Request, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.Context().Done():
	case <-p.ctx.Done():
	}
}

// submission splits the body. A list or a string is JSON in which no prompt can be found; other scalars, null and bad
// JSON raise.
func submission(body []byte) (fields map[string]json.RawMessage, listLike, ok bool) {
	body = strict(body)
	v, err := decode(body)
	if err != nil || !utf8.Valid(body) {
		return nil, false, false
	}
	switch v.(type) {
	case map[string]any:
		err = json.Unmarshal(body, &fields)
		return fields, false, err == nil
	case []any, string:
		return nil, true, true
	}
	return nil, false, false
}

// number takes the entry's place in the order: the counter, its negative for front, or the client's own number.
func (p *process) number(fields map[string]json.RawMessage) (*entry, bool) {
	if raw, given := fields["number"]; given {
		text := strings.Trim(string(raw), `"`)
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, false
		}
		shown := strconv.FormatFloat(f, 'f', -1, 64)
		if !strings.Contains(shown, ".") {
			shown += ".0"
		}
		return &entry{number: json.Number(shown), order: f}, true
	}
	p.mu.Lock()
	n := p.counter
	p.counter++
	p.mu.Unlock()
	if v, err := decode(fields["front"]); err == nil && truthy(v) {
		n = -n
	}
	return &entry{number: json.Number(strconv.Itoa(n)), order: float64(n)}, true
}

func truthy(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case string:
		return v != ""
	case json.Number:
		return integer(v) != 0
	}
	return true
}

// promptID is the client's id or a new one. Since 0.25 it must be a canonical lower-case UUID; before, anything goes.
func (p *process) promptID(raw json.RawMessage) (string, *verdict) {
	v, _ := decode(raw)
	switch {
	case raw == nil, v == nil && !p.cfg.old():
		return uuid.NewString(), nil
	case p.cfg.old():
		return pythonText(v), nil
	}
	text, _ := v.(string)
	if id, err := uuid.Parse(text); err == nil && id.String() == text {
		return text, nil
	}
	bad := reject("invalid_prompt_id", "prompt_id must be a valid UUID",
		"prompt_id must be a UUID string in canonical lowercase hyphenated form; omit it to let the server generate one", nil)
	return "", &bad
}

// executionTargets reads partial_execution_targets: nil is all.
func executionTargets(raw json.RawMessage) (targets []string, ok bool) {
	if raw == nil || string(raw) == "null" {
		return nil, true
	}
	targets = []string{}
	err := json.Unmarshal(raw, &targets)
	return targets, err == nil
}

// addExtra builds extra_data as the server keeps it: without secrets, with client_id and create_time.
func (p *process) addExtra(e *entry, fields map[string]json.RawMessage, usage string) bool {
	extra := map[string]json.RawMessage{}
	if raw, given := fields["extra_data"]; given {
		if string(raw) == "null" || json.Unmarshal(raw, &extra) != nil {
			return false
		}
	}
	if client, given := fields["client_id"]; given {
		extra["client_id"] = client
	}
	delete(extra, "auth_token_comfy_org")
	delete(extra, "api_key_comfy_org")
	e.created = millis()
	if !p.cfg.old() {
		extra["create_time"] = encode(e.created)
	}
	if usage != "" {
		extra["comfy_usage_source"] = encode(usage)
	}
	info, given := extra["extra_pnginfo"]
	e.pngNull = given && string(info) == "null"
	var workflow struct {
		Workflow struct{ ID string }
	}
	if given && json.Unmarshal(info, &workflow) == nil {
		e.workflowID = workflow.Workflow.ID
	}
	e.setClient(extra["client_id"])
	e.extra = encode(extra)
	return true
}

// setClient reads client_id: null is none, a number is a name that no socket has, an object or list is poison.
func (e *entry) setClient(raw json.RawMessage) {
	v, _ := decode(raw)
	switch v := v.(type) {
	case nil:
		return
	case string:
		e.client = &v
	case map[string]any, []any:
		e.poisonous = true
	default:
		unreachable := "\x00" + pythonText(v)
		e.client = &unreachable
	}
}

func refusal(w http.ResponseWriter, v verdict) {
	answer(w, http.StatusBadRequest, map[string]any{"error": v.problem, "node_errors": v.nodes})
}

// spoiled reports the last output as invalid, and drops it when there is another.
func (v verdict) spoiled(g *graph) verdict {
	last := v.outputs[len(v.outputs)-1]
	v.nodes[last] = &nodeErrors{Class: g.nodes[last].className(), Dependents: []string{last}, Errors: []problem{
		{"value_not_in_list", "Value not in list", "ckpt_name: 'simulated.safetensors' not in []", map[string]any{
			"input_name": "ckpt_name", "input_config": []any{[]string{}, map[string]any{}}, "received_value": "simulated.safetensors"}},
	}}
	if len(v.outputs) > 1 {
		v.outputs = v.outputs[:len(v.outputs)-1]
	}
	return v
}
