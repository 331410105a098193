package jetstream

import (
	"errors"
)

// Errors of the calls, each with the code that stands in Nats-Service-Error-Code. A server returns them, and Call and
// Client give them back to who asked.
type (
	// BadRequest (400): the request itself is wrong. Repeating it does not help.
	BadRequest struct{ Message string }
	// NotFound (404): what was asked for is not there.
	NotFound struct{ Message string }
	// Conflict (409): it is not as the asker thinks, or somebody else was first. Look again.
	Conflict struct{ Message string }
	// TooBig (413): the request or its answer does not fit into a NATS message. Ask for less at a time.
	TooBig struct{ Message string }
	// TooMany (429): more calls at once than one may have. Ask again when some have been answered. Or more ids that nobody has
	// seen than a tenant may cancel.
	TooMany struct{ Message string }
	// Failed (500): the dispatcher could not do it. The request may have been carried out in part.
	Failed struct{ Message string }
	// Stopping (503): this dispatcher takes no more calls, or still reads what it needs for an answer, and has done nothing. Ask again.
	Stopping struct{ Message string }
)

func (e *BadRequest) Error() string { return e.Message }
func (e *NotFound) Error() string   { return e.Message }
func (e *Conflict) Error() string   { return e.Message }
func (e *TooBig) Error() string     { return e.Message }
func (e *TooMany) Error() string    { return e.Message }
func (e *Failed) Error() string     { return e.Message }
func (e *Stopping) Error() string   { return e.Message }

// Refused reports whether an error is an answer that says why nothing was done.
func Refused(err error) bool { return Code(err) != "500" }

// Code is the code of an error of a call: 400 for a BadRequest and so on, and 500 for all that is none of these.
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

// refusalOf is the error of a code that was answered.
func refusalOf(code, text string) error {
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
