package comfy

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"github.com/comfyherd/comfyherd/internal/failure"
)

// Prompt is one workflow to run.
type Prompt struct {
	ID        string          // lower-case hyphenated UUID, chosen by the caller, never used twice
	Workflow  json.RawMessage // graph in API format, posted byte for byte
	ExtraData json.RawMessage // an object or empty
	Targets   []string        // output nodes to run; empty means all

	// Limits; 0 means none. Start runs while no prompt is before this one in the backlog and it does not begin, and
	// while another user's prompt runs before it; then it ends as rejected_busy and is still on the host. Node runs from
	// each executing and progress event; while none can reach this process, the nodes that are left share the sum of their
	// limits. Total runs from when the prompt was first at the head of the backlog.
	Start, Node, Total time.Duration

	Resume bool // never post: attach to ID on the host, or fail as Lost when it is gone
}

// Progress is how far a prompt is.
type Progress struct {
	Value, Max            float64 // of the node; 0 and 0 when the node only began
	Node, Class           string
	NodesDone, NodesTotal int
}

// Watch receives what happens while a prompt runs, in order, from the
// goroutine that called Run. A call must not block. Progress and Preview are
// coalesced: what came between two calls is only its newest. Any may be nil.
type Watch struct {
	Submitted func() // it is on the host
	Running   func() // it is or was executed
	Progress  func(Progress)
	Preview   func(contentType string, image []byte)

	// Frame receives every message of the websocket about the prompt but those that end it, in their order. Of progress_state it
	// receives at most five a second, and always the newest before an executed and before the end.
	Frame func(Frame)
}

// Result is a prompt that ended well.
type Result struct {
	Outputs       []Output                 // by node, media and place; may be empty
	Texts         map[string][]string      // what nodes show as text, by node, whole; at most 16 MiB in all
	Blocked       []string                 // nodes that an ExecutionBlocker kept from running, and why; only the websocket tells them
	Missing       bool                     // no node left anything: no file, no text, no picture
	CachedNodes   []string                 // nodes that were not run again
	NodeTimes     map[string]time.Duration // of the nodes whose execution was seen
	Queued, Ran   time.Duration            // by the host's clock where its record has times, else as seen
	OutputsReused bool                     // a file is that of an earlier prompt, from ComfyUI's cache
}

// check refuses ids that ComfyUI would refuse or replace.
func (p Prompt) check() *failure.Failure {
	if id, err := uuid.Parse(p.ID); err != nil || id.String() != p.ID {
		return failure.New(failure.Lost, "the prompt id "+clip(oneLine(p.ID), 60)+" is no lower-case hyphenated UUID")
	}
	return nil
}

// shape is the part of a graph that is needed to read events and refusals.
type shape struct {
	classes map[string]string // of each node
	absent  map[string]bool   // nodes that are linked to and not in the graph
}

func (p Prompt) shape() shape {
	var graph map[string]struct {
		Class  text                       `json:"class_type"`
		Inputs map[string]json.RawMessage `json:"inputs"`
	}
	s := shape{classes: map[string]string{}, absent: map[string]bool{}}
	if decode(p.Workflow, &graph) != nil {
		return s
	}
	for node, n := range graph {
		s.classes[node] = string(n.Class)
		for _, value := range n.Inputs {
			from, _, linked := link(value)
			if _, there := graph[from]; linked && !there {
				s.absent[from] = true
			}
		}
	}
	return s
}

// link reads an input that is the output of another node: ["4", 0].
func link(input json.RawMessage) (from string, output json.RawMessage, ok bool) {
	var parts []json.RawMessage
	if input[0] != '[' || json.Unmarshal(input, &parts) != nil || len(parts) != 2 || json.Unmarshal(parts[0], &from) != nil { // most are no array
		return "", nil, false
	}
	return from, parts[1], true
}
