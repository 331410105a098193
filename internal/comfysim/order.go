package comfysim

import "slices"

// schedule decides the order of nodes as ComfyUI's ExecutionList does: output nodes as soon as they can run, then nodes
// that stand right before an output, then those two before, then the first that can run.
type schedule struct {
	pending  []string // in the order they were found
	blockers map[string]int
	blocking map[string][]string
	output   func(id string) bool
}

// newSchedule finds what the outputs need. Cached nodes are not looked behind.
func newSchedule(g *graph, outputs []string, output, cached func(id string) bool) *schedule {
	s := &schedule{blockers: map[string]int{}, blocking: map[string][]string{}, output: output}
	for _, out := range outputs {
		s.add(g, out, cached)
	}
	return s
}

func (s *schedule) add(g *graph, out string, cached func(string) bool) {
	type edge struct{ from, to string }
	var edges []edge
	stack := []string{out}
	for len(stack) > 0 {
		id := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if _, known := s.blockers[id]; known {
			continue
		}
		s.blockers[id] = 0
		s.pending = append(s.pending, id)
		if cached(id) {
			continue
		}
		n := g.nodes[id]
		for _, name := range n.order {
			from, _, ok := link(n.inputs[name])
			if ok && !cached(from) {
				stack = append(stack, from)
				edges = append(edges, edge{from, id})
			}
		}
	}
	for _, e := range edges {
		if !slices.Contains(s.blocking[e.from], e.to) {
			s.blocking[e.from] = append(s.blocking[e.from], e.to)
			s.blockers[e.to]++
		}
	}
}

// next is the node to run now; "" when nothing is left.
func (s *schedule) next() string {
	var ready []string
	for _, id := range s.pending {
		if s.blockers[id] == 0 {
			ready = append(ready, id)
		}
	}
	for depth := range 3 {
		if i := slices.IndexFunc(ready, func(id string) bool { return s.leads(id, depth) }); i >= 0 {
			return ready[i]
		}
	}
	if len(ready) == 0 {
		return ""
	}
	return ready[0]
}

// leads says whether an output stands exactly depth links behind a node.
func (s *schedule) leads(id string, depth int) bool {
	if depth == 0 {
		return s.output(id)
	}
	return slices.ContainsFunc(s.blocking[id], func(to string) bool { return s.leads(to, depth-1) })
}

func (s *schedule) done(id string) {
	s.pending = slices.DeleteFunc(s.pending, func(o string) bool { return o == id })
	for _, to := range s.blocking[id] {
		s.blockers[to]--
	}
}
