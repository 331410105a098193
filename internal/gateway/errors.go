package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/comfyherd/comfyherd/jetstream"
)

const http503 = http.StatusServiceUnavailable

// failed is an error that a client is to read: the status of the answer, a word for programs and a sentence for people.
type failed struct {
	status int
	code   string
	text   string
}

func (e *failed) Error() string { return e.text }

// failedOf gives the form in which a client reads an error. What went wrong inside is not for clients, beyond that it did.
func failedOf(err error) *failed {
	if f, ok := errors.AsType[*failed](err); ok {
		return f
	}
	if r, ok := errors.AsType[*refusedPrompt](err); ok {
		return &failed{http.StatusBadRequest, r.failure.Error.Type, r.Error()}
	}
	var refused interface{ error }
	switch {
	case as[*jetstream.BadRequest](err, &refused):
		return &failed{http.StatusBadRequest, "invalid_request", refused.Error()}
	case as[*jetstream.NotFound](err, &refused):
		return &failed{http.StatusNotFound, "not_found", refused.Error()}
	case as[*jetstream.Conflict](err, &refused):
		return &failed{http.StatusConflict, "conflict", refused.Error()}
	case as[*jetstream.TooBig](err, &refused):
		return &failed{http.StatusRequestEntityTooLarge, "payload_too_large", refused.Error()}
	case as[*jetstream.TooMany](err, &refused):
		return &failed{http.StatusTooManyRequests, "rate_limited", refused.Error()}
	case errors.Is(err, jetstream.ErrNoSpace):
		return &failed{http.StatusInsufficientStorage, "no_space", "there is no room for this: " + err.Error()}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &failed{http503, "unavailable", "the fleet did not answer in time: send the request again"}
	}
	return &failed{http.StatusInternalServerError, "internal_error", "the gateway could not do this: " + err.Error()}
}

func as[E error](err error, found *interface{ error }) bool {
	e, ok := errors.AsType[E](err)
	if ok {
		*found = e
	}
	return ok
}

// answerError answers an error in the form of the API that the path belongs to.
func answerError(w http.ResponseWriter, r *http.Request, err error) {
	f := failedOf(err)
	if f.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="comfyherd", charset="UTF-8"`)
	}
	if isV2(r.URL.Path) {
		v2Error(w, f)
		return
	}
	if refused, is := errors.AsType[*refusedPrompt](err); is {
		answerJSON(w, http.StatusBadRequest, refused.failure)
		return
	}
	answerJSON(w, f.status, promptFailure{Error: promptError{Type: f.code, Message: f.text, ExtraInfo: struct{}{}}, NodeErrors: struct{}{}})
}

// isV2 reports whether a path belongs to the Comfy API v2.
func isV2(path string) bool { return strings.HasPrefix(path, "/api/v2/") }

// promptFailure is how ComfyUI answers a prompt that it does not take. The clients read every error in this form.
type promptFailure struct {
	Error      promptError `json:"error"`
	NodeErrors any         `json:"node_errors"`
}

type promptError struct {
	Type      string `json:"type"`
	Message   string `json:"message"`
	Details   string `json:"details"`
	ExtraInfo any    `json:"extra_info"`
}

// answerJSON answers a value. HTML in texts stays as it is, as in Python's JSON.
func answerJSON(w http.ResponseWriter, status int, value any) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		http.Error(w, "500 Internal Server Error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(bytes.TrimSuffix(body.Bytes(), []byte("\n"))) // the client has gone
}
