package comfysim

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// execution is one run of one prompt. It belongs to the worker's goroutine.
type execution struct {
	p          *process
	e          *entry
	g          *graph
	run        int // place in the log of runs
	faults     []Fault
	target     string // the node that faults without a class meet
	slow       float64
	signatures map[string]string
	results    map[string]*result
	current    string
	executed   []string
	messages   []any
	progress   []progress
	outputs    map[string]any
	order      []string
	broken     bool
	failure    any
	started    int64
}

// progress is one node's line in progress_state, values as JSON text.
type progress struct{ node, value, max, state string }

func newExecution(p *process, e *entry) *execution {
	return &execution{
		p: p, e: e, g: e.graph, slow: 1, results: map[string]*result{}, outputs: map[string]any{}, started: millis(),
		faults: p.srv.faults.forRun(e),
	}
}

func millis() int64 { return time.Now().UnixMilli() }

// execute runs the graph and sends everything from execution_start to the last node. Its error is an *exception,
// errInterrupted, errDead or errWedged.
func (x *execution) execute() error {
	x.p.rearm()
	x.p.hub.begin(x.e.client)
	x.beginFaults()
	x.note("execution_start", map[string]any{})
	if x.e.poisonous { // a dict cannot be a key of the sockets: the whole process ends
		return x.exit(0)
	}
	if x.poisoned() {
		return errWedged
	}
	x.signatures = x.p.signatures(x.g)
	x.p.cache.retain(x.signatures)
	x.note("execution_cached", map[string]any{"nodes": x.cachedNodes()})
	s := newSchedule(x.g, x.e.outputs, x.isOutput, x.isCached)
	x.target = x.pickTarget(s.pending)
	for id := s.next(); id != ""; id = s.next() {
		if err := x.step(id); err != nil {
			return err
		}
		s.done(id)
	}
	return nil
}

// poisoned says whether the graph kills the worker thread before any node runs.
func (x *execution) poisoned() bool {
	for _, n := range x.g.nodes {
		if !n.hasInputs {
			return true
		}
		for _, value := range n.inputs {
			if from, _, ok := link(value); ok && x.g.nodes[from] == nil {
				return true
			}
		}
	}
	return false
}

// exit ends the process under this run.
func (x *execution) exit(restart time.Duration) error {
	x.p.srv.dieSoon(x.p, restart)
	<-x.p.ctx.Done()
	return errDead
}

func (x *execution) class(id string) *class  { return x.p.srv.classOf(x.g, x.g.nodes[id]) }
func (x *execution) isOutput(id string) bool { return x.class(id).outputNode }
func (x *execution) isCached(id string) bool { return x.p.cache.results[x.signatures[id]] != nil }

func (x *execution) cachedNodes() []string {
	cached := []string{}
	for _, id := range x.g.order {
		if x.isCached(id) {
			cached = append(cached, id)
			x.results[id] = x.p.cache.results[x.signatures[id]]
		}
	}
	return cached
}

// step runs one node, or answers it from the cache.
func (x *execution) step(id string) error {
	if r := x.results[id]; r != nil {
		x.show(id, r)
		x.advance(id, "1", "1", "finished")
		return nil
	}
	n := x.g.nodes[id]
	x.current = id
	x.advance(id, "0.0", "1.0", "running")
	x.p.hub.at(id)
	x.tell("executing", map[string]any{"node": id, "display_node": id})
	x.p.srv.reached(x.run, id)
	if err := x.checkpoint(); err != nil {
		return err
	}
	if err := x.applyFaults(n); err != nil {
		return err
	}
	r, blocked := x.blocked(n)
	if !blocked {
		var err error
		if r, err = x.perform(n); err != nil {
			return err
		}
	}
	x.results[id], x.p.cache.results[x.signatures[id]] = r, r
	x.executed = append(x.executed, id)
	if r.ui != nil {
		if r.broken && x.connected() {
			return x.exit(0) // publish_loop meets a TypeError, which ends the process
		}
		x.show(id, r)
	}
	x.finishNode(id)
	return nil
}

// checkpoint is where a run notices that it was interrupted, stopped or killed.
func (x *execution) checkpoint() error {
	if err := x.p.sleep(0); err != nil {
		return err
	}
	select {
	case <-x.p.interruption():
		return errInterrupted
	default:
		return nil
	}
}

// show sends executed and keeps the output for the history.
func (x *execution) show(id string, r *result) {
	if r.ui == nil {
		x.tell("executed", map[string]any{"node": id, "display_node": id, "output": nil})
		return
	}
	x.tell("executed", map[string]any{"node": id, "display_node": id, "output": r.ui})
	x.outputs[id] = r.ui
	x.order = append(x.order, id)
	x.broken = x.broken || r.broken
}

// tell sends an event to the submitter; without a client id it is not sent.
func (x *execution) tell(event string, data map[string]any) {
	if x.e.client == nil {
		return
	}
	data["prompt_id"] = x.e.id
	x.p.hub.send(x.e.client, event, data)
}

