package gateway

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

// prompt is what a client sends to POST /prompt.
type prompt struct {
	body       []byte // as it came
	id         job.ID // empty: the client leaves it to us
	graph      json.RawMessage
	spec       job.Spec          // the job, but for what this gateway adds
	extra      json.RawMessage   // extra_data; empty: none
	targets    []string          // partial_execution_targets; nil: all
	keys       jetstream.APIKeys // that were in extra_data
	submission Submission
}

// refusedPrompt is why a prompt is not taken, in ComfyUI's words.
type refusedPrompt struct {
	failure promptFailure
}

func (e *refusedPrompt) Error() string {
	return e.failure.Error.Message + ": " + e.failure.Error.Details
}

func refusePrompt(kind, message, details string, extra any) error {
	if extra == nil {
		extra = struct{}{}
	}
	return &refusedPrompt{promptFailure{
		Error: promptError{Type: kind, Message: message, Details: details, ExtraInfo: extra}, NodeErrors: struct{}{},
	}}
}

// malformed is the answer to requests that ComfyUI itself answers with 500 and no text.
func malformed(text string) error { return &failed{http.StatusBadRequest, "invalid_prompt", text} }

// promptFields are the members of the body, each as it came.
type promptFields struct {
	Prompt   json.RawMessage `json:"prompt"`
	ID       json.RawMessage `json:"prompt_id"`
	Number   json.RawMessage `json:"number"`
	Front    json.RawMessage `json:"front"`
	ClientID json.RawMessage `json:"client_id"`
	Extra    json.RawMessage `json:"extra_data"`
	Targets  json.RawMessage `json:"partial_execution_targets"`
}

// readPrompt reads the body of POST /prompt. The graph is not looked into.
func readPrompt(body []byte) (*prompt, error) {
	var fields promptFields
	if err := decode(body, &fields); err != nil || !strings.HasPrefix(strings.TrimSpace(string(body[:min(len(body), 64)])), "{") {
		if json.Valid(plainJSON(body)) {
			return nil, refusePrompt("no_prompt", "No prompt provided", "No prompt provided", nil)
		}
		return nil, malformed("the body of POST /prompt is no JSON: send {\"prompt\": {…}} with a workflow in API format")
	}
	if len(fields.Prompt) == 0 {
		return nil, refusePrompt("no_prompt", "No prompt provided", "No prompt provided", nil)
	}
	p := &prompt{body: body}
	for _, read := range []func(*promptFields) error{p.readID, p.readNumber, p.readExtra, p.readClient, p.readTargets} {
		if err := read(&fields); err != nil {
			return nil, err
		}
	}
	spec, err := job.ParseSpec(body)
	if err != nil {
		return nil, malformed(err.Error())
	}
	p.graph = spec.Workflow
	p.spec = job.Spec{ // what a client may say of its job beyond ComfyUI's fields
		Workflow: spec.Workflow, MaxAttempts: spec.MaxAttempts, RetryDelay: spec.RetryDelay, PreferHosts: spec.PreferHosts,
		OnlyHosts: spec.OnlyHosts, ExcludeHosts: spec.ExcludeHosts, Timeouts: spec.Timeouts, RunAt: spec.RunAt, ExpiresIn: spec.ExpiresIn,
	}
	return p, nil
}

func (p *prompt) readID(f *promptFields) error {
	if !present(f.ID) {
		return nil
	}
	var id string
	if json.Unmarshal(f.ID, &id) == nil {
		if parsed, err := uuid.Parse(id); err == nil && parsed.String() == id {
			p.id = job.ID(id)
			return nil
		}
	}
	return refusePrompt("invalid_prompt_id", "prompt_id must be a valid UUID", "prompt_id must be a canonical lowercase UUID with hyphens, not "+string(f.ID[:min(len(f.ID), 100)]), nil)
}

