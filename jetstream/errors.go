package jetstream

import (
	"errors"
)

// Errors of the calls, each with its code in the header Nats-Service-Error-Code. Dispatchers answer with them, and the methods
// of Client return them.
type (
	// BadRequest (400): the request itself is wrong. Repeating it does not help.
	BadRequest struct{ Message string }
	// NotFound (404): what was asked for is not there.
	NotFound struct{ Message string }
	// Conflict (409): what the request relies on has changed, or another request was first. Read it again.
	Conflict struct{ Message string }
	// TooBig (413): the request or its answer does not fit into a NATS message. Ask for less at a time.
	TooBig struct{ Message string }
	// TooMany (429): the tenant has as many calls under way as it may; call again when some have been answered. Or it cancels more
	// unknown ids than a tenant may.
	TooMany struct{ Message string }
	// Failed (500): the dispatcher could not do it. The request may have been carried out in part.
	Failed struct{ Message string }
	// Stopping (503): this dispatcher is stopping, or has just started and still reads what it needs. It has done nothing. Call again.
	Stopping struct{ Message string }
)

func (e *BadRequest) Error() string { return e.Message }
func (e *NotFound) Error() string   { return e.Message }
func (e *Conflict) Error() string   { return e.Message }
func (e *TooBig) Error() string     { return e.Message }
func (e *TooMany) Error() string    { return e.Message }
func (e *Failed) Error() string     { return e.Message }
func (e *Stopping) Error() string   { return e.Message }

// Refused reports whether an error says that a dispatcher has done nothing, and why: any code but 500.
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
