package queue

import (
	"errors"

	"github.com/nats-io/nats.go"
)

// TooLarge reports whether an event could not be appended since it is larger than NATS takes in one message
// (max_payload, 1 MiB by default). Trying again does not help.
func TooLarge(err error) bool {
	return errors.Is(err, nats.ErrMaxPayload)
}
