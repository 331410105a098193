package dispatcher

import "github.com/comfyherd/comfyherd/internal/route"

// changes is what the loop has to look at before it waits for the next message. Each part notes what it has changed.
type changes struct {
	jobs    bool                  // any waiting job may find a host
	hosts   map[route.HostID]bool // these hosts may have room for one more job
	reasons bool                  // the reason why a job waits may have changed
}

func newChanges() *changes { return &changes{hosts: map[route.HostID]bool{}} }

// all notes that any waiting job may find a host, and that any reason may have changed.
func (c *changes) all() { c.jobs, c.reasons = true, true }

// host notes that a host may have room for one more job.
func (c *changes) host(host string) { c.hosts[route.HostID(host)] = true }

// unmatched reports whether a waiting job may find a host.
func (c *changes) unmatched() bool { return c.jobs || len(c.hosts) > 0 }
