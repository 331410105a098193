package comfysim

import (
	"cmp"
	"container/heap"
	"encoding/json"
	"errors"
	"slices"
)

// entry is one submitted prompt.
type entry struct {
	number     json.Number // as in the answer: an int, or the client's float
	order      float64
	id         string
	graph      *graph
	outputs    []string // output nodes to execute
	extra      json.RawMessage
	client     *string // nil when none was given
	poisonous  bool    // client_id is an object or a list: sending to it ends the process
	pngNull    bool    // extra_pnginfo is null: GET /api/jobs fails while this is in the history
	workflowID string
	created    int64 // ms
	body       string
}

// tuple is the entry as /queue and /history show it.
func (e *entry) tuple() json.RawMessage {
	return encode([]any{e.number, e.id, e.graph.raw, e.extra, e.outputs})
}

// entryHeap orders by number, then id, as Python compares the tuples.
type entryHeap []*entry

func (h entryHeap) Len() int { return len(h) }
func (h entryHeap) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(h[i].order, h[j].order), cmp.Compare(h[i].id, h[j].id)) < 0
}
func (h entryHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *entryHeap) Push(x any) {
	if e, ok := x.(*entry); ok {
		*h = append(*h, e)
	}
}
func (h *entryHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}

// errTie is the TypeError of two pending entries with one id and one number: the real server answers 500, though the
// entry is queued.
var errTie = errors.New("entries compare equal")

// put queues an entry and sends the new status to all sockets.
func (p *process) put(e *entry) error {
	p.mu.Lock()
	tie := slices.ContainsFunc(p.pending, func(o *entry) bool { return o.id == e.id && o.order == e.order })
	heap.Push(&p.pending, e)
	p.announce()
	p.mu.Unlock()
	p.logf("got prompt")
	p.poke()
	p.srv.changed()
	if tie {
		return errTie
	}
	return nil
}

// take moves the next entry to running; nil when there is none.
func (p *process) take() *entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.pending) == 0 {
		return nil
	}
	e, _ := heap.Pop(&p.pending).(*entry)
	p.running = e
	p.announce()
	return e
}

// remove deletes the first pending entry of this id and says whether there was one.
func (p *process) remove(id string) bool {
	p.mu.Lock()
	i := slices.IndexFunc(p.pending, func(e *entry) bool { return e.id == id })
	if i >= 0 {
		heap.Remove(&p.pending, i)
		p.announce()
	}
	p.mu.Unlock()
	p.srv.changed()
	return i >= 0
}

func (p *process) clearPending() {
	p.mu.Lock()
	p.pending = nil
	p.announce()
	p.mu.Unlock()
	p.srv.changed()
}

// remaining counts pending and running; p.mu must be held.
func (p *process) remaining() int {
	n := len(p.pending)
	if p.running != nil {
		n++
	}
	return n
}

func (p *process) queueInfo() map[string]any {
	p.mu.Lock()
	defer p.mu.Unlock()
	return execInfo(p.remaining())
}

func execInfo(remaining int) map[string]any {
	return map[string]any{"exec_info": map[string]any{"queue_remaining": remaining}}
}

// announce broadcasts status; p.mu must be held, so that statuses leave in the order of the changes.
func (p *process) announce() {
	p.hub.send(nil, "status", map[string]any{"status": execInfo(p.remaining())})
}

// poke wakes the worker.
func (p *process) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// snapshot is the state of the backlog at one moment: the running entry, nil when idle, and the pending ones in the
// order of the heap.
func (p *process) snapshot() (running *entry, pending []*entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running, slices.Clone(p.pending)
}

// vanish is put when another client deletes the entry at once: two statuses are sent, and no entry is left.
func (p *process) vanish(e *entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pending = append(p.pending, e)
	p.announce()
	p.pending = p.pending[:len(p.pending)-1]
	p.announce()
}
