package jetstream

import (
	"encoding/json"
	"time"

	"github.com/comfyherd/comfyherd/internal/names"
)

// StatusRequest names a job.
type StatusRequest struct {
	Tenant Tenant `json:"tenant,omitempty"`
	Job    ID     `json:"job"`
}

// JobStatus is the state of a job. State and Event are its last event. Position, Of and ETA are of a job that waits: its place
// among all jobs that wait, from 1, how many those are, and when it is expected to start; they are left out when they are unknown.
type JobStatus struct {
	Job      ID         `json:"job"`
	Tenant   Tenant     `json:"tenant"`
	State    EventKind  `json:"state"`
	Event    Event      `json:"event"`
	Position int        `json:"position,omitempty"`
	Of       int        `json:"of,omitempty"`
	ETA      *time.Time `json:"eta,omitempty"`
	Events   []EventRow `json:"events"`            // oldest first: the newest 500, or as many as an answer has room for
	Earlier  int        `json:"earlier,omitempty"` // events before these
}

// EventRow is an event as COMFY_EVENTS has stored it.
type EventRow struct {
	Sequence uint64    `json:"sequence"`
	Subject  string    `json:"subject"`
	Time     time.Time `json:"time"` // when it was stored
	Event    Event     `json:"event"`
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

// WhyRequest asks about a job (Job), or about a workflow that was not submitted (Workflow).
type WhyRequest struct {
	Tenant   Tenant          `json:"tenant,omitempty"`
	Job      ID              `json:"job,omitempty"`
	Workflow json.RawMessage `json:"workflow,omitempty"` // any of the three bodies of a job
	After    string          `json:"after,omitempty"`    // only hosts after this one, by name: Next of the previous answer
	Limit    int             `json:"limit,omitempty"`    // the most hosts to list; 500 is the maximum and the default
}

// WhyAnswer says of every host whether it may run the job, and why not.
type WhyAnswer struct {
	Job      ID            `json:"job,omitempty"`
	State    EventKind     `json:"state,omitempty"`
	Reason   HoldReason    `json:"reason,omitempty"` // why no host may take it; empty when it only waits its turn
	Text     string        `json:"text"`
	Until    *time.Time    `json:"until,omitempty"`
	Position int           `json:"position,omitempty"`
	Of       int           `json:"of,omitempty"`
	ETA      *time.Time    `json:"eta,omitempty"`
	Hosts    []HostVerdict `json:"hosts"`          // by name
	Next     string        `json:"next,omitempty"` // the After of the next page; empty on the last
}

// CancelRequest names one job (Job), one lane (Lane), or all jobs of the tenant that wait (All): exactly one of the three.
type CancelRequest struct {
	Tenant  Tenant    `json:"tenant,omitempty"`
	Job     ID        `json:"job,omitempty"`
	Lane    *Priority `json:"lane,omitempty"`    // what waits in the tenant's lane of this priority
	All     bool      `json:"all,omitempty"`     // what waits in every lane of the tenant
	Running bool      `json:"running,omitempty"` // lane and all: also what runs
	Force   bool      `json:"force,omitempty"`   // job: also an id that was not submitted yet
	By      string    `json:"by,omitempty"`      // who asks; at most 64 characters are kept
	After   uint64    `json:"after,omitempty"`   // lane and all: Next of the previous answer
	Limit   int       `json:"limit,omitempty"`   // lane and all: the most jobs to end; 500 is the maximum and the default
}

// CancelAnswer says of one job how it ended, by this cancel or before it (Job, State, Event), and of several how many this call
// has ended (Count). Several are cancelled page by page: while Next is not 0, ask again with it as After.
type CancelAnswer struct {
	Job   ID        `json:"job,omitempty"`
	State EventKind `json:"state,omitempty"`
	Event *Event    `json:"event,omitempty"`
	Count int       `json:"count"`          // jobs that this call has ended
	Next  uint64    `json:"next,omitempty"` // the After of the next page; 0 on the last
}

// DeadRequest filters dead letters; an empty field matches all. An answer that would be too large or take too long ends early:
// while its Next is not 0, ask again with it as After.
type DeadRequest struct {
	Tenant Tenant `json:"tenant,omitempty"`
	Job    ID     `json:"job,omitempty"`
	Hash   Hash   `json:"hash,omitempty"` // or its first digits
	Kind   Kind   `json:"kind,omitempty"`
	Reason Reason `json:"reason,omitempty"`
	Since  string `json:"since,omitempty"` // RFC 3339, or a Go duration back from now
	After  uint64 `json:"after,omitempty"` // only letters after this sequence of COMFY_DEAD: Next of the previous answer
	UpTo   uint64 `json:"up_to,omitempty"` // only letters up to this sequence of COMFY_DEAD
	Limit  int    `json:"limit,omitempty"` // the most letters to list; 500 is the maximum and the default

	Signature string `json:"signature,omitempty"` // of a group
	// Group lists groups instead of letters; its only value is "signature". Groups are counted from the stored events, so those of
	// jobs that died before EventsAge are not in them. Of the conditions only Tenant, Kind and Reason may be given with it.
	Group string `json:"group,omitempty"`
}

// DeadAnswer lists dead jobs by their dead events, oldest first, or groups of them, the largest first.
type DeadAnswer struct {
	Dead   []Event     `json:"dead"`
	Next   uint64      `json:"next,omitempty"` // the After of the next page; 0 on the last
	Groups []DeadGroup `json:"groups,omitempty"`
	More   int         `json:"more,omitempty"`  // groups that were left out
	Count  int         `json:"count,omitempty"` // of groups: dead jobs in all of them, also in those that were left out
	UpTo   uint64      `json:"up_to,omitempty"` // of groups: given as UpTo of a RequeueRequest, no letter is meant that was stored after they were counted
	Since  *time.Time  `json:"since,omitempty"` // of groups: given as Since of a RequeueRequest, no letter is meant that is older than they are
}

// RequeueRequest chooses dead letters as DeadRequest does. A request without any condition is refused unless All is set.
type RequeueRequest struct {
	Tenant Tenant `json:"tenant,omitempty"`
	Job    ID     `json:"job,omitempty"`
	Hash   Hash   `json:"hash,omitempty"`
	Kind   Kind   `json:"kind,omitempty"`
	Reason Reason `json:"reason,omitempty"`
	Since  string `json:"since,omitempty"`
	All    bool   `json:"all,omitempty"` // every letter there is
	After  uint64 `json:"after,omitempty"`
	UpTo   uint64 `json:"up_to,omitempty"` // only letters up to this sequence of COMFY_DEAD
	Limit  int    `json:"limit,omitempty"` // the most letters to requeue
	Again  bool   `json:"again,omitempty"` // also letters that were requeued before
	By     string `json:"by,omitempty"`    // who asks; at most 64 characters are kept

	Signature string `json:"signature,omitempty"` // of a DeadGroup

	OnlyHosts []string `json:"only_hosts,omitempty"` // names or labels: the jobs run there and nowhere else, whatever they said of hosts

	// ExtraData is a JSON object for the jobs that had an extra_data, since dead letters do not keep it. {} runs them with an
	// empty one. Without this field, jobs whose extra_data held a key are not requeued but listed in NeedExtraData.
	ExtraData json.RawMessage `json:"extra_data,omitempty"`
}

// Narrow reports whether the request has a condition.
func (r *RequeueRequest) Narrow() bool {
	return r.Tenant != "" || r.Job != "" || r.Hash != "" || r.Kind != "" || r.Reason != "" || r.Since != "" || r.Signature != ""
}

// RequeueAnswer lists the ids under which the jobs were published again.
type RequeueAnswer struct {
	Count int       `json:"count"`
	Jobs  map[ID]ID `json:"jobs"`           // dead id: new id
	Next  uint64    `json:"next,omitempty"` // the After of the next page; 0 on the last

	NeedExtraData []ID `json:"need_extra_data,omitempty"` // not requeued: they had keys in extra_data, and the request has none
}

// QueueRequest asks for lanes.
type QueueRequest struct {
	After int `json:"after,omitempty"` // how many lanes to skip: Next of the previous answer
	Limit int `json:"limit,omitempty"` // the most lanes to list; 500 is the maximum and the default
}

// QueueAnswer lists the lanes that have waiting or running jobs, in the order in which they are served.
type QueueAnswer struct {
	Lanes []LaneStat `json:"lanes"`
	Most  int64      `json:"most,omitempty"` // unfinished jobs that a lane may have; 0: any number
	Next  int        `json:"next,omitempty"` // the After of the next page; 0 on the last
}

// JobsRequest asks for jobs, the one with the newest event first; an empty field matches all. An answer may have fewer jobs than
// Limit, or none, although more match: ask again with Next as Before until Next is 0.
type JobsRequest struct {
	Tenant Tenant    `json:"tenant,omitempty"`
	State  EventKind `json:"state,omitempty"` // kind of its last event
	Hash   Hash      `json:"hash,omitempty"`  // or its first digits
	Host   string    `json:"host,omitempty"`  // where it runs, or has run last
	Kind   Kind      `json:"kind,omitempty"`  // of its last failure
	Reason string    `json:"reason,omitempty"`
	Job    ID        `json:"job,omitempty"`    // or its first letters
	Text   string    `json:"text,omitempty"`   // a part of its name, or of the first 512 bytes of its metadata; upper and lower case are the same
	Before uint64    `json:"before,omitempty"` // only jobs whose last event is older: Next of the previous answer
	Limit  int       `json:"limit,omitempty"`  // the most jobs to list, at most 500; default 100
}

// JobsAnswer is a page of jobs.
type JobsAnswer struct {
	Jobs   []JobRow          `json:"jobs"`
	Next   uint64            `json:"next,omitempty"` // the Before of the next page; 0 on the last
	Since  Mark              `json:"since"`          // jobs whose last event is older may be missing
	Counts map[EventKind]int `json:"counts"`         // number of jobs by state, of the tenant if one is asked for
}

// JobRow is a job in a list.
type JobRow struct {
	Job       ID        `json:"job"`
	Tenant    Tenant    `json:"tenant"`
	State     EventKind `json:"state"`
	Priority  Priority  `json:"priority"`
	Hash      Hash      `json:"hash,omitempty"`
	Name      string    `json:"name,omitempty"`
	Title     string    `json:"title,omitempty"` // of its workflow
	Host      string    `json:"host,omitempty"`  // where it runs, or has run last
	Attempt   int       `json:"attempt,omitempty"`
	Kind      Kind      `json:"kind,omitempty"`   // of its last failure, unless it is completed
	Reason    string    `json:"reason,omitempty"` // why it waits, or is dead
	RequeueOf ID        `json:"requeue_of,omitempty"`
	First     Mark      `json:"first"` // the oldest of its events that the dispatcher has read
	Last      Mark      `json:"last"`

	MaxAttempts int `json:"max_attempts,omitempty"` // that count before it is dead; 0: its first event is not stored any more
}

// EventsRequest asks for stored events of a tenant's jobs, oldest first.
type EventsRequest struct {
	Job   ID          `json:"job,omitempty"`   // only events of this job
	Kinds []EventKind `json:"kinds,omitempty"` // only events of these kinds
	After uint64      `json:"after,omitempty"` // only events after this sequence: Next of the previous answer
	Limit int         `json:"limit,omitempty"` // the most events to list; 500 is the maximum and the default
	Wait  Duration    `json:"wait,omitempty"`  // how long to wait for an event when there is none, at most 10s
}

// EventsAnswer is a page of events.
type EventsAnswer struct {
	Events []EventNote `json:"events"`
	Next   uint64      `json:"next"` // the After of the next page, also when End is true
	End    bool        `json:"end"`  // no further event is stored at this moment
	Made   time.Time   `json:"made"` // when COMFY_EVENTS was created; sequences begin at 1 again when it is created again
}

// EventNote is a stored event of a job, with its body as it is.
type EventNote struct {
	Sequence uint64          `json:"sequence"`
	Subject  string          `json:"subject"`
	Time     time.Time       `json:"time"` // when it was stored
	Event    json.RawMessage `json:"event,omitempty"`
	LeftOut  int             `json:"left_out,omitempty"` // size in bytes of a body that is left out: it is no JSON, or too large for an answer
}
