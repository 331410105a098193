package queue

import (
	"errors"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/names"
)

// makeRoom says what an operator can do about ErrNoSpace.
const makeRoom = "free disk and restart NATS, which measures its disk when it starts, or raise the limits of JetStream or of the stream"

// tooMuch reports whether NATS has no room for the maximum that was asked for.
func tooMuch(err error) bool {
	api, is := errors.AsType[*natsjs.APIError](err)
	return is && (api.ErrorCode == names.NoPeersCode || api.ErrorCode == names.StreamBytesExceededCode || api.ErrorCode != names.StoreFailedCode && names.NoRoom(uint16(api.ErrorCode)))
}

// conflict reports whether a compare-and-set was refused since the value has changed.
func conflict(err error) bool {
	if errors.Is(err, natsjs.ErrKeyExists) || errors.Is(err, natsjs.ErrKeyRevisionMismatch) {
		return true
	}
	api, is := errors.AsType[*natsjs.APIError](err)
	return is && (api.ErrorCode == names.WrongLastSequenceCode || api.ErrorCode == names.WrongLastSequenceInFlight)
}
