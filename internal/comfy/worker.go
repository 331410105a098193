package comfy

// worker is what the websocket last showed of ComfyUI's worker, which runs one prompt after the other.
type worker struct {
	prompt string // that it runs; empty when it runs none of this process's prompts
	drops  int    // how many sockets the host had dropped by then
}

// see takes in one event; drops is how many sockets the host has dropped so far.
func (w *worker) see(e event, drops int) {
	switch {
	case e.ends():
		if w.prompt == e.prompt {
			w.prompt = ""
		}
	case e.kind == "execution_start", e.kind == "executing", e.kind == "progress":
		w.prompt, w.drops = e.prompt, drops
	}
}

// ends reports whether the prompt of the event has left the worker.
func (e *event) ends() bool {
	switch e.kind {
	case "executing":
		return e.end
	case "execution_success", "execution_interrupted":
		return true
	case "execution_error":
		return !e.raised.blocked()
	}
	return false
}

// runsAnother reports whether the worker was last seen to run another prompt than r's, in the process that r's was posted to.
func (h *Host) runsAnother(r *run) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := h.worker
	return w.prompt != "" && w.prompt != r.id && w.prompt != r.prompt.ID && w.drops >= r.dropsBefore
}

// waited reports whether the prompt of r has not begun to run because another prompt ran: one whose events showed it, or,
// where the events of this prompt would have come too, one that was before it at the last look.
func (r *run) waited() bool {
	r.track.mu.Lock()
	started := !r.track.started.IsZero()
	r.track.mu.Unlock()
	if started || !r.runSince.IsZero() {
		return false
	}
	return r.host.runsAnother(r) || r.session != nil && r.othersFirst
}
