package jetstream

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
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

// Submit publishes a job with a priority, 9 first and 5 usual. A job without an id gets a random one, so that Submit may
// be repeated after an error that leaves open whether the job was stored: the same id runs once. Errors are ErrTooLarge,
// ErrLaneFull and ErrNoSpace, after which nothing was stored. The workflow is not looked into here: a dispatcher refuses a
// bad one with an event dead, reason invalid_job.
func (c *Client) Submit(ctx context.Context, p Priority, spec Spec) (Receipt, error) {
	if spec.ID == "" {
		spec.ID = job.ID(strings.ToLower(rand.Text()))
	}
	if !c.tenant.Valid() || !p.Valid() || !spec.ID.Valid() || spec.ID.Ours() {
		return Receipt{}, fmt.Errorf("cannot submit job %q to tenant %q, priority %d: a tenant has 1 to 64 of A-Z a-z 0-9 _ -, "+
			"a priority is 0 to 9, an id has 1 to 120 of A-Z a-z 0-9 _ - and does not begin with j-", spec.ID, c.tenant, p)
	}
	body, err := spec.Encode()
	if err != nil {
		return Receipt{}, err
	}
	msg := nats.NewMsg(names.LaneSubject(job.Lane{Tenant: c.tenant, Priority: p}))
	msg.Header.Set(names.JobIDHeader, string(spec.ID))
	msg.Data = body
	sequence, err := Publish(ctx, c.nc, msg)
	if err != nil {
		return Receipt{}, err
	}
	return Receipt{Tenant: c.tenant, Job: spec.ID, Sequence: sequence}, nil
}

const (
	publishTimeout = 5 * time.Second        // when the context has no deadline
	publishRetries = 2                      // of what no stream has answered: it may be choosing a leader
	publishPause   = 250 * time.Millisecond // before each of them
)

// Publish stores a job that is a message already, with the subject, headers and body that docs/contract.md describes, and
// gives its sequence in COMFY_JOBS. Its errors are those of Submit.
func Publish(ctx context.Context, nc *nats.Conn, msg *nats.Msg) (sequence uint64, err error) {
	if most := int(nc.MaxPayload()) - names.Headroom; len(msg.Data) > most {
		return 0, fmt.Errorf("publish to %s: %w: the job has %d bytes, and at most %d fit into a message of this NATS: %s, "+
			"or raise its max_payload: %w", msg.Subject, ErrTooLarge, len(msg.Data), most, putFilesElsewhere, nats.ErrMaxPayload)
	}
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, publishTimeout)
		defer cancel()
	}
	reply, err := nc.RequestMsgWithContext(ctx, msg)
	for try := 0; errors.Is(err, nats.ErrNoResponders) && try < publishRetries && pause(ctx, publishPause); try++ {
		reply, err = nc.RequestMsgWithContext(ctx, msg)
	}
	if errors.Is(err, nats.ErrNoResponders) {
		return 0, fmt.Errorf("publish to %s: no stream takes it: is a dispatcher running, and is the priority 0 to 9? %w", msg.Subject, err)
	}
	if err != nil {
		return 0, fmt.Errorf("publish to %s: %w", msg.Subject, err)
	}
	var ack struct {
		Stream   string        `json:"stream"`
		Sequence uint64        `json:"seq"`
		Error    *publishError `json:"error"`
	}
	switch err := json.Unmarshal(reply.Data, &ack); {
	case err == nil && ack.Error != nil:
		return 0, ack.Error.explain(msg)
	case err != nil || ack.Stream == "":
		return 0, fmt.Errorf("publish to %s: the answer of NATS is no ack of a stream: %.200q", msg.Subject, reply.Data)
	}
	return ack.Sequence, nil
}

// putFilesElsewhere is what a publisher does about a job that is too large.
const putFilesElsewhere = "put files into the object store " + names.InputsStore + " and name them in \"inputs\""

// publishError is why NATS has not stored a message.
type publishError struct {
	Code        uint16 `json:"err_code"`
	Description string `json:"description"`
}

func (e *publishError) Error() string {
	return fmt.Sprintf("NATS refuses it: %s (error %d)", e.Description, e.Code)
}

// explain says what it means for a job, and what may be done about it.
func (e *publishError) explain(msg *nats.Msg) error {
	switch {
	case e.Code == names.MessageTooLargeCode:
		return fmt.Errorf("publish to %s: %w: the job has %d bytes: %s, or raise `dispatcher run --max-job`: %w",
			msg.Subject, ErrTooLarge, len(msg.Data), putFilesElsewhere, e)
	case e.Code == names.StoreFailedCode && strings.Contains(e.Description, "per subject"):
		return fmt.Errorf("publish to %s: %w: wait until some of its jobs have ended, or raise the cap with `dispatcher run --lane-cap`: %w",
			msg.Subject, ErrLaneFull, e)
	case e.Code == names.StoreFailedCode && strings.Contains(e.Description, "maximum bytes"):
		return fmt.Errorf("publish to %s: %w: %s holds as many bytes of unfinished jobs as it may: wait until some have ended, "+
			"or raise `dispatcher run --jobs-bytes`: %w", msg.Subject, ErrNoSpace, names.JobsStream, e)
	case names.NoRoom(e.Code):
		return fmt.Errorf("publish to %s: %w: free disk and restart NATS, which measures its disk when it starts, "+
			"or raise the limits of JetStream or of the stream: %w", msg.Subject, ErrNoSpace, e)
	}
	return fmt.Errorf("publish to %s: %w", msg.Subject, e)
}
