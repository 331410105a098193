package jetstream

import (
	"encoding/json"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// Names of floor 0 that requests and answers have.
type (
	// HostVerdict is one host's answer to why a job does not run.
	HostVerdict = route.HostVerdict
	// LaneStat is a lane as people ask for it.
	LaneStat = route.LaneStat
	// Hash names a workflow's structure.
	Hash = workflow.Hash
)

// StatusRequest names a job.
type StatusRequest struct {
	Tenant job.Tenant `json:"tenant,omitempty"`
	Job    job.ID     `json:"job"`
}

// JobStatus is where a job stands: its last event, and its place when it waits.
type JobStatus struct {
	Job      job.ID        `json:"job"`
	Tenant   job.Tenant    `json:"tenant"`
	State    job.EventKind `json:"state"`
	Event    job.Event     `json:"event"`
	Position int           `json:"position,omitempty"`
	Of       int           `json:"of,omitempty"`
	ETA      *time.Time    `json:"eta,omitempty"`
}

// WhyRequest asks about a job, or about a workflow that is not submitted.
type WhyRequest struct {
	Tenant   job.Tenant      `json:"tenant,omitempty"`
	Job      job.ID          `json:"job,omitempty"`
	Workflow json.RawMessage `json:"workflow,omitempty"` // any of the three bodies of a job
}

// WhyAnswer says of every host whether it may run the job, and why not.
type WhyAnswer struct {
	Job      job.ID           `json:"job,omitempty"`
	State    job.EventKind    `json:"state,omitempty"`
	Reason   route.HoldReason `json:"reason,omitempty"` // why no host may take it; empty when it only waits its turn
	Text     string           `json:"text"`
	Until    *time.Time       `json:"until,omitempty"`
	Position int              `json:"position,omitempty"`
	Of       int              `json:"of,omitempty"`
	ETA      *time.Time       `json:"eta,omitempty"`
	Hosts    []HostVerdict    `json:"hosts"`
}

// CancelRequest names a job.
type CancelRequest struct {
	Tenant job.Tenant `json:"tenant,omitempty"`
	Job    job.ID     `json:"job"`
	Force  bool       `json:"force,omitempty"` // also an id that was never seen
	By     string     `json:"by,omitempty"`
}

// CancelAnswer tells how the job ended, by this cancel or before it.
type CancelAnswer struct {
	Job   job.ID        `json:"job"`
	State job.EventKind `json:"state"`
	Event job.Event     `json:"event"`
}

// DeadRequest filters dead letters; an empty field matches all. An answer that would grow too long or take too
// long ends early and names where to go on: ask again with After.
type DeadRequest struct {
	Tenant job.Tenant     `json:"tenant,omitempty"`
	Job    job.ID         `json:"job,omitempty"`
	Hash   workflow.Hash  `json:"hash,omitempty"` // or its first digits
	Kind   failure.Kind   `json:"kind,omitempty"`
	Reason failure.Reason `json:"reason,omitempty"`
	Since  string         `json:"since,omitempty"` // RFC 3339, or a Go duration back from now
	After  uint64         `json:"after,omitempty"` // only letters behind this one; Next of the answer before
	Limit  int            `json:"limit,omitempty"` // at most so many
}

// DeadAnswer lists dead jobs by their dead events.
type DeadAnswer struct {
	Dead []job.Event `json:"dead"`
	Next uint64      `json:"next,omitempty"` // more may follow behind it; 0 at the end
}

// RequeueRequest chooses dead letters as DeadRequest does.
type RequeueRequest struct {
	Tenant job.Tenant     `json:"tenant,omitempty"`
	Job    job.ID         `json:"job,omitempty"`
	Hash   workflow.Hash  `json:"hash,omitempty"`
	Kind   failure.Kind   `json:"kind,omitempty"`
	Reason failure.Reason `json:"reason,omitempty"`
	Since  string         `json:"since,omitempty"`
	After  uint64         `json:"after,omitempty"`
	Limit  int            `json:"limit,omitempty"`
	Again  bool           `json:"again,omitempty"` // also letters that were requeued before
}

// RequeueAnswer lists the ids under which the jobs were published again.
type RequeueAnswer struct {
	Count int               `json:"count"`
	Jobs  map[job.ID]job.ID `json:"jobs"`           // dead id: new id
	Next  uint64            `json:"next,omitempty"` // more may follow behind it; 0 at the end
}

// QueueAnswer lists the lanes that have waiting or running jobs.
type QueueAnswer struct {
	Lanes []LaneStat `json:"lanes"`
}