// readNumber reads where in the queue the client wants the prompt. ComfyUI also takes a number in a string.
func (p *prompt) readNumber(f *promptFields) error {
	if len(f.Number) == 0 {
		var front any
		if present(f.Front) && json.Unmarshal(f.Front, &front) == nil {
			p.submission.Front = front != false && front != float64(0) && front != ""
		}
		return nil
	}
	number, err := strconv.ParseFloat(strings.Trim(string(f.Number), `" `), 64)
	if err != nil || number != number || number > 1e300 || number < -1e300 {
		return malformed("the field number must be a number, or be left out")
	}
	p.submission.Number = &number
	return nil
}

func (p *prompt) readExtra(f *promptFields) error {
	if len(f.Extra) == 0 {
		return nil
	}
	var extra map[string]json.RawMessage
	if !present(f.Extra) || json.Unmarshal(f.Extra, &extra) != nil {
		return malformed("the field extra_data must be an object, or be left out")
	}
	if info, given := extra["extra_pnginfo"]; given && !present(info) {
		delete(extra, "extra_pnginfo") // a ComfyUI that takes null there cannot list its jobs any more
	}
	var info struct {
		Workflow struct {
			ID string `json:"id"`
		} `json:"workflow"`
	}
	if json.Unmarshal(extra["extra_pnginfo"], &info) == nil && len(info.Workflow.ID) <= longestClientID {
		p.submission.WorkflowID = info.Workflow.ID
	}
	if p.submission.ClientID == "" && len(extra["client_id"]) > 0 {
		f.ClientID = firstPresent(f.ClientID, extra["client_id"])
	}
	delete(extra, "client_id")           // in ComfyUI the agent's own client_id is used
	_ = json.Unmarshal(f.Extra, &p.keys) // a key that is not a string is ignored
	for _, secret := range secretMembers {
		delete(extra, secret)
	}
	p.extra = encode(extra)
	if len(extra) == 0 {
		p.extra = nil
	}
	return nil
}

func firstPresent(a, b json.RawMessage) json.RawMessage {
	if present(a) {
		return a
	}
	return b
}

// readClient reads the id of the websocket that receives the frames. ComfyUI's process ends when the id is neither a string nor a
// number.
func (p *prompt) readClient(f *promptFields) error {
	if !present(f.ClientID) {
		return nil
	}
	var id string
	switch raw := string(f.ClientID); {
	case json.Unmarshal(f.ClientID, &id) == nil:
	case raw[0] != '{' && raw[0] != '[':
		id = raw
	default:
		return malformed("the field client_id must be a string: send the one with which the websocket was opened")
	}
	if len(id) > longestClientID {
		return malformed("client_id is too long: send at most 256 characters")
	}
	p.submission.ClientID = id
	return nil
}

const longestClientID = 256

func (p *prompt) readTargets(f *promptFields) error {
	if !present(f.Targets) {
		return nil
	}
	if json.Unmarshal(f.Targets, &p.targets) != nil {
		return malformed("partial_execution_targets is no list of node ids")
	}
	if len(p.targets) == 0 {
		return refusePrompt("prompt_no_outputs", "Prompt has no outputs", "", nil)
	}
	return nil
}

func (p *prompt) withKeys() bool { return p.keys.APIKey != "" || p.keys.AuthToken != "" }

// secretMembers are the members of extra_data that ComfyUI passes on to nodes and never shows.
var secretMembers = []string{"auth_token_comfy_org", "api_key_comfy_org"}

// shownExtra is the extra_data as ComfyUI shows it in its queue and history: without secrets, with the client's id and the time.
func shownExtra(extra json.RawMessage, s *Submission) json.RawMessage {
	shown := map[string]any{}
	var given map[string]json.RawMessage
	if len(extra) > 0 && decode(extra, &given) == nil {
		for name, value := range given {
			shown[name] = value
		}
	}
	for _, secret := range secretMembers {
		delete(shown, secret)
	}
	if s.ClientID != "" {
		shown["client_id"] = s.ClientID
	}
	if s.Created != 0 {
		shown["create_time"] = s.Created
	}
	return encode(shown)
}
