package comfysim

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// Outcome says how a run ended.
type Outcome string

// The outcomes of a run.
const (
	Running     Outcome = "running"
	Succeeded   Outcome = "success"
	Failed      Outcome = "error"
	Interrupted Outcome = "interrupted"
	Died        Outcome = "died"   // the process died under it
	Wedged      Outcome = "wedged" // it took the worker thread with it
)

// Run is one execution of a prompt, from execution_start on.
type Run struct {
	PromptID  string    `json:"prompt_id"`
	ClientID  string    `json:"client_id"`
	Classes   []string  `json:"classes"`    // of all nodes, in the order of the document
	Seeds     []string  `json:"seeds"`      // the text of every input called seed or noise_seed, verbatim
	Nodes     []string  `json:"nodes"`      // ids of nodes that ran, in order; cached ones are not among them
	ExtraData string    `json:"extra_data"` // as JSON
	Started   time.Time `json:"started"`
	Ended     time.Time `json:"ended"`
	Outcome   Outcome   `json:"outcome"`
}

// runLog is guarded by Server.mu.
type runLog struct {
	runs    []Run
	prompts [][]byte
	ended   int
}

// Runs returns every execution so far, of all processes, in the order they started.
func (s *Server) Runs() []Run {
	s.mu.Lock()
	defer s.mu.Unlock()
	runs := slices.Clone(s.log.runs)
	for i := range runs {
		runs[i].Nodes = slices.Clone(runs[i].Nodes)
	}
	return runs
}

// Prompts returns the bodies POSTed to /prompt so far, verbatim, accepted or not.
func (s *Server) Prompts() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log.prompts)
}

// Wait returns when done holds. It is asked at once and after every change: a prompt posted or removed, a run started
// or ended, a node started, a socket opened or closed, a freeze, a death, a restart. It fails with the context's error.
func (s *Server) Wait(ctx context.Context, done func() bool) error {
	for {
		s.mu.Lock()
		news := s.news
		s.mu.Unlock()
		if done() {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("wait for simulated ComfyUI: %w", ctx.Err())
		}
	}
}

// WaitEnded waits until n runs have ended and returns all runs.
func (s *Server) WaitEnded(ctx context.Context, n int) ([]Run, error) {
	err := s.Wait(ctx, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.log.ended >= n
	})
	return s.Runs(), err
}

// changed wakes all callers of Wait.
func (s *Server) changed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.news)
	s.news = make(chan struct{})
}

func (s *Server) posted(body []byte) {
	s.mu.Lock()
	s.log.prompts = append(s.log.prompts, body)
	s.mu.Unlock()
	s.changed()
}

// began adds a run and returns its place.
func (s *Server) began(e *entry) int {
	r := Run{PromptID: e.id, Started: time.Now(), Outcome: Running, ExtraData: string(e.extra)}
	if e.client != nil {
		r.ClientID = *e.client
	}
	for _, id := range e.graph.order {
		n := e.graph.nodes[id]
		r.Classes = append(r.Classes, n.className())
		for _, name := range n.order {
			if name == "seed" || name == "noise_seed" {
				r.Seeds = append(r.Seeds, fmt.Sprint(n.inputs[name]))
			}
		}
	}
	s.mu.Lock()
	s.log.runs = append(s.log.runs, r)
	at := len(s.log.runs) - 1
	s.mu.Unlock()
	s.changed()
	return at
}

func (s *Server) reached(run int, node string) {
	s.mu.Lock()
	s.log.runs[run].Nodes = append(s.log.runs[run].Nodes, node)
	s.mu.Unlock()
	s.changed()
}

func (s *Server) ended(run int, how Outcome) {
	s.mu.Lock()
	s.log.runs[run].Outcome, s.log.runs[run].Ended = how, time.Now()
	s.log.ended++
	s.mu.Unlock()
	s.changed()
}

func idsInOrder(entries []*entry) []string {
	slices.SortFunc(entries, func(a, b *entry) int { return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.id, b.id)) })
	ids := make([]string, len(entries))
	for i, e := range entries {
		ids[i] = e.id
	}
	return ids
}
