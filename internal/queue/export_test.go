package queue

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
)

// The decoders of messages.
var (
	DecodeState = decodeState
	DecodeReply = decodeReply
	DecodeOffer = decodeOffer
	DecodeLink  = decodeLink
	DecodeAck   = decodeAck
	EncodeRelay = (*Relay).encode
	DecodeRelay = decodeRelay
	Deflated    = deflated
)

// SharingCopies reads capabilities that many hosts have only once.
var SharingCopies = sharingCopies

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

// CallServer limits calls.
type CallServer struct{ callServer }

// NewCallServer has no call under way.
func NewCallServer() *CallServer { return &CallServer{callServer{taken: map[string]int{}}} }

// Begin lets a call of a tenant begin, unless too many are under way.
func (d *CallServer) Begin(whose string, most int) error {
	return d.begin(context.Background(), whose, most)
}

// End ends a call of a tenant.
func (d *CallServer) End(whose string) { d.end(whose) }

// ClockError is how far Now may be from the server's clock; false when no server has told its time yet.
func (q *Queue) ClockError() (time.Duration, bool) {
	known := q.clock.known.Load()
	return known.within, known.measured
}

// MaxBody is how many bytes a job may have.
func (q *Queue) MaxBody() int { return q.maxBody() }

// SideBySide runs things at the same time.
type SideBySide struct{ *sideBySide }

// NewSideBySide runs at most so many at a time.
func NewSideBySide(most int) SideBySide { return SideBySide{newSideBySide(most)} }

// Run has do run once there is a place for it.
func (s SideBySide) Run(ctx context.Context, key string, do func()) bool { return s.run(ctx, key, do) }

// Wait returns when all are over.
func (s SideBySide) Wait() { s.wait() }

// Len is how many keys have something that has entered and not left.
func (t *Turns[K]) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.last)
}

// ReadPlainTicket reads a ticket's value without encoding/json.
func ReadPlainTicket(t *Ticket, value string) bool { return t.readPlain(value) }

// Joiner joins the parts of frames.
type Joiner struct{ joiner }

// NewJoiner has room for so many bytes.
func NewJoiner(room int) *Joiner { return &Joiner{joiner{jobs: map[job.ID]*partial{}, room: room}} }

// Take gives the frame that a message is or completes.
func (j *Joiner) Take(msg *nats.Msg) (Frame, bool) { return j.take(msg) }

// Kept is how many frames of which parts are missing are kept, and their bytes.
func (j *Joiner) Kept() (frames, size int) { return len(j.jobs), j.size }

// Resumption is how far a watch has given the content of a bucket.
type Resumption struct{ resumption }

// Told records an entry that the watch has given; with Synced everything was given at this time.
func (r *Resumption) Told(e Entry, made, at time.Time) {
	r.took(e, made)
	r.whole = at
}

// After is the revision behind which the watch goes on.
func (r *Resumption) After(ctx context.Context, stream natsjs.Stream, kv natsjs.KeyValue) uint64 {
	return r.after(ctx, stream, kv)
}
