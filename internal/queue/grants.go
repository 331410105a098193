package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
)

// HostGrant is an operator's setting of a host: the tenants whose jobs it runs, and how many jobs it may have at once.
type HostGrant struct {
	Tenants []job.Tenant `json:"tenants,omitempty"` // empty: all tenants
	Slots   int          `json:"slots,omitempty"`   // the most jobs at once, also when its agent offers more; 0: 64
	Time    time.Time    `json:"time"`              // when it was set; an older grant does not replace it
}

// mostGranted is the most tenants of a grant.
const mostGranted = 1 << 12

func (g *HostGrant) check() error {
	var c checks
	c.short("tenants", len(g.Tenants), mostGranted)
	for _, t := range g.Tenants {
		c.that(t.Valid(), "%.80q is no tenant name", t)
	}
	c.count("slots", int64(g.Slots), mostSlots)
	c.when("the time", g.Time)
	return c.err
}

func (g *HostGrant) equal(o *HostGrant) bool {
	return g.Slots == o.Slots && g.Time.Equal(o.Time) && slices.Equal(g.Tenants, o.Tenants)
}

// PutGrants writes grants by host, and makes the bucket when it is missing. nc needs the permissions of a dispatcher. A stored grant
// with a later Time is kept.
func PutGrants(ctx context.Context, nc *nats.Conn, cfg Config, granted map[string]HostGrant) error {
	js, err := open(nc, cfg)
	if err != nil {
		return err
	}
	t := topology{js: js, cfg: cfg}
	bucket := t.bucket(names.GrantsBucket, grantsAbout)
	kv, err := answered(ctx, func(ctx context.Context) (natsjs.KeyValue, error) { return t.keyValue(ctx, bucket) })
	if err != nil {
		return explain(err)
	}
	for host, g := range granted {
		if err := putGrant(ctx, kv, host, &g); err != nil {
			return err
		}
	}
	return nil
}

// PutGrant is PutGrants for one host.
func (q *Queue) PutGrant(ctx context.Context, host string, g HostGrant) error {
	return putGrant(ctx, q.grants, host, &g)
}

func putGrant(ctx context.Context, kv natsjs.KeyValue, host string, g *HostGrant) error {
	if err := g.check(); err != nil {
		return fmt.Errorf("give host %s to tenants: %w", host, err)
	}
	value, err := json.Marshal(g)
	if err != nil {
		return fmt.Errorf("encode the grant of host %s: %w", host, err)
	}
	return RetryConflict(ctx, "give host "+host+" to tenants", untilLed(ctx, func() (bool, error) {
		revision := uint64(0)
		entry, err := kv.Get(ctx, host)
		switch {
		case err == nil:
			revision = entry.Revision()
			stored, err := GrantOf(entryOf(entry))
			if err == nil && (stored.Time.After(g.Time) || stored.equal(g)) {
				return true, nil
			}
		case !errors.Is(err, natsjs.ErrKeyNotFound):
			return false, fmt.Errorf("read the grant of host %s: %w", host, err)
		}
		return putExpecting(ctx, kv, host, value, revision)
	}))
}

// GrantOf decodes a host's grant.
func GrantOf(e Entry) (HostGrant, error) {
	if !job.ValidHost(e.Key) {
		return HostGrant{}, fmt.Errorf("the key %.80q is no host", e.Key)
	}
	return decodeChecked[HostGrant](e.Value)
}
