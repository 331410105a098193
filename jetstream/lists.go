package jetstream

import (
	"encoding/json"
	"time"
)

// JobStory is all that is stored of one job: its state, its events, and the job as it was published.
type JobStory struct {
	JobStatus
	Name   string          `json:"name,omitempty"`
	Title  string          `json:"title,omitempty"`   // of its workflow
	Bytes  int64           `json:"bytes,omitempty"`   // size of the job as published
	Body   json.RawMessage `json:"body,omitempty"`    // the job as published, without its extra_data
	NoBody string          `json:"no_body,omitempty"` // why there is no body
	Trace  string          `json:"trace,omitempty"`   // id of its trace, which is exported when the job has ended, where dispatchers export traces
	Tries  []WebhookTry    `json:"tries,omitempty"`   // to deliver its events to webhooks of its tenant, oldest first, at most 100
}

// WaitingRequest asks for the jobs that wait, in the order in which they are expected to start.
type WaitingRequest struct {
	Tenant Tenant `json:"tenant,omitempty"`
	After  int    `json:"after,omitempty"` // how many jobs to skip: Next of the previous answer
	Limit  int    `json:"limit,omitempty"` // the most jobs to list; 500 is the maximum and the default
}

// WaitingAnswer is a page of the jobs that wait. The order is at most some seconds old.
type WaitingAnswer struct {
	Waiting []WaitingRow `json:"waiting"`
	Of      int          `json:"of"`             // jobs of all tenants that wait
	Next    int          `json:"next,omitempty"` // the After of the next page; 0 on the last
}

// WaitingRow is a job that waits.
type WaitingRow struct {
	Place    int        `json:"place"` // among the waiting jobs of all tenants, from 1
	Job      ID         `json:"job"`
	Tenant   Tenant     `json:"tenant"`
	Priority Priority   `json:"priority"`
	Hash     Hash       `json:"hash"`
	Name     string     `json:"name,omitempty"`
	Title    string     `json:"title,omitempty"` // of its workflow
	Attempt  int        `json:"attempt"`         // the one that it waits for
	Received time.Time  `json:"received"`
	Reason   HoldReason `json:"reason,omitempty"` // why no host may take it; empty when it only waits its turn
	Text     string     `json:"text,omitempty"`
	Until    *time.Time `json:"until,omitempty"`
	ETA      *time.Time `json:"eta,omitempty"` // when it is expected to start, if that is known
}

// WorkflowsRequest asks for workflows, the one with the newest event first.
type WorkflowsRequest struct {
	Tenant Tenant `json:"tenant,omitempty"`
	Hash   Hash   `json:"hash,omitempty"`   // or its first digits
	Before uint64 `json:"before,omitempty"` // only workflows whose last event is older: Next of the previous answer
	Limit  int    `json:"limit,omitempty"`  // the most workflows to list; 500 is the maximum and the default
}

// WorkflowsAnswer is a page of workflows.
type WorkflowsAnswer struct {
	Workflows []WorkflowRow `json:"workflows"`
	Next      uint64        `json:"next,omitempty"` // the Before of the next page; 0 on the last
	Since     Mark          `json:"since"`          // jobs whose last event is older are not counted
}

// WorkflowRow is a workflow of which jobs are known. Capable, Online and Blocked are left out in answers to a tenant.
type WorkflowRow struct {
	Hash    Hash              `json:"hash"`
	Title   string            `json:"title,omitempty"`   // main model and kind of output
	Counts  map[EventKind]int `json:"counts"`            // number of its jobs by state
	RanFor  Duration          `json:"ran_for,omitempty"` // median of the last 9 runs
	Last    Mark              `json:"last"`              // its newest event
	Output  string            `json:"output,omitempty"`  // name in COMFY_OUTPUTS of the first picture of the job that completed last
	Thumb   string            `json:"thumb,omitempty"`   // of a small picture of it
	PerHour int               `json:"per_hour"`          // jobs that were completed or died in the last hour, to a third of what ended 60 to 80 minutes ago
	Capable int               `json:"capable,omitempty"`
	Online  int               `json:"online,omitempty"`
	Blocked int               `json:"blocked,omitempty"`
}

// DeadGroup is dead jobs that failed in the same way.
type DeadGroup struct {
	Signature string    `json:"signature"` // identifies the group; may be given as a condition
	Reason    Reason    `json:"reason"`
	Kind      Kind      `json:"kind,omitempty"`
	Class     string    `json:"class_type,omitempty"`
	Exception string    `json:"exception_type,omitempty"`
	Message   string    `json:"message,omitempty"` // of the newest one
	Count     int       `json:"count"`
	Tenants   []Tenant  `json:"tenants"`         // the first 20 by name
	Hosts     []string  `json:"hosts,omitempty"` // the first 20 by name
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"`
	Job       ID        `json:"job"`    // the newest one
	Tenant    Tenant    `json:"tenant"` // of Job
}
