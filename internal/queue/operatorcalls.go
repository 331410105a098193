package queue

import (
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// Block says that a host runs no jobs of a workflow for a while.
type Block = route.Block

// HostsRequest asks for hosts.
type HostsRequest struct {
	After string `json:"after,omitempty"` // only hosts after this one; Next of the answer before
	Limit int    `json:"limit,omitempty"` // at most so many, and never more than 500

	Offline bool `json:"offline,omitempty"` // also hosts that went offline in the last 24 h: their state is Offline, and their time says when
	Trend   bool `json:"trend,omitempty"`   // with Busy

	Host     string `json:"host,omitempty"`     // only this one
	Attempts bool   `json:"attempts,omitempty"` // with Host: also its last attempts
}

// HostsAnswer lists the hosts that have presence, by name.
type HostsAnswer struct {
	Hosts []HostInfo `json:"hosts"`
	Next  string     `json:"next,omitempty"` // more follow after this one; empty at the end
}

// HostInfo is a host with what dispatchers add to its own state.
type HostInfo struct {
	HostState
	Capability int `json:"capability"` // entries in its capability set; 0 when it has stored none
	Blocks     int `json:"blocks"`
	Strikes    int `json:"strikes"`

	Tenants []job.Tenant `json:"tenants,omitempty"` // the tenants of its grant; empty: all
	Resting *Rest        `json:"resting,omitempty"` // why it gets no jobs for a while, when it gets none
	Busy    []int        `json:"busy,omitempty"`    // percent of its slots' time in which they ran jobs, in each of the last 30 steps of 2 min

	Attempts []HostAttempt `json:"attempts,omitempty"` // the last 50, the one that ended last first
}

// HostAttempt is a run of a job on a host that is over.
type HostAttempt struct {
	Tenant  job.Tenant    `json:"tenant"`
	Job     job.ID        `json:"job"`
	Hash    workflow.Hash `json:"hash,omitempty"`
	Attempt int           `json:"attempt"`
	State   job.EventKind `json:"state"`          // how it ended: completed, failed, dead or cancelled
	Kind    failure.Kind  `json:"kind,omitempty"` // of a failed one
	Begun   time.Time     `json:"begun"`
	RanFor  job.Duration  `json:"ran_for"`
}

// Rest is why a host that is online is given no jobs, and until when.
type Rest struct {
	Until time.Time `json:"until"`
	Why   string    `json:"why"`
}

// BlocksRequest chooses pairs: one, or all of a host, or of a hash, or all.
type BlocksRequest struct {
	Host   string        `json:"host,omitempty"`
	Hash   workflow.Hash `json:"hash,omitempty"`   // or its first digits
	After  string        `json:"after,omitempty"`  // only pairs after this one; Next of the answer before
	Limit  int           `json:"limit,omitempty"`  // at most so many, and never more than 500
	Struck bool          `json:"struck,omitempty"` // list the pairs that have strikes and no block instead
}

// BlocksAnswer lists the blocks in force, by host and hash. Values in COMFY_BLOCKS that are no blocks are left out.
type BlocksAnswer struct {
	Blocks []Block      `json:"blocks"`
	Struck []StruckPair `json:"struck,omitempty"`
	Next   string       `json:"next,omitempty"` // more follow after this pair, <host>.<hash>; empty at the end
}

// StruckPair is a pair that has strikes and is not blocked. The last three are known when the request names a host or
// a whole hash, and when the answer has at most 64 pairs.
type StruckPair struct {
	Host      string        `json:"host"`
	Hash      workflow.Hash `json:"hash"`
	Probation bool          `json:"probation,omitempty"` // its block has ended, and it runs one job at a time until one succeeds
	Failures  int           `json:"failures,omitempty"`  // since the last success
	Level     int           `json:"level,omitempty"`     // how many blocks the pair has had
	Last      time.Time     `json:"last,omitzero"`       // when the newest failure happened, by the host's clock
}

// UnblockRequest chooses pairs: one, or all of a host, or of a hash.
type UnblockRequest struct {
	Host string        `json:"host,omitempty"`
	Hash workflow.Hash `json:"hash,omitempty"` // or its first digits
	By   string        `json:"by,omitempty"`   // who asks; at most 64 characters are kept
}

// CountAnswer says how many objects a call has changed.
type CountAnswer struct {
	Count int `json:"count"`
}

// DrainRequest asks a host's agent to take no more jobs, or to take them again.
type DrainRequest struct {
	Host   string `json:"host"`
	Resume bool   `json:"resume,omitempty"`
	By     string `json:"by,omitempty"` // who asks; at most 64 characters are kept
}

// DrainAnswer is the answer to a DrainRequest.
type DrainAnswer struct {
	Count int   `json:"count"` // 1 when the agent has done it, else 0
	Reply Reply `json:"reply"` // the agent's: the host's state now, and why it was not done or why the host still takes no jobs
}

// PurgeRequest chooses dead letters as DeadRequest does. A request without any condition is refused unless All is set.
type PurgeRequest struct {
	Tenant job.Tenant     `json:"tenant,omitempty"`
	Job    job.ID         `json:"job,omitempty"`
	Hash   workflow.Hash  `json:"hash,omitempty"`
	Kind   failure.Kind   `json:"kind,omitempty"`
	Reason failure.Reason `json:"reason,omitempty"`
	Since  string         `json:"since,omitempty"`
	All    bool           `json:"all,omitempty"` // every letter there is
	After  uint64         `json:"after,omitempty"`
	UpTo   uint64         `json:"up_to,omitempty"` // only letters up to this sequence of COMFY_DEAD
	Limit  int            `json:"limit,omitempty"` // at most so many
	By     string         `json:"by,omitempty"`    // who asks; at most 64 characters are kept

	Signature string `json:"signature,omitempty"` // of a jetstream.DeadGroup
}

// Narrow reports whether the request has a condition.
func (r *PurgeRequest) Narrow() bool {
	return r.Tenant != "" || r.Job != "" || r.Hash != "" || r.Kind != "" || r.Reason != "" || r.Since != "" || r.Signature != ""
}

// PurgeAnswer says how many dead letters were deleted. While there is a Next, ask again with it as After.
type PurgeAnswer struct {
	Count int    `json:"count"`
	Next  uint64 `json:"next,omitempty"` // more may follow after it; 0 at the end
}

// AffinityRequest sets, removes or (all empty) lists rules.
type AffinityRequest struct {
	Hash    workflow.Hash `json:"hash,omitempty"`
	Prefer  []string      `json:"prefer,omitempty"`
	Exclude []string      `json:"exclude,omitempty"`
	Remove  bool          `json:"remove,omitempty"`
	By      string        `json:"by,omitempty"`    // who asks; at most 64 characters are kept
	After   workflow.Hash `json:"after,omitempty"` // when listing: only rules after this one; Next of the answer before
	Limit   int           `json:"limit,omitempty"` // when listing: at most so many, and never more than 500
}

// AffinityAnswer lists the rules that are set.
type AffinityAnswer struct {
	Affinity map[workflow.Hash]Affinity `json:"affinity"`
	Next     workflow.Hash              `json:"next,omitempty"` // more follow after this one; empty at the end
}

// TenantsRequest sets a tenant's weight or cap, or (all empty) lists.
type TenantsRequest struct {
	Tenant     job.Tenant `json:"tenant,omitempty"`
	Weight     *float64   `json:"weight,omitempty"`
	MaxRunning *int       `json:"max_running,omitempty"`

	MaxPriority   *job.Priority `json:"max_priority,omitempty"`
	MaxUnfinished *int          `json:"max_unfinished,omitempty"`
	MaxBytes      *int64        `json:"max_bytes,omitempty"`
	MaxFileBytes  *int64        `json:"max_file_bytes,omitempty"`

	By    string     `json:"by,omitempty"`    // who asks; at most 64 characters are kept
	After job.Tenant `json:"after,omitempty"` // when listing: only tenants after this one; Next of the answer before
	Limit int        `json:"limit,omitempty"` // when listing: at most so many, and never more than 500
}

// Sets reports whether it sets anything.
func (r *TenantsRequest) Sets() bool {
	return r.Weight != nil || r.MaxRunning != nil || r.MaxPriority != nil || r.MaxUnfinished != nil || r.MaxBytes != nil || r.MaxFileBytes != nil
}

// TenantsAnswer lists the tenants with settings of their own.
type TenantsAnswer struct {
	Tenants map[job.Tenant]TenantSettings `json:"tenants"`
	Next    job.Tenant                    `json:"next,omitempty"` // more follow after this one; empty at the end
}
