package dispatcher

import (
	"context"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// announceGone announces a host whose presence has ended.
func (d *Dispatcher) announceGone(ctx context.Context, host string) {
	if err := d.q.AnnounceHost(ctx, host, queue.HostOffline, "its presence ended"); err != nil {
		d.log.Debug("cannot announce that a host is gone", "host", host, "error", err)
	}
}

// announceAbsent announces the hosts that went while no dispatcher was there to see it: their last event says
// something else than offline, and they have no presence.
func (d *Dispatcher) announceAbsent(ctx context.Context) {
	states, err := d.q.HostStates(ctx)
	if err != nil {
		d.log.Warn("cannot look for hosts that went while no dispatcher was there", "error", err)
		return
	}
	for host, last := range states {
		if last == queue.HostOffline {
			continue
		}
		_, there, err := d.q.Host(ctx, host)
		if err == nil && !there {
			err = d.q.AnnounceHost(ctx, host, queue.HostOffline, "its presence ended while no dispatcher was there")
		}
		if err != nil {
			d.log.Warn("cannot look for hosts that went while no dispatcher was there", "host", host, "error", err)
		}
	}
}
