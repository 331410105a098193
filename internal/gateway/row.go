package gateway

import (
	"encoding/json"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
)

// Row is a job as its events have left it.
type Row struct {
	Job      job.ID
	State    job.EventKind // kind of the last event; empty: the job is stored, and no dispatcher has read it yet
	Priority job.Priority
	Sequence uint64    // in COMFY_JOBS: jobs that were submitted later have a higher one
	Created  time.Time // when the job was stored
	Started  time.Time // of the last attempt; zero: none has started
	Host     string    // of the last attempt
	Attempt  int       // number of the last attempt that has started

	Metadata   json.RawMessage // as its publisher wrote it
	Submission Submission      // what a gateway wrote into it

	Last *job.Event // the last event, nil when there is none; it is never changed
	Mark uint64     // the last event's sequence in COMFY_EVENTS
	Time time.Time  // when the last event was stored
}

// Ended reports whether the job has ended.
func (r *Row) Ended() bool { return r.State.Terminal() }

// Begun reports whether an attempt has started. A job that waits for its next attempt stays begun.
func (r *Row) Begun() bool { return r.Attempt > 0 }

// Submission is what a client sends with a job and reads back later. A gateway stores it in the job's metadata, so that every event
// has it and every gateway can answer.
type Submission struct {
	ClientID string   `json:"client_id,omitempty"` // of the websockets that receive the job's frames
	Created  int64    `json:"create_time,omitempty"`
	Number   *float64 `json:"number,omitempty"` // ComfyUI's number, when the client chose one
	Front    bool     `json:"front,omitempty"`  // before all others: the number is negative

	WorkflowID string `json:"workflow_id,omitempty"` // of the workflow in ComfyUI's page

	Outputs []string          `json:"outputs,omitempty"` // the output nodes that run
	Labels  map[string]string `json:"labels,omitempty"`  // of the Comfy API v2
}

// number is ComfyUI's number of a job: the sequence in COMFY_JOBS, so that it rises and is equal on every gateway.
func (r *Row) number() any {
	switch s := &r.Submission; {
	case s.Number != nil:
		return pythonFloat(*s.Number)
	case s.Front:
		return -int64(r.Sequence)
	}
	return r.Sequence
}

// order is the number as ComfyUI sorts its queue.
func (r *Row) order() float64 {
	switch s := &r.Submission; {
	case s.Number != nil:
		return *s.Number
	case s.Front:
		return -float64(r.Sequence)
	}
	return float64(r.Sequence)
}

// createTime is when the client submitted the job, in ms.
func (r *Row) createTime() int64 {
	if r.Submission.Created != 0 {
		return r.Submission.Created
	}
	return r.Created.UnixMilli()
}

// metadataOf is the metadata of a job with a submission.
func metadataOf(s *Submission) (json.RawMessage, error) {
	return json.Marshal(struct {
		Gateway *Submission `json:"gateway"`
	}{s})
}

// Metadata is the metadata of a job that is published over NATS as a gateway would publish it for a client.
func Metadata(s Submission) (json.RawMessage, error) { return metadataOf(&s) }

// submissionOf reads what a gateway wrote into a job's metadata; empty when another program has published the job.
func submissionOf(metadata json.RawMessage) Submission {
	var m struct {
		Gateway Submission `json:"gateway"`
	}
	if len(metadata) == 0 || json.Unmarshal(metadata, &m) != nil {
		return Submission{}
	}
	return m.Gateway
}

// storedRow is the row of a job that is stored and has no event; false when it is no job, which a dispatcher ends as dead.
func storedRow(m *job.Message) (Row, bool) {
	id := job.ID(m.JobIDHeader)
	spec, err := job.ParseSpec(m.Body)
	if err != nil {
		return Row{}, false
	}
	if id == "" {
		whole, err := job.Parse(*m)
		if err != nil {
			return Row{}, false
		}
		id = whole.ID
	}
	metadata := append(json.RawMessage(nil), spec.Metadata...)
	return Row{
		Job: id, Priority: m.Priority, Sequence: m.Sequence, Created: m.Received, Time: m.Received,
		Metadata: metadata, Submission: submissionOf(metadata),
	}, true
}

// with is the row after one more event, which was stored at a time with a sequence.
func (r Row) with(e *job.Event, sequence uint64, stored time.Time) Row {
	if r.Last == nil && r.Created.IsZero() {
		r.Created = stored
	}
	if len(e.Metadata) > 0 && len(r.Metadata) == 0 {
		r.Metadata, r.Submission = e.Metadata, submissionOf(e.Metadata)
	}
	r.Job, r.State, r.Priority, r.Last, r.Mark, r.Time = e.Job, e.EventKind, e.Priority, e, sequence, stored
	if e.EventKind == job.Queued && e.Sequence != 0 {
		r.Sequence = e.Sequence
	}
	if e.EventKind == job.Started {
		r.Started, r.Host, r.Attempt = stored, e.Host, max(1, e.Attempt)
	}
	return r
}
