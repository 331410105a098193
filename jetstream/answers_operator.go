package jetstream

import (
	"encoding/json"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// HostsAnswer lists the hosts whose presence stands.
type HostsAnswer struct {
	Hosts []HostInfo `json:"hosts"`
}

// HostInfo is a host as the dispatchers see it.
type HostInfo struct {
	HostState
	Capability int `json:"capability"` // entries in its capability set; 0 when it told none
	Blocks     int `json:"blocks"`
	Strikes    int `json:"strikes"`
}

// BlocksRequest chooses pairs: one, or all of a host, or of a hash, or all.
type BlocksRequest struct {
	Host string        `json:"host,omitempty"`
	Hash workflow.Hash `json:"hash,omitempty"` // or its first digits
}

// BlocksAnswer lists blocks as they stand in COMFY_BLOCKS.
type BlocksAnswer struct {
	Blocks []json.RawMessage `json:"blocks"`
}

// UnblockRequest chooses pairs: one, or all of a host, or of a hash.
type UnblockRequest struct {
	Host string        `json:"host,omitempty"`
	Hash workflow.Hash `json:"hash,omitempty"` // or its first digits
}

// CountAnswer says how many were concerned.
type CountAnswer struct {
	Count int `json:"count"`
}

// DrainRequest asks a host's agent to take no more jobs, or to take them again.
type DrainRequest struct {
	Host   string `json:"host"`
	Resume bool   `json:"resume,omitempty"`
}

// AffinityRequest sets, removes or (all empty) lists rules.
type AffinityRequest struct {
	Hash    workflow.Hash `json:"hash,omitempty"`
	Prefer  []string      `json:"prefer,omitempty"`
	Exclude []string      `json:"exclude,omitempty"`
	Remove  bool          `json:"remove,omitempty"`
}

// AffinityAnswer lists the rules that stand.
type AffinityAnswer struct {
	Affinity map[workflow.Hash]Affinity `json:"affinity"`
}

// TenantsRequest sets a tenant's weight or cap, or (all empty) lists.
type TenantsRequest struct {
	Tenant     job.Tenant `json:"tenant,omitempty"`
	Weight     *float64   `json:"weight,omitempty"`
	MaxRunning *int       `json:"max_running,omitempty"`
}

// TenantsAnswer lists the tenants with settings of their own.
type TenantsAnswer struct {
	Tenants map[job.Tenant]TenantSettings `json:"tenants"`
}
