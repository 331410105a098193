package comfy

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
)

// errForeignAnswer is about an answer that ComfyUI does not give, so that another program has given it.
var errForeignAnswer = errors.New("the answer is not one of ComfyUI's")

// ending is the host's record of a prompt that has ended.
type ending struct {
	produced
	interrupted bool
	raised      *raised // nil when it ended well or was interrupted
	cached      []string
	queued, ran time.Duration // by the host's clock; 0 when it does not say
	start, last time.Time     // when it began and ended, by the host's clock; zero when it does not say
	graph       json.RawMessage
}

// record is status of a history entry, execution_status of a job.
type record struct {
	Status   text                `json:"status_str"`
	Messages [][]json.RawMessage `json:"messages"`
}

// readJob reads the answer of GET /api/jobs/{id}; Unknown when it makes no sense.
func readJob(body []byte) (PromptState, *ending) {
	var job struct {
		Status  text                       `json:"status"`
		Create  number                     `json:"create_time"`
		Error   *raised                    `json:"execution_error"`
		Outputs map[string]json.RawMessage `json:"outputs"`
		Record  record                     `json:"execution_status"`
		Given   struct {
			Prompt json.RawMessage `json:"prompt"`
		} `json:"workflow"`
	}
	if decode(body, &job) != nil {
		return Unknown, nil
	}
	switch job.Status {
	case "pending":
		return Pending, nil
	case "in_progress":
		return Running, nil
	case "completed", "failed", "cancelled":
	default:
		return Unknown, nil
	}
	e := job.Record.ending(float64(job.Create))
	e.produced, e.graph = readOutputs(job.Outputs), job.Given.Prompt
	e.interrupted = job.Status == "cancelled"
	if job.Status != "failed" {
		e.raised = nil
	} else if job.Error != nil {
		e.raised = job.Error
	} else if e.raised == nil {
		e.raised = &raised{Message: "the prompt failed and ComfyUI does not say why"}
	}
	return Ended, e
}

// readHistory reads the answer of GET /history/{id}; nil when id is not in it.
func readHistory(body []byte, id string) (*ending, error) {
	var entries map[string]struct {
		Prompt  []json.RawMessage          `json:"prompt"`
		Outputs map[string]json.RawMessage `json:"outputs"`
		Record  record                     `json:"status"`
	}
	if err := decode(body, &entries); err != nil {
		return nil, fmt.Errorf("read /history: %w: %w", errForeignAnswer, err)
	}
	entry, known := entries[id]
	if !known {
		return nil, nil
	}
	var extra struct {
		Create number `json:"create_time"`
	}
	if len(entry.Prompt) > 3 {
		_ = decode(entry.Prompt[3], &extra) // it is JSON, and has no time on old servers
	}
	e := entry.Record.ending(float64(extra.Create))
	e.produced = readOutputs(entry.Outputs)
	if len(entry.Prompt) > 2 {
		e.graph = entry.Prompt[2]
	}
	if entry.Record.Status == "error" && e.raised == nil && !e.interrupted {
		e.raised = &raised{Message: "the prompt failed and ComfyUI does not say why"}
	}
	if entry.Record.Status == "success" {
		e.raised, e.interrupted = nil, false
	}
	return e, nil
}

// ending reads the messages that a prompt left; created is in milliseconds.
func (r record) ending(created float64) *ending {
	e := &ending{}
	var start, last float64
	for _, message := range r.Messages {
		if len(message) < 2 {
			continue
		}
		var kind text
		var d struct {
			Time  number `json:"timestamp"`
			Nodes texts  `json:"nodes"`
		}
		_, _ = decode(message[0], &kind), decode(message[1], &d) // both are JSON, and those of another form say nothing
		switch kind {
		case "execution_start":
			start = float64(d.Time)
		case "execution_cached":
			e.cached = d.Nodes
		case "execution_success":
			last = float64(d.Time)
		case "execution_interrupted":
			last, e.interrupted = float64(d.Time), true
		case "execution_error":
			var raise raised
			if _ = decode(message[1], &raise); !raise.blocked() {
				last, e.raised = float64(d.Time), &raise
			}
		}
	}
	e.queued, e.ran = between(created, start), between(start, last)
	e.start, e.last = moment(start), moment(last)
	return e
}

// between is the time between two timestamps in milliseconds, 0 when one is
// missing or they are out of order.
func between(from, to float64) time.Duration {
	if from <= 0 || to < from || to-from > 1e12 {
		return 0
	}
	return time.Duration((to - from) * float64(time.Millisecond))
}

// moment is a timestamp in milliseconds as a time.
func moment(milliseconds float64) time.Time {
	if milliseconds <= 0 || milliseconds > 1e15 {
		return time.Time{}
	}
	return time.UnixMilli(int64(milliseconds))
}

func (e *ending) failure() *failure.Failure {
	switch {
	case e.raised != nil:
		return e.raised.failure()
	case e.interrupted:
		return failure.New(failure.Interrupted, "the prompt was interrupted in ComfyUI by somebody else")
	}
	return nil
}

// reused says that a file comes from an earlier prompt: its node was not run.
func (e *ending) reused() bool {
	return slices.ContainsFunc(e.files, func(o Output) bool { return slices.Contains(e.cached, o.Node) })
}
