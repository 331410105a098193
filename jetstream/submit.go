package jetstream

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
)

// Names of floor 0 that a program which imports only this package may want to spell out.
type (
	// Spec is a job as its publisher wishes it.
	Spec = job.Spec
	// Event is one link of a job's chain.
	Event = job.Event
	// ID names a job within its tenant.
	ID = job.ID
	// Tenant owns jobs.
	Tenant = job.Tenant
	// Priority is one digit, 9 first.
	Priority = job.Priority
	// Lane is a tenant's jobs of one priority.
	Lane = job.Lane
)

// Receipt says where a submitted job is.
type Receipt struct {
	Tenant   job.Tenant
	Job      job.ID
	Sequence uint64 // in COMFY_JOBS
}

var (
	// ErrLaneFull: the lane holds as many unfinished jobs as it may. Nothing was stored.
	ErrLaneFull = errors.New("the lane is full")
	// ErrTooLarge: the job is bigger than COMFY_JOBS, or NATS in one message, takes. Nothing was stored.
	ErrTooLarge = errors.New("the job is too large")
	// ErrNoSpace: JetStream has no room left. Nothing was stored.
	ErrNoSpace = errors.New("JetStream has no space left")
)

// headroom is what a message leaves free of NATS's max_payload for the headers of an offer or a dead letter.
const headroom = 4 << 10

// MaxBody is how many bytes a job may have: what COMFY_JOBS takes (Config.MaxJob) and NATS in one message, without room
// for our headers. A publish by somebody else may be larger by that room; it can be stored, and is refused by a dispatcher.
func (q *Queue) MaxBody() int {
	most := q.maxPayload()
	if limit := int(q.maxJob.Load()); limit > 0 {
		most = min(most, limit)
	}
	return most
}

// maxPayload is how many bytes a message may have beside our headers.
func (q *Queue) maxPayload() int { return int(q.nc.MaxPayload()) - headroom }

// tooLarge says what may be done about a job of so many bytes.
func tooLarge(size, most int) string {
	return fmt.Sprintf("the job has %d bytes, and at most %d are taken: put files into the object store %s and name them in \"inputs\", "+
		"or raise `dispatcher run --max-job` and, where NATS takes no larger message, its max_payload", size, most, InputsStore)
}

// TooLarge says that a job is too large and what may be done about it; empty when it is not.
func (q *Queue) TooLarge(body int) string {
	if most := q.MaxBody(); body > most {
		return tooLarge(body, most)
	}
	return ""
}

// Submit publishes a job to its lane. A job without an id gets a random one, so that Submit may be repeated
// after an error that leaves open whether the job was stored. The workflow is not looked into here: a dispatcher
// refuses a bad one with an event dead, reason invalid_job.
func (q *Queue) Submit(ctx context.Context, lane job.Lane, spec job.Spec) (Receipt, error) {
	if spec.ID == "" {
		spec.ID = job.ID(strings.ToLower(rand.Text()))
	}
	if !lane.Tenant.Valid() || !lane.Priority.Valid() || !spec.ID.Valid() || spec.ID.Ours() {
		return Receipt{}, fmt.Errorf("cannot submit job %q to tenant %q, priority %d: a tenant has 1 to 64 of A-Z a-z 0-9 _ -, "+
			"a priority is 0 to 9, an id has 1 to 120 of A-Z a-z 0-9 _ - and does not begin with j-", spec.ID, lane.Tenant, lane.Priority)
	}
	body, err := spec.Encode()
	if err != nil {
		return Receipt{}, err
	}
	msg := nats.NewMsg(laneSubject(lane))
	msg.Header.Set(JobIDHeader, string(spec.ID))
	msg.Data = body
	return q.publishJob(ctx, msg, Receipt{Tenant: lane.Tenant, Job: spec.ID})
}

