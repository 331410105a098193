package jetstream

import (
	"encoding/json"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
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

// JobStatus is where a job stands: its last event, its place when it waits, and what has become of it so far.
type JobStatus struct {
	Job      job.ID        `json:"job"`
	Tenant   job.Tenant    `json:"tenant"`
	State    job.EventKind `json:"state"`
	Event    job.Event     `json:"event"`
	Position int           `json:"position,omitempty"`
	Of       int           `json:"of,omitempty"`
	ETA      *time.Time    `json:"eta,omitempty"`
	Events   []EventRow    `json:"events"`            // oldest first: the newest 500, or as many as an answer has room for
	Earlier  int           `json:"earlier,omitempty"` // events before these
}

// EventRow is an event as COMFY_EVENTS has stored it.
type EventRow struct {
	Sequence uint64    `json:"sequence"`
	Subject  string    `json:"subject"`
	Time     time.Time `json:"time"` // when it was stored
	Event    job.Event `json:"event"`
}

// UnmarshalJSON reads a row; the event's kind is the end of the subject.
func (r *EventRow) UnmarshalJSON(body []byte) error {
	type bare EventRow
	if err := json.Unmarshal(body, (*bare)(r)); err != nil {
		return err
	}
	_, _, r.Event.EventKind, _ = names.SplitEventSubject(r.Subject)
	return nil
}

// WhyRequest asks about a job, or about a workflow that is not submitted.
type WhyRequest struct {
	Tenant   job.Tenant      `json:"tenant,omitempty"`
	Job      job.ID          `json:"job,omitempty"`
	Workflow json.RawMessage `json:"workflow,omitempty"` // any of the three bodies of a job
	After    string          `json:"after,omitempty"`    // only hosts behind this one; Next of the answer before
	Limit    int             `json:"limit,omitempty"`    // at most so many hosts, and never more than 500
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
	Hosts    []HostVerdict    `json:"hosts"`          // by name
	Next     string           `json:"next,omitempty"` // more follow behind this one; empty at the end
}

// CancelRequest names a job, or a lane, or everything of a tenant that waits: one of the three.
type CancelRequest struct {
	Tenant  job.Tenant    `json:"tenant,omitempty"`
	Job     job.ID        `json:"job,omitempty"`
	Lane    *job.Priority `json:"lane,omitempty"`    // what waits in the tenant's lane of this priority
	All     bool          `json:"all,omitempty"`     // what waits in every lane of the tenant
	Running bool          `json:"running,omitempty"` // lane and all: also what runs
	Force   bool          `json:"force,omitempty"`   // job: also an id that was never seen
	By      string        `json:"by,omitempty"`      // who asks; at most 64 characters are kept
	After   uint64        `json:"after,omitempty"`   // lane and all: Next of the answer before
	Limit   int           `json:"limit,omitempty"`   // lane and all: at most so many jobs, and never more than 500
}

// CancelAnswer tells of one job how it ended, by this cancel or before it, and of several how many it has ended. Those
// are cancelled page by page: while there is a Next, ask again with it as After.
type CancelAnswer struct {
	Job   job.ID        `json:"job,omitempty"`
	State job.EventKind `json:"state,omitempty"`
	Event *job.Event    `json:"event,omitempty"`
	Count int           `json:"count"`          // jobs that this call has ended
	Next  uint64        `json:"next,omitempty"` // more may follow behind it; 0 at the end
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
	UpTo   uint64         `json:"up_to,omitempty"` // only letters up to this sequence of COMFY_DEAD
	Limit  int            `json:"limit,omitempty"` // at most so many, and never more than 500
}

// DeadAnswer lists dead jobs by their dead events.
type DeadAnswer struct {
	Dead []job.Event `json:"dead"`
	Next uint64      `json:"next,omitempty"` // more may follow behind it; 0 at the end
}

// RequeueRequest chooses dead letters as DeadRequest does. One without any condition is refused unless it says All.
type RequeueRequest struct {
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
	Again  bool           `json:"again,omitempty"` // also letters that were requeued before
	By     string         `json:"by,omitempty"`    // who asks; at most 64 characters are kept

	// For the jobs that had an extra_data, which letters do not keep. {} runs them without; left out, those that had keys in
	// it are left out too.
	ExtraData json.RawMessage `json:"extra_data,omitempty"`
}

// Narrow reports whether the request has a condition.
func (r *RequeueRequest) Narrow() bool {
	return r.Tenant != "" || r.Job != "" || r.Hash != "" || r.Kind != "" || r.Reason != "" || r.Since != ""
}

// RequeueAnswer lists the ids under which the jobs were published again.
type RequeueAnswer struct {
	Count int               `json:"count"`
	Jobs  map[job.ID]job.ID `json:"jobs"`           // dead id: new id
	Next  uint64            `json:"next,omitempty"` // more may follow behind it; 0 at the end

	NeedExtraData []job.ID `json:"need_extra_data,omitempty"` // left out, since they had keys in it and none was given
}

// QueueRequest asks for lanes.
type QueueRequest struct {
	After int `json:"after,omitempty"` // lanes to leave out; Next of the answer before
	Limit int `json:"limit,omitempty"` // at most so many, and never more than 500
}

// QueueAnswer lists the lanes that have waiting or running jobs, in the order in which they are served.
type QueueAnswer struct {
	Lanes []LaneStat `json:"lanes"`
	Next  int        `json:"next,omitempty"` // more follow behind so many; 0 at the end
}

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
