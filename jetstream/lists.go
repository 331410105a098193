package jetstream

import (
	"encoding/json"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// JobsRequest asks for jobs, the one with the newest event first; what is empty is not asked for. An answer may have fewer
// jobs than asked for, and none at all, before all have been looked through: ask again with Before until Next is 0.
type JobsRequest struct {
	Tenant job.Tenant    `json:"tenant,omitempty"`
	State  job.EventKind `json:"state,omitempty"` // kind of its last event
	Hash   workflow.Hash `json:"hash,omitempty"`  // or its first digits
	Host   string        `json:"host,omitempty"`  // where it runs, or has run last
	Kind   failure.Kind  `json:"kind,omitempty"`  // of its last failure
	Reason string        `json:"reason,omitempty"`
	Job    job.ID        `json:"job,omitempty"`    // or its first letters
	Before uint64        `json:"before,omitempty"` // only jobs whose last event is older; Next of the answer before
	Limit  int           `json:"limit,omitempty"`  // at most so many, which is 500 or less; default 100
}

// JobsAnswer is a page of jobs.
type JobsAnswer struct {
	Jobs   []JobRow              `json:"jobs"`
	Next   uint64                `json:"next,omitempty"` // where to go on, as Before; 0: this was all
	Since  Mark                  `json:"since"`          // jobs whose last event is older may be missing
	Counts map[job.EventKind]int `json:"counts"`         // all jobs that are known, of the tenant if one is asked for
}

// JobRow is a job in a list.
type JobRow struct {
	Job       job.ID        `json:"job"`
	Tenant    job.Tenant    `json:"tenant"`
	State     job.EventKind `json:"state"`
	Priority  job.Priority  `json:"priority"`
	Hash      workflow.Hash `json:"hash,omitempty"`
	Host      string        `json:"host,omitempty"` // where it runs, or has run last
	Attempt   int           `json:"attempt,omitempty"`
	Kind      failure.Kind  `json:"kind,omitempty"`   // of its last failure, unless it is completed
	Reason    string        `json:"reason,omitempty"` // why it waits, or is dead
	RequeueOf job.ID        `json:"requeue_of,omitempty"`
	First     Mark          `json:"first"` // its first event that is known
	Last      Mark          `json:"last"`
}

// Mark is a place in the stream of events.
type Mark struct {
	Sequence uint64    `json:"sequence"`
	Time     time.Time `json:"time"` // when it was stored
}

// EventsRequest asks for stored events of a tenant's jobs, oldest first.
type EventsRequest struct {
	Job   job.ID          `json:"job,omitempty"`   // only of this one
	Kinds []job.EventKind `json:"kinds,omitempty"` // only these
	After uint64          `json:"after,omitempty"` // only events behind this sequence; Next of the answer before
	Limit int             `json:"limit,omitempty"` // at most so many, which is 500 or less; default 500
	Wait  job.Duration    `json:"wait,omitempty"`  // how long to wait for one when there is none, at most 10s
}

// EventsAnswer is a page of events.
type EventsAnswer struct {
	Events []EventNote `json:"events"`
	Next   uint64      `json:"next"` // where to go on, as After; also when this was all
	End    bool        `json:"end"`  // no more are stored at this moment
	Made   time.Time   `json:"made"` // when the stream was made; in another one sequences begin anew
}

// EventNote is a stored event of a job, with its body as it is.
type EventNote struct {
	Sequence uint64          `json:"sequence"`
	Subject  string          `json:"subject"`
	Time     time.Time       `json:"time"` // when it was stored
	Event    json.RawMessage `json:"event,omitempty"`
	LeftOut  int             `json:"left_out,omitempty"` // bytes of a body that is no JSON, or too large for an answer
}