// note sends an event to the submitter and keeps it for the history.
func (x *execution) note(event string, data map[string]any) {
	data["prompt_id"], data["timestamp"] = x.e.id, millis()
	x.messages = append(x.messages, []any{event, data})
	if x.e.client != nil {
		x.p.hub.send(x.e.client, event, maps.Clone(data))
	}
}

func (x *execution) connected() bool {
	if x.e.client == nil {
		return false
	}
	on, _ := x.p.hub.known(x.e.client)
	return on
}

// advance updates a node's line and sends progress_state, which repeats all lines; without a client id to all sockets.
func (x *execution) advance(id, value, limit, state string) {
	i := slices.IndexFunc(x.progress, func(l progress) bool { return l.node == id })
	if i < 0 {
		i, x.progress = len(x.progress), append(x.progress, progress{node: id})
	}
	x.progress[i] = progress{id, value, limit, state}
	var b strings.Builder
	fmt.Fprintf(&b, `{"type": "progress_state", "data": {"prompt_id": %q, "nodes": {`, x.e.id)
	for i, l := range x.progress {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, `%s: {"value": %s, "max": %s, "state": %q, "node_id": %[1]s, "prompt_id": %[5]q, "display_node_id": %[1]s, "parent_node_id": null, "real_node_id": %[1]s}`,
			encode(l.node), l.value, l.max, l.state, x.e.id)
	}
	b.WriteString("}}}")
	x.p.hub.queue(message{to: x.e.client, data: []byte(b.String())})
}

// finishNode closes a node's line with the values it has reached; a node without ticks shows 1.0 of 1.0.
func (x *execution) finishNode(id string) {
	value, limit := "1.0", "1.0"
	for _, l := range x.progress {
		if l.node == id && l.value != "0.0" {
			value, limit = l.value, l.max
		}
	}
	x.advance(id, value, limit, "finished")
}

// tick sends one progress step: progress_state, a type 4 preview, progress, a type 1 preview.
func (x *execution) tick(id string, value, limit int, image []byte, format string) {
	x.advance(id, fmt.Sprint(value), fmt.Sprint(limit), "running")
	_, metadata := x.p.hub.known(x.e.client)
	if image != nil && metadata {
		x.p.hub.queue(message{to: x.e.client, binary: true, data: previewFrame(image, format, encode(map[string]any{
			"node_id": id, "prompt_id": x.e.id, "display_node_id": id, "parent_node_id": nil, "real_node_id": id,
			"image_type": "image/" + strings.ToLower(format),
		}))})
	}
	x.p.hub.send(x.e.client, "progress", map[string]any{"value": value, "max": limit, "prompt_id": x.e.id, "node": id})
	if image != nil && !metadata {
		x.p.hub.queue(message{to: x.e.client, binary: true, data: previewFrame(image, format, nil)})
	}
}

// conclude sends the terminal event and makes the record for the history.
func (x *execution) conclude(err error) *record {
	status := "completed"
	var raised *exception
	switch {
	case err == nil:
		x.note("execution_success", map[string]any{})
	case errors.As(err, &raised):
		status = "failed"
		x.fail(raised)
	default:
		status = "cancelled"
		x.interrupted()
	}
	return &record{
		entry: x.e, status: status, messages: x.messages, failure: x.failure, outputs: x.outputs, order: x.order,
		broken: x.broken, start: x.started, end: millis(),
	}
}

func (x *execution) where() map[string]any {
	executed := append([]string{}, x.executed...)
	return map[string]any{"node_id": x.current, "node_type": x.g.nodes[x.current].className(), "executed": executed}
}

// interrupted sends the terminal event; it is the only one that all sockets get when there is no client id.
func (x *execution) interrupted() {
	data := x.where()
	x.note("execution_interrupted", data)
	if x.e.client == nil {
		x.p.hub.send(nil, "execution_interrupted", maps.Clone(data))
	}
}

func (x *execution) fail(e *exception) {
	data := x.where()
	data["exception_message"], data["exception_type"] = e.message, e.kind
	data["traceback"] = e.traceback(x.g.nodes[x.current].className())
	data["current_inputs"] = x.currentInputs()
	data["current_outputs"] = append([]string{}, x.g.order...)
	x.note("execution_error", data)
	x.failure = data
	x.p.logf("!!! Exception during processing !!! %s", e.message)
}

// currentInputs are the node's inputs as ComfyUI prints them: lists of values.
func (x *execution) currentInputs() map[string]any {
	inputs := map[string]any{}
	for name, value := range x.g.nodes[x.current].inputs {
		if _, _, linked := link(value); linked {
			value = fmt.Sprintf("%v", x.input(x.g.nodes[x.current], name))
		}
		inputs[name] = []any{value}
	}
	return inputs
}
