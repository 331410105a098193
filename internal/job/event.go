package job

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// EventKind is the last token of an event's subject.
type EventKind string

const (
	Queued    EventKind = "queued"
	Waiting   EventKind = "waiting"
	Started   EventKind = "started"
	Failed    EventKind = "failed"
	Retrying  EventKind = "retrying"
	Completed EventKind = "completed"
	Dead      EventKind = "dead"
	Cancelled EventKind = "cancelled"
)

// EventKinds lists the closed set.
func EventKinds() []EventKind {
	return []EventKind{Queued, Waiting, Started, Failed, Retrying, Completed, Dead, Cancelled}
}

// Terminal reports whether nothing can follow an event of this kind.
func (k EventKind) Terminal() bool { return k == Completed || k == Dead || k == Cancelled }

// Unseen is the reason of a cancelled event of a job that was cancelled by its id before a dispatcher had received it. The
// job may never be published.
const Unseen = "unseen"

// Event is one link of a job's chain. Fields that do not concern its kind are empty and left out of the JSON. A new field has its place in:
//
//   - event.go: here;
//   - brief.go: Brief.take, of which TestEveryFieldOfAnEventIsKnownToLists demands it;
//   - lean.go: leanMember, where its type is looked at, and Lean if it may be long;
//   - encode.go, only if every job has it;
//   - where it is set: in internal/dispatcher, or for started, completed and failed in internal/agent/report.go;
//   - docs/contract.md, whose table a test compares with the fields.
type Event struct {
	EventKind EventKind `json:"-"`

	Job       ID              `json:"job"`
	Tenant    Tenant          `json:"tenant"`
	Priority  Priority        `json:"priority"`
	Hash      workflow.Hash   `json:"hash,omitempty"`
	Host      string          `json:"host,omitempty"`
	Attempt   int             `json:"attempt,omitempty"`
	Time      time.Time       `json:"time"`
	Name      string          `json:"name,omitempty"`
	Metadata  json.RawMessage `json:"metadata,omitempty"`
	RequeueOf ID              `json:"requeue_of,omitempty"`
	Webhook   string          `json:"webhook,omitempty"` // that the job names

	Traceparent string `json:"traceparent,omitempty"` // W3C Trace Context of who has published the job

	// queued
	Sequence uint64 `json:"sequence,omitempty"`
	Position int    `json:"position,omitempty"`
	Bytes    int64  `json:"bytes,omitempty"` // of the job as published; of queued
	Title    string `json:"title,omitempty"` // of the workflow; of queued

	MaxAttempts int `json:"max_attempts,omitempty"` // that count before the job is dead; of queued

	// waiting: Reason is a route.HoldReason; dead: Reason is a failure.Reason; cancelled: Unseen or nothing
	Reason string            `json:"reason,omitempty"`
	Until  *time.Time        `json:"until,omitempty"`
	Hosts  map[string]string `json:"hosts,omitempty"`

	// started, completed
	PromptID string `json:"prompt_id,omitempty"`

	// failed; dead: the last failure
	Kind      failure.Kind `json:"kind,omitempty"`
	Message   string       `json:"message,omitempty"`
	Node      string       `json:"node,omitempty"`
	Class     string       `json:"class_type,omitempty"`
	Exception string       `json:"exception_type,omitempty"`
	Counted   *bool        `json:"counted,omitempty"`
	Size      int64        `json:"size,omitempty"`

	Cause    failure.Cause `json:"cause,omitempty"`    // host_sick: why the host can run nothing
	Progress float64       `json:"progress,omitempty"` // host_lost, host_sick: how far the node was, 0 to 1
	NodeRan  Duration      `json:"node_ran,omitempty"` // host_lost, host_sick: how long the node had run
	Waited   bool          `json:"waited,omitempty"`   // host_lost, host_sick: another prompt ran on the host
	Proven   bool          `json:"proven,omitempty"`   // host_sick, refused: the host is to blame, not this job

	// retrying
	NotBefore    *time.Time `json:"not_before,omitempty"`
	AvoidedHosts []string   `json:"avoided_hosts,omitempty"`
	AvoidUntil   *time.Time `json:"avoid_until,omitempty"` // before it they are not used even when no other host may

	// completed
	Outputs        []Output            `json:"outputs,omitempty"`
	CachedNodes    []string            `json:"cached_nodes,omitempty"`
	OutputsReused  bool                `json:"outputs_reused,omitempty"`
	OutputsMissing bool                `json:"outputs_missing,omitempty"` // no output node left anything
	Seeds          map[string]uint64   `json:"seeds,omitempty"`
	QueuedFor      Duration            `json:"queued_for,omitempty"`
	RanFor         Duration            `json:"ran_for,omitempty"`
	NodeTimes      map[string]Duration `json:"node_times,omitempty"`

	// dead
	Attempts []failure.Attempt `json:"attempts,omitempty"`

	// cancelled
	By string `json:"by,omitempty"`
}

