package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/jetstream"
)

// near is how far a share may be from what the weights say. A test has few jobs, on a machine that does other work too.
func (p *play) near() float64 {
	if p.size < 2 {
		return 0.35
	}
	return 0.12
}

// shares has one tenant flood the fleet, and the others come after it.
func (p *play) shares(ctx context.Context) error {
	p.say("\n1  Shares\n   coral floods the fleet; acme and bolt come a moment later.")
	for _, tenant := range tenants {
		if err := p.watch.fleet.Weigh(ctx, tenant, weights[tenant]); err != nil {
			return err
		}
	}
	if err := p.warmUp(ctx); err != nil {
		return err
	}
	jobs := map[jetstream.Tenant]int{"coral": 40 * p.size, "acme": 24 * p.size, "bolt": 16 * p.size}
	all := jobs["coral"] + jobs["acme"] + jobs["bolt"]
	for _, together := range [][]jetstream.Tenant{{"coral"}, {"acme", "bolt"}} {
		if err := p.flood(ctx, jobs, together...); err != nil {
			return err
		}
	}
	if err := p.record.ended(ctx, all, "share-"); err != nil {
		return err
	}
	used, from, to := p.contended()
	total := used["acme"] + used["bolt"] + used["coral"]
	for _, tenant := range tenants {
		due, got := weights[tenant]/6, float64(used[tenant])/float64(max(total, 1))
		p.claim(got > due-p.near() && got < due+p.near(), fmt.Sprintf("%s gets its share of the hosts' time", tenant),
			"%.0f %%, due %.0f %%, in the %s in which all three waited", 100*got, 100*due, daemon.Span(to.Sub(from)))
	}
	acme, coral := p.waits("acme", "share-"), p.waits("coral", "share-")
	p.claim(percentile(acme, 90) < percentile(coral, 90), "the flood delays the one that made it more than acme",
		"nine of ten of acme's jobs waited less than %s, of coral's %s", daemon.Span(percentile(acme, 90)), daemon.Span(percentile(coral, 90)))
	return nil
}

// flood publishes the jobs of some tenants at the same time, faster than the hosts can run them.
func (p *play) flood(ctx context.Context, jobs map[jetstream.Tenant]int, from ...jetstream.Tenant) error {
	var publishing errgroup.Group
	publishing.SetLimit(16)
	for n := range jobs["coral"] {
		for _, tenant := range from {
			if n >= jobs[tenant] {
				continue
			}
			publishing.Go(func() error {
				return p.submit(ctx, tenant, jetstream.Spec{ID: jetstream.ID(fmt.Sprintf("share-%03d", n)), Workflow: p.sample(0, n)})
			})
		}
	}
	return publishing.Wait()
}

// warmUp has each host load the model, so that no tenant pays for that with its share.
func (p *play) warmUp(ctx context.Context) error {
	for i, h := range p.fleet.hosts {
		spec := jetstream.Spec{ID: jetstream.ID(fmt.Sprintf("first-%d", i)), Workflow: p.sample(0, 1000+i), OnlyHosts: []string{h.Name}}
		if err := p.submit(ctx, tenants[i%len(tenants)], spec); err != nil {
			return err
		}
	}
	return p.record.ended(ctx, len(p.fleet.hosts), "first-")
}

// contended is the hosts' time that each tenant used while all three had jobs that waited: that of the jobs which began then.
func (p *play) contended() (used map[jetstream.Tenant]time.Duration, from, to time.Time) {
	for _, tenant := range tenants {
		started := p.record.all(func(e *seen) bool {
			return e.EventKind == "started" && e.Tenant == tenant && strings.HasPrefix(string(e.Job), "share-")
		})
		if len(started) == 0 {
			return nil, from, to
		}
		if first := started[0].at; first.After(from) { // until then the hosts are full of the flood's jobs
			from = first
		}
		if last := started[len(started)-1].at; to.IsZero() || last.Before(to) {
			to = last
		}
	}
	used = map[jetstream.Tenant]time.Duration{}
	within := map[string]bool{}
	for _, e := range p.record.of("started", "share-") {
		within[string(e.Tenant)+"/"+string(e.Job)] = !e.at.Before(from) && e.at.Before(to)
	}
	for _, e := range p.record.of("completed", "share-") {
		if within[string(e.Tenant)+"/"+string(e.Job)] {
			used[e.Tenant] += time.Duration(e.RanFor)
		}
	}
	return used, from, to
}

// waits are the times that a tenant's jobs waited, the shortest first.
func (p *play) waits(tenant jetstream.Tenant, prefix string) []time.Duration {
	var waits []time.Duration
	for _, e := range p.record.of("completed", prefix) {
		if e.Tenant == tenant {
			waits = append(waits, time.Duration(e.QueuedFor))
		}
	}
	slices.Sort(waits)
	return waits
}

func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)-1)*p/100]
}
