package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
)

// refusal is an answer of the Comfy API v2 that is not a success, in its envelope of errors.
type refusal struct {
	status     int
	code       string
	message    string
	details    map[string]any
	retryAfter int    // seconds; 0: the answer has no Retry-After
	allow      string // the header Allow of a 405
	lacking    bool   // no host could ever run it
	err        error  // for the log; nil: the message says all
}

func (e *refusal) Error() string {
	if e.err != nil {
		return e.err.Error()
	}
	return e.code + ": " + e.message
}

func refuse(status int, code, format string, args ...any) *refusal {
	return &refusal{status: status, code: code, message: fmt.Sprintf(format, args...)}
}

func badRequest(format string, args ...any) *refusal {
	return refuse(http.StatusBadRequest, "invalid_request", format, args...)
}

func unprocessable(code, format string, args ...any) *refusal {
	return refuse(http.StatusUnprocessableEntity, code, format, args...)
}

func noSuch(what, id string) *refusal {
	return refuse(http.StatusNotFound, "not_found", "there is no %s %.150q: it never was, is of somebody else, or is older than what is kept", what, id)
}

// refusalOf gives the form in which a client of the Comfy API v2 reads an error.
func refusalOf(err error) *refusal {
	if e, ok := errors.AsType[*refusal](err); ok {
		return e
	}
	f := failedOf(err)
	e := &refusal{status: f.status, code: f.code, message: f.text}
	if f.status >= http.StatusInternalServerError {
		e.code, e.err = "upstream_error", err
		e.message = "the fleet could not answer this request: try again, and if that does not help, give the operator the id in the header " + requestHeader
	}
	if f.status == http.StatusTooManyRequests {
		e.retryAfter = retrySeconds
	}
	return e
}

// retrySeconds is how long a client that comes too often is told to wait.
const retrySeconds = 5

// MarshalJSON writes the envelope.
func (e *refusal) MarshalJSON() ([]byte, error) {
	type inner struct {
		Code    string         `json:"code"`
		Message string         `json:"message"`
		Details map[string]any `json:"details"`
	}
	return json.Marshal(struct {
		Error inner `json:"error"`
	}{inner{e.code, e.message, e.details}})
}

func (e *refusal) write(w http.ResponseWriter) {
	if e.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(e.retryAfter))
	}
	if e.allow != "" {
		w.Header().Set("Allow", e.allow)
	}
	writeV2(w, e.status, e)
}
