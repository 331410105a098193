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

	"github.com/comfyherd/comfyherd/internal/names"
)

// Receipt says where a submitted job is.
type Receipt struct {
	Tenant   Tenant
	Job      ID
	Sequence uint64 // in COMFY_JOBS
}

var (
	// ErrLaneFull: the lane holds as many unfinished jobs as it may, 10 000 by default. Nothing was stored.
	ErrLaneFull = errors.New("the lane is full")
	// ErrTooLarge: the job is larger than COMFY_JOBS takes (1 MiB by default), or than a NATS message may be. Nothing was stored.
	ErrTooLarge = errors.New("the job is too large")
	// ErrNoSpace: JetStream has no room left. Nothing was stored.
	ErrNoSpace = errors.New("JetStream has no space left")
)

// Submit publishes a job with a priority of 0 to 9: 9 is served first, 5 is usual. A job without an id gets a random one. After a
// BadRequest, ErrTooLarge, ErrLaneFull and ErrNoSpace nothing was stored. Another error, such as a timeout, leaves open whether the job was
// stored: submit it again with the same id of your own, since an id runs once. The workflow is not checked here: a dispatcher ends a
// job that has an invalid one with the event dead, reason invalid_job.
func (c *Client) Submit(ctx context.Context, p Priority, spec Spec) (Receipt, error) {
	if spec.ID == "" {
		spec.ID = NewID()
	}
	if !c.tenant.Valid() || !p.Valid() || !spec.ID.Valid() || spec.ID.Ours() {
		return Receipt{}, &BadRequest{Message: fmt.Sprintf("cannot submit job %q to tenant %q, priority %d: a tenant has 1 to 64 of A-Z a-z 0-9 _ -, "+
			"a priority is 0 to 9, an id has 1 to 120 of A-Z a-z 0-9 _ - and does not begin with j-", spec.ID, c.tenant, p)}
	}
	body, err := spec.Encode()
	if err != nil {
		return Receipt{}, err
	}
	msg := nats.NewMsg(names.LaneSubject(Lane{Tenant: c.tenant, Priority: p}))
	msg.Header.Set(names.JobIDHeader, string(spec.ID))
	if spec.Traceparent != "" {
		msg.Header.Set(names.TraceparentHeader, spec.Traceparent)
	}
	msg.Data = body
	sequence, err := Publish(ctx, c.nc, msg)
	if err != nil {
		return Receipt{}, err
	}
	return Receipt{Tenant: c.tenant, Job: spec.ID, Sequence: sequence}, nil
}

// NewID is a random id, as Submit gives one to a job that has none.
func NewID() ID { return ID(strings.ToLower(rand.Text())) }

const (
	publishTimeout = 5 * time.Second        // when the context has no deadline
	publishRetries = 2                      // when no stream has answered: it may be choosing a leader
	publishPause   = 250 * time.Millisecond // before each retry
)

// Publish stores a job that is a message already, with the subject, headers and body that docs/contract.md describes, and
// gives its sequence in COMFY_JOBS. Its errors are those of Submit. Without a deadline of ctx it waits at most 5 s.
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
		return 0, fmt.Errorf("publish to %s: no stream stores this subject: is a dispatcher running, and is the priority 0 to 9? %w", msg.Subject, err)
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

// putFilesElsewhere says what a publisher does about a job that is too large.
const putFilesElsewhere = "put files into the object store " + names.InputsStore + " and name them in \"inputs\", or the whole workflow and name it in \"workflow_file\""

// publishError is why NATS has not stored a message.
type publishError struct {
	Code        uint16 `json:"err_code"`
	Description string `json:"description"`
}

func (e *publishError) Error() string {
	return fmt.Sprintf("NATS refuses it: %s (error %d)", e.Description, e.Code)
}

// explain says what the error means for a job, and what may be done about it.
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