func (q *Queue) publishJob(ctx context.Context, msg *nats.Msg, r Receipt) (Receipt, error) {
	if len(msg.Data) > q.MaxBody() {
		return Receipt{}, q.explainPublish(nats.ErrMaxPayload, msg)
	}
	ack, err := q.js.PublishMsg(ctx, msg)
	if err != nil {
		return Receipt{}, q.explainPublish(err, msg)
	}
	r.Sequence = ack.Sequence
	return r, nil
}

func (q *Queue) explainPublish(err error, msg *nats.Msg) error {
	var api *natsjs.APIError
	switch {
	case errors.Is(err, nats.ErrMaxPayload), errors.As(err, &api) && api.ErrorCode == messageTooLargeCode:
		return fmt.Errorf("publish to %s: %w: %s: %w", msg.Subject, ErrTooLarge, tooLarge(len(msg.Data), q.MaxBody()), err)
	case errors.As(err, &api) && api.ErrorCode == storeFailedCode && strings.Contains(api.Description, "per subject"):
		return fmt.Errorf("publish to %s: %w: wait until some of its jobs have ended, or raise the cap with `dispatcher run --lane-cap`: %w", msg.Subject, ErrLaneFull, err)
	case errors.As(err, &api) && api.ErrorCode == storeFailedCode && strings.Contains(api.Description, "maximum bytes"):
		return fmt.Errorf("publish to %s: %w: %s holds as many bytes of unfinished jobs as it may: wait until some have ended, or raise `dispatcher run --jobs-bytes`: %w",
			msg.Subject, ErrNoSpace, JobsStream, err)
	case errors.As(err, &api) && noRoom(api):
		return fmt.Errorf("publish to %s: %w: %s: %w", msg.Subject, ErrNoSpace, makeRoom, err)
	case errors.Is(err, natsjs.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("publish to %s: no stream takes it: is a dispatcher running, and is the priority 0 to 9? %w", msg.Subject, err)
	}
	return fmt.Errorf("publish to %s: %w", msg.Subject, err)
}

// Error codes of the JetStream API that nats.go has no name for.
const (
	storeFailedCode           natsjs.ErrorCode = 10077 // a limit of the stream, or what the disk says
	insufficientResourcesCode natsjs.ErrorCode = 10023
	memoryExceededCode        natsjs.ErrorCode = 10028
	storageExceededCode       natsjs.ErrorCode = 10047
	noPeersCode               natsjs.ErrorCode = 10005 // no server of the cluster has room, or something else
	streamBytesExceededCode   natsjs.ErrorCode = 10122
	messageTooLargeCode       natsjs.ErrorCode = 10054
	wrongLastSequenceCode     natsjs.ErrorCode = 10071
	wrongLastSequenceInFlight natsjs.ErrorCode = 10164
	duplicateInFlightCode     natsjs.ErrorCode = 10158 // of a message id
	noMessageFoundCode        natsjs.ErrorCode = 10037
	replicasNotSupportedCode  natsjs.ErrorCode = 10074
)

// makeRoom is what an operator does about ErrNoSpace.
const makeRoom = "free disk and restart NATS, which measures its disk when it starts, or raise the limits of JetStream or of the stream"

func noRoom(api *natsjs.APIError) bool {
	switch api.ErrorCode {
	case storeFailedCode, insufficientResourcesCode, memoryExceededCode, storageExceededCode:
		return true
	}
	return false
}

// tooMuch reports whether NATS has no room for the maximum that was asked for.
func tooMuch(err error) bool {
	api, is := errors.AsType[*natsjs.APIError](err)
	return is && (api.ErrorCode == noPeersCode || api.ErrorCode == streamBytesExceededCode || api.ErrorCode != storeFailedCode && noRoom(api))
}

func conflict(err error) bool {
	api, is := errors.AsType[*natsjs.APIError](err)
	return is && (api.ErrorCode == wrongLastSequenceCode || api.ErrorCode == wrongLastSequenceInFlight)
}
