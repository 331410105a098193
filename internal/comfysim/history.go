package comfysim

import (
	"encoding/json"
	"slices"
)

// record is one finished prompt. It is not changed after it was added.
type record struct {
	entry      *entry
	status     string // completed, failed, cancelled
	messages   []any  // [event, data] pairs
	failure    any    // data of execution_error
	outputs    map[string]any
	order      []string // ids of nodes with outputs, in the order they ran
	broken     bool     // outputs cannot be written as JSON
	start, end int64    // ms
}

func (r *record) statusBlock() map[string]any {
	str := "error"
	if r.status == "completed" {
		str = "success"
	}
	return map[string]any{"status_str": str, "completed": r.status == "completed", "messages": r.messages}
}

// item is the record as /history shows it.
func (r *record) item() json.RawMessage {
	meta := map[string]any{}
	for id := range r.outputs {
		meta[id] = map[string]any{"node_id": id, "display_node": id, "parent_node": nil, "real_node_id": id}
	}
	return encode(map[string]any{"prompt": r.entry.tuple(), "outputs": r.outputs, "status": r.statusBlock(), "meta": meta})
}

// finish moves the running entry to the history in one step, so that it is never in neither.
func (p *process) finish(r *record) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = nil
	if _, again := p.history[r.entry.id]; !again {
		p.historyOrder = append(p.historyOrder, r.entry.id)
	}
	p.history[r.entry.id] = r
	if len(p.historyOrder) > maxHistory {
		delete(p.history, p.historyOrder[0])
		p.historyOrder = p.historyOrder[1:]
	}
	p.announce()
}

func (p *process) record(id string) *record {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.history[id]
}

// records returns all records, oldest first.
func (p *process) records() []*record {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]*record, 0, len(p.historyOrder))
	for _, id := range p.historyOrder {
		all = append(all, p.history[id])
	}
	return all
}

func (p *process) forget(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.history, id)
	p.historyOrder = slices.DeleteFunc(p.historyOrder, func(o string) bool { return o == id })
}

func (p *process) forgetAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.history)
	p.historyOrder = nil
}