// Output is one file or text that a job made. Object is its name in COMFY_OUTPUTS, empty when it was left on the host.
type Output struct {
	Node        string `json:"node"`
	Media       string `json:"media"`
	Filename    string `json:"filename"`
	Subfolder   string `json:"subfolder"`
	Type        string `json:"type"`
	Object      string `json:"object,omitempty"`
	Size        int64  `json:"size"`
	Digest      string `json:"digest,omitempty"`
	ContentType string `json:"content_type,omitempty"`
	Blake3      string `json:"blake3,omitempty"` // of the file, 64 hex digits
	Thumb       string `json:"thumb,omitempty"`  // name in COMFY_OUTPUTS of a small JPEG of it
	Text        string `json:"text,omitempty"`   // media text, up to 4 KiB; longer ones are in Object
}

// NewEvent fills in what every event of j has.
func (j *Job) NewEvent(kind EventKind, now time.Time) Event {
	return Event{
		EventKind: kind, Job: j.ID, Tenant: j.Tenant, Priority: j.Priority, Hash: j.Graph.Hash(),
		Time: now, Name: j.Name, Metadata: j.Metadata, RequeueOf: j.RequeueOf, Webhook: j.Webhook, Traceparent: j.Traceparent,
	}
}

// Failure is the attempt that a failed event reports.
func (e *Event) Failure() failure.Attempt {
	return failure.Attempt{
		Number: e.Attempt, Host: e.Host, Kind: e.Kind, Message: e.Message,
		Node: e.Node, Class: e.Class, Exception: e.Exception,
		Cause: e.Cause, Progress: e.Progress, NodeRan: time.Duration(e.NodeRan), Waited: e.Waited, Proven: e.Proven,
	}
}

// DecodeEvent reads a body that any program may have written: unknown fields are ignored, and a value that is impossible
// is an error.
func DecodeEvent(kind EventKind, body []byte) (Event, error) {
	e := Event{}
	if err := json.Unmarshal(body, &e); err != nil {
		return Event{}, fmt.Errorf("decode %s event: %w", kind, err)
	}
	if err := e.check(); err != nil {
		return Event{}, fmt.Errorf("decode %s event: %w", kind, err)
	}
	e.EventKind = kind
	return e, nil
}

const (
	maxCount  = 1 << 20 // attempts of a job
	maxPlaces = 1 << 40 // jobs that wait
)

// check refuses values that no process of this system writes.
func (e *Event) check() error {
	switch {
	case !e.Priority.Valid():
		return fmt.Errorf("priority %d is none of 0 to 9", e.Priority)
	case e.Hash != "" && !e.Hash.Valid():
		return fmt.Errorf("%.80q is no hash", e.Hash)
	case e.Host != "" && !ValidHost(e.Host):
		return fmt.Errorf("%.80q is no host name", e.Host)
	case e.RequeueOf != "" && !e.RequeueOf.Valid():
		return fmt.Errorf("requeue_of %.80q is no job id", e.RequeueOf)
	case e.Attempt < 0 || e.Attempt > maxCount:
		return fmt.Errorf("attempt %d is out of range", e.Attempt)
	case e.MaxAttempts < 0 || e.MaxAttempts > maxAttempts:
		return fmt.Errorf("max_attempts %d is out of range", e.MaxAttempts)
	case e.Bytes < 0:
		return fmt.Errorf("bytes %d are out of range", e.Bytes)
	case e.Position < 0 || e.Position > maxPlaces:
		return fmt.Errorf("position %d is out of range", e.Position)
	case e.Size < 0:
		return fmt.Errorf("size %d is negative", e.Size)
	case e.Progress < 0 || e.Progress > 1:
		return fmt.Errorf("progress %v is not from 0 to 1", e.Progress)
	}
	for _, o := range e.Outputs {
		if o.Size < 0 {
			return fmt.Errorf("output %.80q has size %d", o.Filename, o.Size)
		}
	}
	for _, a := range e.Attempts {
		if a.Number < 0 || a.Number > maxCount || a.Progress < 0 || a.Progress > 1 || a.Host != "" && !ValidHost(a.Host) {
			return fmt.Errorf("attempt %d on host %.80q, progress %v, cannot be", a.Number, a.Host, a.Progress)
		}
	}
	return nil
}
