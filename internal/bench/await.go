package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// awaitHosts waits until a dispatcher lists all hosts.
func (s *stage) awaitHosts(ctx context.Context, q *queue.Queue) error {
	return poll(ctx, "the hosts", func() bool {
		hosts, err := q.AllHosts(ctx)
		return err == nil && countOnline(hosts) == s.cfg.Hosts
	})
}

func countOnline(hosts []queue.HostInfo) int {
	n := 0
	for i := range hosts {
		if hosts[i].State == queue.Online {
			n++
		}
	}
	return n
}

// awaitKnown waits until the metrics of a dispatcher count all hosts, blocks and waiting jobs.
func (s *stage) awaitKnown(ctx context.Context, i int) error {
	return poll(ctx, dispatcherName(i), func() bool {
		known := s.gauges(dispatcherName(i))
		return known["comfyherd_mirror_hosts"] >= s.cfg.Hosts && known["comfyherd_mirror_blocks"] >= s.cfg.Blocks &&
			known["comfyherd_mirror_tickets"] >= s.cfg.Waiting-heldMost
	})
}

// gauges are a dispatcher's metrics of hosts, blocks and waiting jobs, which it updates once a second.
func (s *stage) gauges(dispatcher string) map[string]int {
	known := map[string]int{}
	families, err := s.metrics.Gather()
	if err != nil {
		return known
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if labelled(m.GetLabel(), "dispatcher", dispatcher) {
				known[family.GetName()] = int(m.GetGauge().GetValue())
			}
		}
	}
	return known
}

// labelled reports whether a label is among those of a metric.
func labelled[L interface {
	GetName() string
	GetValue() string
}](labels []L, name, value string) bool {
	return slices.ContainsFunc(labels, func(l L) bool { return l.GetName() == name && l.GetValue() == value })
}

// poll calls so some times a second until it returns true, or ctx ends.
func poll(ctx context.Context, what string, so func() bool) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, context.Cause(ctx))
		}
	}
	return nil
}
