package comfy

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// signatures gives the signatures of a graph's nodes. Nodes with equal signatures compute the same, whatever their ids are:
// they have equal classes and inputs, upstream as well. ComfyUI's cache compares the same, and also files and times that
// nodes depend on.
type signatures struct {
	graph map[string]signedNode
	known map[string]signature
}

type signature [sha256.Size]byte

type signedNode struct {
	Class  text                       `json:"class_type"`
	Inputs map[string]json.RawMessage `json:"inputs"`
}

func signaturesOf(workflow json.RawMessage) signatures {
	s := signatures{known: map[string]signature{}}
	_ = decode(workflow, &s.graph) // of what is no graph each node is missing
	return s
}

// of is the signature of a node; one that the graph lacks (an expansion of another) has one that no other equals.
func (s signatures) of(node string) signature {
	if known, is := s.known[node]; is {
		return known
	}
	s.known[node] = sha256.Sum256([]byte("a circle at " + node))
	n, there := s.graph[node]
	h := sha256.New()
	if !there {
		all, _ := json.Marshal(s.graph) // of what was read from JSON
		_, _ = fmt.Fprintf(h, "%q in %s", node, all)
	}
	_, _ = fmt.Fprintf(h, "%q", string(n.Class))
	for _, name := range slices.Sorted(maps.Keys(n.Inputs)) {
		if from, output, linked := link(n.Inputs[name]); linked {
			_, _ = fmt.Fprintf(h, "|%q from %x %s", name, s.of(from), output)
			continue
		}
		_, _ = fmt.Fprintf(h, "|%q %s", name, n.Inputs[name])
	}
	s.known[node] = signature(h.Sum(nil))
	return s.known[node]
}
