package main

import (
	"fmt"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
)

// report shows what the watcher has seen, and the numbers.
func (p *play) report() error {
	p.say("\n4  What the operator's watcher has seen")
	p.claim(p.watch.alerted("slow", "coral") > 0, "an alert about the lane that the flood made slow", "coral")
	p.claim(p.watch.alerted("dead", "coral/broken-1") == 1, "one alert about the dead job", "coral/broken-1")
	if len(p.fleet.hosts) > 1 {
		host := p.fleet.hosts[1].Name
		p.claim(p.watch.alerted("block", host) >= 2, "alerts about the blocks on "+host, "%d", p.watch.alerted("block", host))
	}
	p.say("\n5  In numbers")
	queued, ends := p.record.of("queued", ""), p.record.all(func(e *seen) bool { return e.EventKind.Terminal() })
	unique := map[string]bool{}
	for i := range ends {
		unique[string(ends[i].Tenant)+"/"+string(ends[i].Job)] = true
	}
	span := time.Duration(0)
	if len(queued) > 0 && len(ends) > 0 {
		span = ends[len(ends)-1].at.Sub(queued[0].at)
	}
	p.claim(len(ends) == len(unique) && len(unique) >= len(queued), "every job ended exactly once", "%d jobs in %s, %.1f a second",
		len(ends), daemon.Span(span), float64(len(ends))/max(span.Seconds(), 0.001))
	p.say("")
	return p.tables()
}

func (p *play) tables() error {
	c := daemon.Console{Out: p.out}
	rows := [][]string{{"TENANT", "WEIGHT", "JOBS", "COMPLETED", "DEAD", "RAN", "WAIT P50", "WAIT P95"}}
	for _, tenant := range tenants {
		ran, waits := time.Duration(0), p.waits(tenant, "")
		dead := p.record.all(func(e *seen) bool { return e.Tenant == tenant && e.EventKind == "dead" })
		for _, e := range p.record.of("completed", "") {
			if e.Tenant == tenant {
				ran += time.Duration(e.RanFor)
			}
		}
		rows = append(rows, []string{
			string(tenant), fmt.Sprint(weights[tenant]), fmt.Sprint(len(waits) + len(dead)), fmt.Sprint(len(waits)), fmt.Sprint(len(dead)),
			daemon.Span(ran), daemon.Span(percentile(waits, 50)), daemon.Span(percentile(waits, 95)),
		})
	}
	if err := c.Table(rows); err != nil {
		return err
	}
	p.say("")
	rows = [][]string{{"HOST", "ATTEMPTS", "FAILED", "LOADS IN TURN", "BY ITSELF", "BY RULES", "RAN"}}
	for _, h := range p.fleet.hosts {
		ran := time.Duration(0)
		for _, e := range p.record.of("completed", "") {
			if e.Host == h.Name {
				ran += time.Duration(e.RanFor)
			}
		}
		rows = append(rows, []string{
			h.Name, fmt.Sprint(p.count("started", "", h.Name)), fmt.Sprint(p.count("failed", "", h.Name)),
			fmt.Sprint(p.loads(inTurn, h.Name)), fmt.Sprint(p.loads(byFleet, h.Name)), fmt.Sprint(p.loads(byRule, h.Name)), daemon.Span(ran),
		})
	}
	return c.Table(rows)
}
