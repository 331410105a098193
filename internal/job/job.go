package job

import (
	"encoding/json"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// Spec is a job as its publisher wishes it: the envelope of the contract, or what the two shorter bodies imply.
type Spec struct {
	ID             ID              `json:"id,omitempty"`
	Name           string          `json:"name,omitempty"`
	Workflow       json.RawMessage `json:"workflow"`
	WorkflowFile   string          `json:"workflow_file,omitempty"` // name in COMFY_INPUTS of the job's body, in place of Workflow
	MaxAttempts    int             `json:"max_attempts,omitempty"`
	RetryDelay     Duration        `json:"retry_delay,omitempty"`
	PreferHosts    []string        `json:"prefer_hosts,omitempty"`
	OnlyHosts      []string        `json:"only_hosts,omitempty"`
	ExcludeHosts   []string        `json:"exclude_hosts,omitempty"`
	IncludeOutputs []string        `json:"include_outputs,omitempty"`
	Inputs         []Input         `json:"inputs,omitempty"`
	Timeouts       *Timeouts       `json:"timeouts,omitempty"`
	RunAt          *time.Time      `json:"run_at,omitempty"`
	ExpiresIn      Duration        `json:"expires_in,omitempty"`
	Metadata       json.RawMessage `json:"metadata,omitempty"`
	ExtraData      json.RawMessage `json:"extra_data,omitempty"`
	Live           string          `json:"live,omitempty"`     // LiveFrames or empty
	Record         bool            `json:"record,omitempty"`   // the run's entry in ComfyUI's history is stored
	APIKeys        bool            `json:"api_keys,omitempty"` // keys were given to the fleet for it, and become members of ExtraData
	Webhook        string          `json:"webhook,omitempty"`  // name of a webhook of its tenant that receives its events
	Traceparent    string          `json:"-"`                  // W3C Trace Context of who publishes the job; travels in the message's header
}

// LiveFrames, as Live, asks the agent to relay what ComfyUI sends about the run over its websocket.
const LiveFrames = "frames"

// Frames reports whether the messages of ComfyUI are relayed.
func (s *Spec) Frames() bool { return s.Live == LiveFrames }

// Recorded reports whether the run's entry in ComfyUI's history is stored. A program that follows the messages needs it too, since
// messages may be lost and the entry has what they said.
func (s *Spec) Recorded() bool { return s.Record || s.Frames() }

// Input is a file that must lie beside ComfyUI before the workflow runs. Exactly one of Object (a name in
// COMFY_INPUTS, beginning with the tenant's name) and URL (http, https or data) says where it comes from.
type Input struct {
	Node     string `json:"node"`
	Input    string `json:"input"`
	Object   string `json:"object,omitempty"`
	URL      string `json:"url,omitempty"`
	Filename string `json:"filename,omitempty"`
}

// Timeouts bound a run; nil means the agent's default and "0s" means none.
type Timeouts struct {
	Start *Duration `json:"start,omitempty"`
	Node  *Duration `json:"node,omitempty"`
	Total *Duration `json:"total,omitempty"`
}

// Job is a valid job with its place in the queue.
type Job struct {
	Spec
	ID        ID
	Tenant    Tenant
	Priority  Priority
	Sequence  uint64    // in COMFY_JOBS
	Received  time.Time // when COMFY_JOBS stored it
	RequeueOf ID
	Graph     *workflow.Graph
}

// Policy is what the job asks for after a failure.
func (j *Job) Policy() failure.Policy {
	return failure.Policy{MaxAttempts: j.MaxAttempts, RetryDelay: time.Duration(j.RetryDelay)}
}

// Options are the values of the job's workflow that a host may lack. Inputs that
// the job's files replace are left out.
func (j *Job) Options() workflow.Options {
	options := j.Graph.Options()
	for _, in := range j.Inputs {
		options = options.Without(in.Node, in.Input)
	}
	return options
}

// NotBefore is when the job may start, its run_at; the zero time means at once. Its ticket becomes due then (Room in
// internal/route/timers.go).
func (j *Job) NotBefore() time.Time {
	if j.RunAt == nil {
		return time.Time{}
	}
	return *j.RunAt
}

// Expires is when a job that no host has accepted is dead; the zero time means never.
func (j *Job) Expires() time.Time {
	if j.ExpiresIn == 0 {
		return time.Time{}
	}
	return j.Received.Add(time.Duration(j.ExpiresIn))
}

// Message is a published job that was not parsed yet.
type Message struct {
	Tenant        string
	Priority      Priority
	Sequence      uint64
	Received      time.Time
	StreamCreated time.Time
	JobIDHeader   string // Comfy-Job-Id
	MsgIDHeader   string // Nats-Msg-Id
	RequeueOf     string // Comfy-Requeue-Of
	Traceparent   string // traceparent
	Body          []byte
	File          []byte // what the file has that Body names; nil: it was not read
}

// GeneratedID is the id that the system gives to this message when it has none.
func (m *Message) GeneratedID() ID { return GeneratedID(m.StreamCreated, m.Sequence) }
