package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/jetstream"
)

// pauseBetween is the mean time between two arrivals: more than hosts with warm models need, and less than others do.
const pauseBetween = 80 * time.Millisecond

// models is how many workflows arrive, each with a model of its own.
const models = 3

// The batches of the same arrivals: given out in turn, as a pool without a memory does; by the fleet's own choice, which takes a host
// that ran the workflow lately when one is free; and by the operator's rules.
const (
	inTurn  = "turn-"
	byFleet = "own-"
	byRule  = "rule-"
)

// warmth has the same arrivals come three times.
func (p *play) warmth(ctx context.Context) error {
	p.say("\n2  Warm models\n   The same arrivals of three workflows, each with a model of its own, come three times: in turn, as the fleet\n   chooses by itself, and by affinity rules that give each workflow hosts of its own.")
	if len(p.fleet.hosts) < 2 {
		p.say("   It takes two hosts; there is one.")
		return nil
	}
	n := 10 * p.size
	for _, batch := range []string{inTurn, byFleet, byRule} {
		if batch == byRule {
			if err := p.rule(ctx); err != nil {
				return err
			}
		}
		if err := p.arrive(ctx, batch, n); err != nil {
			return err
		}
	}
	turn, own, rule := p.loads(inTurn, ""), p.loads(byFleet, ""), p.loads(byRule, "")
	what := "affinity saves loading models"
	if len(p.fleet.sims) == 0 {
		what = "affinity saves changes of the workflow on a host, each of which would load a model"
	}
	p.claim(rule < turn, what, "%d jobs make %d loads in turn, %d as the fleet chooses by itself, %d by rules: %d saved",
		n, turn, own, rule, turn-rule)
	for _, batch := range []struct{ name, prefix string }{{"in turn", inTurn}, {"as the fleet chooses", byFleet}, {"by rules", byRule}} {
		waits := p.waits("bolt", batch.prefix)
		p.say("   %-21s half waited less than %s, the longest %s", batch.name, daemon.Span(percentile(waits, 50)), daemon.Span(percentile(waits, 100)))
	}
	return nil
}

// rule keeps each workflow away from the hosts of the others. A host has one workflow, when there are as many hosts.
func (p *play) rule(ctx context.Context) error {
	for _, e := range p.record.of("queued", inTurn) {
		var others []string
		for i, h := range p.fleet.hosts {
			if i%models != modelOf(&e)%len(p.fleet.hosts) {
				others = append(others, h.Name)
			}
		}
		if p.ruled[e.Hash] {
			continue
		}
		p.ruled[e.Hash] = true
		if err := p.watch.fleet.Exclude(ctx, e.Hash, others); err != nil {
			return err
		}
	}
	return nil
}

// arrivals is which workflow comes when. It is the same each time.
func arrivals(n int) (which []int, pauses []time.Duration) {
	chance := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same arrivals each time
	for range n {
		which = append(which, chance.IntN(models))
		pauses = append(pauses, time.Duration(chance.Int64N(int64(2*pauseBetween))))
	}
	return which, pauses
}

// modelOf is the model of a job of a batch.
func modelOf(e *seen) int {
	var batch string
	var n, model int
	_, _ = fmt.Sscanf(e.Name, "%s %d %d", &batch, &n, &model) // as arrive has named it
	return model
}

// arrive publishes jobs at random times, which are the same for every batch, and waits until they have ended.
func (p *play) arrive(ctx context.Context, batch string, n int) error {
	which, pauses := arrivals(n)
	for i, model := range which {
		spec := jetstream.Spec{
			ID: jetstream.ID(fmt.Sprintf("%s%03d", batch, i)), Name: fmt.Sprintf("%s %d %d", batch, i, model), Workflow: p.sample(model, i),
		}
		if batch == inTurn {
			spec.OnlyHosts = []string{p.fleet.hosts[i%len(p.fleet.hosts)].Name}
		}
		if err := p.submit(ctx, "bolt", spec); err != nil {
			return err
		}
		select {
		case <-time.After(pauses[i] * time.Duration(1+p.size) / 4):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return p.record.ended(ctx, n, batch)
}

// loads counts how often a host, or with an empty name any host, ran another workflow than just before, and so loaded its model.
func (p *play) loads(prefix, host string) int {
	last, n := map[string]jetstream.Hash{}, 0
	for _, e := range p.record.of("started", prefix) {
		if (host == "" || e.Host == host) && last[e.Host] != e.Hash {
			n++
		}
		last[e.Host] = e.Hash
	}
	return n
}
