package comfy

import (
	"cmp"
	"encoding/json"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
)

// tracker collects what comes over the websocket about one prompt. The reader of the socket writes it and never waits; Run
// reads it after each wake.
type tracker struct {
	id      string
	classes map[string]string // class of each node of the graph; read only
	absent  map[string]bool   // nodes that the graph links to and lacks; read only
	wake    chan struct{}     // holds one value after anything changed
	onHost  atomic.Bool       // posted, and not known to have ended

	mu        sync.Mutex
	session   *session // the socket that receives this prompt's events, nil if none does
	started   time.Time
	lastTick  time.Time // newest executing or progress
	lastSign  time.Time // newest message of any kind
	cached    []string
	done      map[string]bool
	node      string
	nodeSince time.Time
	nodeTimes map[string]time.Duration
	outputs   map[string]json.RawMessage
	progress  *Progress // not yet given to Watch
	preview   *preview  // not yet given to Watch
	hint      bool      // something ended: look at once
	succeeded bool
	stopped   bool // execution_interrupted
	raised    *raised
	value     float64 // newest progress of node
	most      float64
	blocked   []string
	unrun     map[string]bool // nodes that an ExecutionBlocker kept from being run
	album     *album          // pictures that came over the websocket
	relay     *relay          // the messages of the websocket, as they came; nil unless the run wants them
}

func newTracker(id string, s shape) *tracker {
	return &tracker{
		id: id, classes: s.classes, absent: s.absent, wake: make(chan struct{}, 1), unrun: map[string]bool{},
		done: map[string]bool{}, nodeTimes: map[string]time.Duration{}, outputs: map[string]json.RawMessage{},
	}
}

// maxBlocked bounds the messages of ExecutionBlockers.
const maxBlocked = 100

func (t *tracker) poke() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// look asks Run to look its prompt up now.
func (t *tracker) look() {
	t.mu.Lock()
	t.hint = true
	t.mu.Unlock()
	t.poke()
}

// see takes in one event that names this prompt.
func (t *tracker) see(e event, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer t.poke()
	t.lastSign = now
	if t.started.IsZero() && e.kind != "executed" {
		t.started, t.lastTick = now, now
	}
	switch e.kind {
	case "execution_cached":
		t.cached = e.nodes
		for _, node := range e.nodes {
			t.done[node] = true
		}
	case "executing":
		t.enter(e.node, now)
		t.hint = t.hint || e.end
	case "progress":
		t.lastTick = now
		t.value, t.most = e.value, e.max
		t.album.expects(e.node, e.max)
		t.progress = t.report(e.node, e.value, e.max)
	case "executed":
		t.done[e.node] = true
		t.outputs[e.node] = e.output
	case "execution_success":
		t.enter("", now) // executing without a node may come after the record that ends the run was read
		t.succeeded, t.hint = true, true
	case "execution_interrupted":
		t.stopped, t.hint = true, true
	case "execution_error":
		if e.raised.blocked() {
			if len(t.blocked) < maxBlocked {
				t.blocked = append(t.blocked, e.raised.block())
			}
			t.unrun[string(e.raised.Node)] = true
			return
		}
		t.raised, t.hint = &e.raised, true
	}
}

// enter notes that node began, which ends the one before; "" is the end.
func (t *tracker) enter(node string, now time.Time) {
	if t.node != "" {
		t.nodeTimes[t.node] += now.Sub(t.nodeSince)
		if t.node != node {
			t.done[t.node] = true
		}
	}
	t.node, t.nodeSince, t.lastTick, t.value, t.most = node, now, now, 0, 0
	if node != "" {
		t.progress = t.report(node, 0, 0)
	}
}

func (t *tracker) report(node string, value, most float64) *Progress {
	return &Progress{
		Value: value, Max: most, Node: node, Class: t.class(node),
		NodesDone: min(len(t.done), len(t.classes)), NodesTotal: len(t.classes),
	}
}

// class finds the class of a node; an ephemeral id ("2.0.0.1", from subgraph
// expansion) has the class of the graph's node it came from.
func (t *tracker) class(node string) string {
	if class, known := t.classes[node]; known {
		return class
	}
	root, _, _ := strings.Cut(node, ".")
	return t.classes[root]
}

// where adds to a failure which node ran, how far it was and for how long.
func (t *tracker) where(f *failure.Failure, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.node == "" || f.Node != "" && f.Node != t.node {
		return
	}
	f.Node, f.Class, f.NodeRan = clip(oneLine(t.node), 100), clip(oneLine(t.class(t.node)), 100), now.Sub(t.nodeSince)
	if t.most > 0 {
		f.Progress = max(0, min(1, t.value/t.most))
	}
}

func (t *tracker) show(p preview, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lastSign = now
	node := cmp.Or(p.node, t.node)
	class := t.class(node)
	if t.album.wants(node, class, p.contentType) {
		t.album.add(node, class, p)
	}
	if sends(class) {
		return // it is a result, not a preview
	}
	t.preview = &p
	t.poke()
}

// running reports whether the start of the prompt came over the socket, and no end.
func (t *tracker) running() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.started.IsZero() && !t.succeeded && !t.stopped && t.raised == nil
}

// seen reports whether any event named the prompt, so that the host has or had it.
func (t *tracker) seen() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.lastSign.IsZero()
}

// attach says which socket receives the prompt's events from now on.
func (t *tracker) attach(s *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.session = s
}

// receivesFrom reports whether the prompt's events come over s.
func (t *tracker) receivesFrom(s *session) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return s != nil && t.session == s
}
