package gateway

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
)

// end tells how a job has ended, once all its frames have come.
func (h *hub) end(ctx context.Context, id job.ID) {
	row := h.ending[id]
	if row == nil {
		return
	}
	delete(h.ending, id)
	r := h.runOf(row)
	delete(h.runs, id)
	h.forget(id)
	to := h.receivers(r)
	var host *hostRecord
	if len(to) > 0 && row.Begun() {
		host, _ = h.record(ctx, row) // without it the event tells enough
	}
	if len(to) > 0 && (row.Begun() || row.State != job.Cancelled) {
		h.tellEnd(to, row, r, host)
	}
	if r.client == "" && row.Begun() && row.State == job.Cancelled { // as ComfyUI does with prompts that no client has sent
		h.send(h.all(), textFrame("execution_interrupted", interruptedData(row)))
	}
	remaining := h.rows.remaining()
	for _, s := range to {
		s.pushStatus(remaining, "")
	}
	if row.Begun() || row.State != job.Cancelled {
		h.send(to, nodeFrame(id, ""))
	}
	h.announce()
	h.remind(r.client)
}

// tellEnd sends what is left to say before the end, and the end itself.
func (h *hub) tellEnd(to []*socket, row *Row, r *run, host *hostRecord) {
	h.begin(r, row)
	switch row.State {
	case job.Completed:
		outputs := map[string]json.RawMessage{}
		if host != nil {
			for node, output := range host.Outputs {
				outputs[node] = shownOutput(row.Job, output)
			}
		} else {
			for node, output := range outputsOf(row) {
				outputs[node] = encode(output)
			}
		}
		for _, node := range slices.Sorted(maps.Keys(outputs)) {
			if !r.executed[node] {
				h.send(to, executedFrame(row.Job, node, outputs[node]))
			}
		}
		h.send(to, successFrame(row))
	case job.Cancelled:
		h.send(to, textFrame("execution_interrupted", interruptedData(row)))
	default:
		h.send(to, textFrame("execution_error", errorData(row, host)))
	}
}

// remind tells ComfyUI's page what else runs for it when one of its prompts has ended. The page shows one prompt at a time, and
// would otherwise show that nothing runs.
func (h *hub) remind(client string) {
	for _, s := range h.of(client) {
		if !s.isPage() {
			continue
		}
		for id, r := range h.runs {
			if r.client == client && r.begun {
				h.resume(s, id, r)
			}
		}
	}
}

// announce sends all sockets how many jobs have not ended, if that has changed, and soon when the last time was a moment ago.
func (h *hub) announce() {
	if h.due != nil || h.rows.remaining() == h.said {
		return
	}
	if wait := statusPause - time.Since(h.saidAt); wait > 0 {
		h.due = time.AfterFunc(wait, func() { h.put(incoming{status: true}) })
		return
	}
	h.said, h.saidAt = h.rows.remaining(), time.Now()
	for _, s := range h.all() {
		if !s.knows(h.said) { // the end of a prompt has told it
			s.pushStatus(h.said, "")
		}
	}
}

// forget takes note of a job that has ended, and forgets one that ended long before.
func (h *hub) forget(id job.ID) {
	h.over[id], h.latest = true, append(h.latest, id)
	if len(h.latest) > mostOver {
		delete(h.over, h.latest[0])
		h.latest = h.latest[1:]
	}
}
