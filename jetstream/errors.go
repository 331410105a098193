package jetstream

import (
	"errors"
)

// Errors of calls, each with the code that the answer has in its header Nats-Service-Error-Code. A dispatcher's endpoints return
// them, and the caller gets the same type from Client and Ask.
type (
	// BadRequest (400): the request itself is wrong. Repeating it does not help.
	BadRequest struct{ Message string }
	// NotFound (404): the job, file or other object does not exist, or no longer.
	NotFound struct{ Message string }
	// Conflict (409): the object has changed since the caller read it, or another caller was first. Read it again, then decide.
	Conflict struct{ Message string }
	// TooBig (413): the request or its answer does not fit into a NATS message. Ask for less at a time.
	TooBig struct{ Message string }
	// TooMany (429): the tenant has too many calls under way: ask again when some have been answered. Also: it has cancelled more
	// ids that were never submitted than it may.
	TooMany struct{ Message string }
	// Failed (500): the dispatcher could not do it. The request may have been carried out in part.
	Failed struct{ Message string }
	// Stopping (503): this dispatcher is stopping, or has not yet read what it needs for an answer. It has done nothing: ask again.
	Stopping struct{ Message string }
)

func (e *BadRequest) Error() string { return e.Message }
func (e *NotFound) Error() string   { return e.Message }
func (e *Conflict) Error() string   { return e.Message }
func (e *TooBig) Error() string     { return e.Message }
func (e *TooMany) Error() string    { return e.Message }
func (e *Failed) Error() string     { return e.Message }
func (e *Stopping) Error() string   { return e.Message }

// Refused reports whether an error says that the call was refused and nothing was done: every code but 500.
func Refused(err error) bool { return Code(err) != "500" }

// Code is the code of an error of a call: "400" for a BadRequest and so on, and "500" for every other error.
func Code(err error) string {
	if _, is := errors.AsType[*BadRequest](err); is {
		return "400"
	}
	if _, is := errors.AsType[*NotFound](err); is {
		return "404"
	}
	if _, is := errors.AsType[*Conflict](err); is {
		return "409"
	}
	if _, is := errors.AsType[*TooBig](err); is {
		return "413"
	}
	if _, is := errors.AsType[*TooMany](err); is {
		return "429"
	}
	if _, is := errors.AsType[*Stopping](err); is {
		return "503"
	}
	return "500"
}

// errorOfCode makes the error that an answer's code stands for; an unknown code is a Failed.
func errorOfCode(code, text string) error {
	switch code {
	case "400":
		return &BadRequest{Message: text}
	case "404":
		return &NotFound{Message: text}
	case "409":
		return &Conflict{Message: text}
	case "413":
		return &TooBig{Message: text}
	case "429":
		return &TooMany{Message: text}
	case "503":
		return &Stopping{Message: text}
	}
	return &Failed{Message: text}
}
