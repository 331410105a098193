package queue

import (
	"context"
	"time"
)

// The decoders of messages.
var (
	DecodeState = decodeState
	DecodeReply = decodeReply
	DecodeOffer = decodeOffer
	DecodeLink  = decodeLink
	EncodeRelay = (*Relay).encode
	DecodeRelay = decodeRelay
	Deflated    = deflated
)

// Alike reads capabilities that many hosts have only once.
var Alike = alike

// CheckState and CheckOffer check decoded messages.
var (
	CheckState = (*HostState).check
	CheckOffer = (*Offer).check
)

// DecodeCondition reads a host's condition.
func DecodeCondition(body []byte) (HostCondition, error) {
	return decodeChecked[HostCondition](body)
}

// DecodeControl reads a control.
func DecodeControl(body []byte) (Control, error) { return decodeChecked[Control](body) }

// FakeClock is a Queue with a clock only, which measures a server that the test simulates.
func FakeClock(ctx context.Context, ask func(context.Context) (time.Time, error), wall func() time.Time, warn func(error), anew func() <-chan struct{},
) (q *Queue, stop func()) {
	q = &Queue{}
	q.clock.ask, q.clock.wall, q.clock.warn = ask, wall, warn
	q.clock.begin(ctx, anew, nil)
	return q, q.clock.stop
}

// Desk limits calls.
type Desk struct{ desk }

// NewDesk has no call under way.
func NewDesk() *Desk { return &Desk{desk{taken: map[string]int{}}} }

// Begin lets a call of a tenant begin, unless too many are under way.
func (d *Desk) Begin(whose string, most int) error { return d.begin(context.Background(), whose, most) }

// End ends a call of a tenant.
func (d *Desk) End(whose string) { d.end(whose) }

// ClockError is how far Now may be from the server's clock; false when no server has told its time yet.
func (q *Queue) ClockError() (time.Duration, bool) {
	known := q.clock.known.Load()
	return known.within, known.measured
}

// MaxBody is how many bytes a job may have.
func (q *Queue) MaxBody() int { return q.maxBody() }

// ReadPlainTicket reads a ticket's value without encoding/json.
func ReadPlainTicket(t *Ticket, value string) bool { return t.readPlain(value) }
