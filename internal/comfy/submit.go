package comfy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
)

const (
	// submitTimeout bounds one POST of a prompt. Validation takes milliseconds; a prompt whose answer is slower is looked
	// up meanwhile.
	submitTimeout = 60 * time.Second
	// fenceTimeout bounds the cancelling of a prompt that was accepted in part.
	fenceTimeout = 10 * time.Second
)

// submitted is how a POST ended: accepted under id, or a failure.
type submitted struct {
	id      string
	failure *failure.Failure
	unsure  bool // the prompt may still arrive at the host
}

// submitBody builds the body of POST /prompt. The workflow's bytes are copied as they are. Two members of extra_data are
// left out, since they harm the host: client_id (an object there ends the process) and extra_pnginfo: null (every GET
// /api/jobs fails).
func submitBody(p Prompt, clientID string) ([]byte, error) {
	extra := map[string]json.RawMessage{}
	if len(bytes.TrimSpace(p.ExtraData)) > 0 {
		if err := json.Unmarshal(p.ExtraData, &extra); err != nil || extra == nil {
			return nil, errors.New("extra_data must be a JSON object")
		}
	}
	delete(extra, "client_id")
	if string(bytes.TrimSpace(extra["extra_pnginfo"])) == "null" {
		delete(extra, "extra_pnginfo")
	}
	if trimmed := bytes.TrimSpace(p.Workflow); len(trimmed) == 0 || trimmed[0] != '{' || !valid(trimmed) {
		return nil, errors.New("the workflow must be a JSON object in API format")
	}
	rest, _ := json.Marshal(struct { // of texts, and of what was read from JSON
		ID      string                     `json:"prompt_id"`
		Client  string                     `json:"client_id"`
		Extra   map[string]json.RawMessage `json:"extra_data,omitempty"`
		Targets []string                   `json:"partial_execution_targets,omitempty"`
	}{p.ID, clientID, extra, p.Targets})
	body := make([]byte, 0, len(p.Workflow)+len(rest)+16)
	body = append(append(body, `{"prompt":`...), p.Workflow...)
	return append(append(body, ','), rest[1:]...), nil
}

// submit posts a prompt. Order of effects: POST; when its answer is lost or comes from a proxy, look the id up until ComfyUI
// has answered four times that it has no such prompt. Then, if the connection broke (a POST that timed out may still be
// queued) and the process is the same (the prompt may have ended the old one), POST once more. After a crash in between,
// a Run with Resume looks the prompt up and posts nothing.
func (h *Host) submit(ctx context.Context, t *tracker, body []byte) submitted {
	h.submitBegins(t.id)
	s := h.trySubmit(ctx, t, body)
	if !s.unsure {
		h.submitKnown(t.id)
	}
	return s
}

func (h *Host) trySubmit(ctx context.Context, t *tracker, body []byte) submitted {
	id, drops := t.id, h.drops()
	for attempt := 1; ; attempt++ {
		got, err := h.postPrompt(ctx, body)
		if ctx.Err() != nil {
			return submitted{unsure: true, failure: failure.New(failure.Lost, "stopped while the prompt was sent")}
		}
		if unconnected(err) {
			return submitted{failure: unsent(err)}
		}
		if err == nil {
			if s, decided := h.readSubmitAnswer(ctx, t, got); decided {
				return s
			}
			err = fmt.Errorf("HTTP %d instead of ComfyUI's answer", got.status)
		}
		known, failed := h.findLostSubmit(ctx, id)
		switch {
		case failed != nil:
			return submitted{unsure: true, failure: failed}
		case known:
			return submitted{id: id}
		case h.drops() != drops || t.seen():
			return submitted{failure: failure.New(failure.HostLost, "ComfyUI died or was restarted while the prompt was sent")}
		case attempt > 1 || isTimeout(err) || got.status == http.StatusGatewayTimeout:
			return submitted{unsure: true, failure: failure.New(failure.HostLost, "ComfyUI did not answer the submit and does not have the prompt: "+why(err))}
		}
		h.log.Warn("a submit was lost on the way to ComfyUI; sending it again", "prompt", id, "error", why(err))
	}
}

func (h *Host) postPrompt(ctx context.Context, body []byte) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, submitTimeout)
	defer cancel()
	return h.call(ctx, http.MethodPost, "/prompt", nil, body, largeAnswer)
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

