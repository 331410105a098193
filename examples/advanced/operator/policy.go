package operator

import (
	"context"
	"fmt"
	"slices"

	"github.com/comfyherd/comfyherd/jetstream"
)

// Policy is a failover policy on top of the fleet's, which blocks pairs of host and workflow and nothing more. It decides from
// events alone, so it may be started again at any time.
//
//   - When Workflows different workflows are blocked on one host at the same time, the host itself is suspected: it is drained, and
//     resumed when the last of these blocks is over.
//   - A workflow that runs out of memory on a host is kept away from that host for good.
type Policy struct {
	Fleet     *Fleet
	Workflows int          // blocked at the same time, that drain a host
	Note      func(string) // what was done, and why

	blocked map[string][]jetstream.Hash // by host
	drained map[string]bool             // by this policy
	small   map[jetstream.Hash][]string // hosts that are too small for a workflow
}

// See acts on an event.
func (p *Policy) See(ctx context.Context, e *Event) error {
	switch {
	case e.Area != "blocks":
		return nil
	case e.What == "blocked":
		return p.block(ctx, e)
	case e.What == "unblocked":
		return p.unblock(ctx, e)
	}
	return nil
}

func (p *Policy) block(ctx context.Context, e *Event) error {
	if e.Kind == "out_of_memory" {
		return p.exclude(ctx, e)
	}
	if p.blocked == nil {
		p.blocked, p.drained = map[string][]jetstream.Hash{}, map[string]bool{}
	}
	if !slices.Contains(p.blocked[e.Host], e.Hash) {
		p.blocked[e.Host] = append(p.blocked[e.Host], e.Hash)
	}
	if len(p.blocked[e.Host]) < p.Workflows || p.drained[e.Host] {
		return nil
	}
	if err := p.Fleet.Drain(ctx, e.Host); err != nil {
		return fmt.Errorf("drain %s: %w", e.Host, err)
	}
	p.drained[e.Host] = true
	p.Note(fmt.Sprintf("drained %s: %d workflows are blocked there", e.Host, len(p.blocked[e.Host])))
	return nil
}

func (p *Policy) unblock(ctx context.Context, e *Event) error {
	if p.blocked == nil {
		return nil
	}
	p.blocked[e.Host] = slices.DeleteFunc(p.blocked[e.Host], func(h jetstream.Hash) bool { return h == e.Hash })
	if len(p.blocked[e.Host]) > 0 || !p.drained[e.Host] {
		return nil
	}
	if err := p.Fleet.Resume(ctx, e.Host); err != nil {
		return fmt.Errorf("resume %s: %w", e.Host, err)
	}
	delete(p.drained, e.Host)
	p.Note(fmt.Sprintf("resumed %s: its blocks are over", e.Host))
	return nil
}

func (p *Policy) exclude(ctx context.Context, e *Event) error {
	if slices.Contains(p.small[e.Hash], e.Host) {
		return nil
	}
	if p.small == nil {
		p.small = map[jetstream.Hash][]string{}
	}
	p.small[e.Hash] = append(p.small[e.Hash], e.Host)
	if err := p.Fleet.Exclude(ctx, e.Hash, p.small[e.Hash]); err != nil {
		return fmt.Errorf("keep workflow %.8s away from %s: %w", string(e.Hash), e.Host, err)
	}
	p.Note(fmt.Sprintf("keeps workflow %.8s away from %s, which has too little memory for it", string(e.Hash), e.Host))
	return nil
}
