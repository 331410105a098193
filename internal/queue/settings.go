package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// Affinity ties a workflow to hosts. Each entry is a host's name or a label such as gpu=4090.
type Affinity struct {
	Prefer  []string `json:"prefer,omitempty"`
	Exclude []string `json:"exclude,omitempty"`
}

// TenantSettings are a tenant's share and caps.
type TenantSettings struct {
	Weight     float64 `json:"weight"`      // its part of the fleet, in proportion to other tenants' weights; default 1
	MaxRunning int     `json:"max_running"` // jobs on all hosts together; 0 is no cap

	// MaxPriority is the ceiling: jobs of a higher priority count as this one. Without it the dispatchers' default is used.
	MaxPriority   *job.Priority `json:"max_priority,omitempty"`
	MaxUnfinished int           `json:"max_unfinished,omitempty"` // the most jobs that have not ended; 0 is no quota
	MaxBytes      int64         `json:"max_bytes,omitempty"`      // the most bytes of their bodies; 0 is half of the maximum of COMFY_JOBS
	MaxFileBytes  int64         `json:"max_file_bytes,omitempty"` // the most bytes of its files in COMFY_INPUTS; 0 is a quarter of the maximum of that
}

// SetAffinity writes the rule of a workflow.
func (q *Queue) SetAffinity(ctx context.Context, hash workflow.Hash, a Affinity) error {
	return putJSON(ctx, q.affinity, string(hash), a)
}

// RemoveAffinity removes the rule of a workflow.
func (q *Queue) RemoveAffinity(ctx context.Context, hash workflow.Hash) error {
	return wrap(q.affinity.Purge(ctx, string(hash)), "remove affinity of %s", hash.Short())
}

// AffinityOf decodes the rule of a workflow.
func AffinityOf(e Entry) (Affinity, error) {
	if !workflow.Hash(e.Key).Valid() {
		return Affinity{}, fmt.Errorf("the key %.80q is no hash", e.Key)
	}
	return decodeChecked[Affinity](e.Value)
}

// SetTenant writes a tenant's settings.
func (q *Queue) SetTenant(ctx context.Context, tenant job.Tenant, s TenantSettings) error {
	return putJSON(ctx, q.tenants, string(tenant), s)
}

// Tenant reads a tenant's settings; without any its weight is 1.
func (q *Queue) Tenant(ctx context.Context, tenant job.Tenant) (TenantSettings, error) {
	entry, err := q.tenants.Get(ctx, string(tenant))
	if errors.Is(err, natsjs.ErrKeyNotFound) {
		return TenantSettings{Weight: 1}, nil
	}
	if err != nil {
		return TenantSettings{}, fmt.Errorf("read the settings of tenant %s: %w", tenant, err)
	}
	if s, err := TenantOf(entryOf(entry)); err == nil {
		return s, nil
	}
	return TenantSettings{Weight: 1}, nil // not valid, since another program has written it: as if there were none
}

// Tenants reads the settings of all tenants that have some.
func (q *Queue) Tenants(ctx context.Context) (map[job.Tenant]TenantSettings, error) {
	tenants := map[job.Tenant]TenantSettings{}
	err := each(ctx, q.tenants, TenantOf, func(c Change[TenantSettings]) {
		if c.Phase == Put {
			tenants[job.Tenant(c.Key)] = c.Value
		}
	})
	return tenants, err
}

// TenantOf decodes a tenant's settings; a missing weight is 1.
func TenantOf(e Entry) (TenantSettings, error) {
	if !job.Tenant(e.Key).Valid() {
		return TenantSettings{}, fmt.Errorf("the key %.80q is no tenant name", e.Key)
	}
	s := TenantSettings{Weight: 1}
	if err := json.Unmarshal(e.Value, &s); err != nil {
		return TenantSettings{}, fmt.Errorf("decode the settings: %w", err)
	}
	return s, s.check()
}