// findLostSubmit finds out whether a prompt whose POST had no answer is on the host.
func (h *Host) findLostSubmit(ctx context.Context, id string) (known bool, failed *failure.Failure) {
	wait := 50 * time.Millisecond
	foreignAnswers := 0
	for unknown := 0; unknown < 4; {
		if !pause(ctx, wait) {
			return false, failure.New(failure.Lost, "stopped while a lost submit was looked up")
		}
		wait = min(2*wait, time.Second)
		state, err := h.Find(ctx, id)
		switch {
		case refused(err):
			return false, failure.New(failure.HostLost, "the connection broke while the prompt was sent, and ComfyUI is gone: "+why(err))
		case foreignAnswer(err):
			if foreignAnswers++; foreignAnswers > mostForeignAnswers {
				return false, notComfyUI(err)
			}
			wait = time.Second // a proxy may bound how often it is asked
		case err != nil:
		case state != Unknown:
			return true, nil
		default:
			unknown, foreignAnswers = unknown+1, 0
		}
	}
	return false, nil
}

// unsent is the failure of a submit that could not connect, which is not the job's fault: ComfyUI does not run, or this
// machine has no network.
func unsent(err error) *failure.Failure {
	message := "cannot connect to ComfyUI, nothing was sent: " + why(err)
	if refused(err) {
		return &failure.Failure{Kind: failure.HostLost, Message: message, Proven: true}
	}
	return failure.New(failure.RejectedBusy, message+"; look at this machine's network, names and open files if the host is up")
}

// tooLarge is the exception type of a refusal for its size.
const tooLarge = "too_large"

// readSubmitAnswer reads the answer to a POST. decided is false when the answer may be from a proxy, behind which ComfyUI may
// have accepted the prompt.
func (h *Host) readSubmitAnswer(ctx context.Context, t *tracker, got answer) (s submitted, decided bool) {
	switch {
	case got.status == http.StatusOK && !isHTML(got):
		return h.readAccepted(ctx, t, got.body)
	case got.status == http.StatusBadRequest:
		var r refusal
		if decode(got.body, &r) == nil && r.fromComfyUI() {
			return submitted{failure: r.failure(t.absent)}, true
		}
	case got.status == http.StatusTooManyRequests, got.status == http.StatusServiceUnavailable:
		return submitted{failure: failure.New(failure.RejectedBusy, fmt.Sprintf("the host takes no prompt now: HTTP %d", got.status))}, true
	case got.status == http.StatusRequestEntityTooLarge:
		return submitted{failure: &failure.Failure{Kind: failure.Refused, Exception: tooLarge, Message: "the workflow is too large for the host (HTTP 413 " +
			clip(oneLine(string(got.body)), 200) + `); send pictures as "inputs" instead of inside of the workflow, or start ComfyUI with a larger --max-upload-size and let the proxy before it pass as much`}}, true
	case got.status == http.StatusInternalServerError && raisedInComfyUI(got.body):
		return h.readRaised(ctx, t.id)
	case got.status > http.StatusInternalServerError:
		return submitted{}, false
	}
	return submitted{failure: foreignFailure("the workflow", got)}, true
}

func (h *Host) readAccepted(ctx context.Context, t *tracker, body []byte) (submitted, bool) {
	var d struct {
		ID text `json:"prompt_id"`
		refusal
	}
	if decode(body, &d) != nil || d.ID == "" {
		return submitted{}, false
	}
	if f := d.nodesFailure(t.absent); f != nil {
		// ComfyUI runs a part of the workflow only, and the job asks for all of it.
		fence, cancel := context.WithTimeout(ctx, fenceTimeout)
		defer cancel()
		if err := h.Cancel(fence, string(d.ID)); err != nil {
			h.log.Warn("cannot cancel a prompt that was accepted in part", "prompt", t.id, "error", err)
		}
		return submitted{failure: f}, true
	}
	return submitted{id: string(d.ID)}, true
}

// readRaised reads a 500: from a ComfyUI that answers otherwise it means that the workflow is malformed. The prompt may
// still be in the backlog.
func (h *Host) readRaised(ctx context.Context, id string) (submitted, bool) {
	if state, err := h.Find(ctx, id); err == nil && state != Unknown {
		return submitted{id: id}, true
	}
	got, err := h.get(ctx, "/prompt", nil, smallAnswer)
	if err != nil || got.status != http.StatusOK {
		return submitted{}, false
	}
	return submitted{failure: failure.New(failure.InvalidWorkflow,
		`ComfyUI cannot read the workflow (HTTP 500 on submit while it is well); export it again with "Workflow → Export (API)"`)}, true
}
