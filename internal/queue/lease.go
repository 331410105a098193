package queue

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/names"
)

// Lease is a delivery's ack subject: whoever extends it owns the job. It is opaque, works from any connection,
// and is never fenced: an old lease still acts, so no decision may rest on it alone. The chain decides.
//
// This file is the only one that settles a message of COMFY_JOBS.
type Lease string

// Extend keeps the lease for another AckWait from now. On a parked delivery it turns the park into a lease.
func (q *Queue) Extend(lease Lease) error {
	return wrap(q.nc.Publish(string(lease), []byte("+WPI")), "extend lease")
}

// ExtendSurely is Extend that returns when the server has confirmed it, or within 2 s with an error.
func (q *Queue) ExtendSurely(ctx context.Context, lease Lease) error {
	ctx, cancel := context.WithTimeout(ctx, offerTimeout)
	defer cancel()
	_, err := q.nc.RequestWithContext(ctx, string(lease), []byte("+WPI"))
	return wrap(err, "extend lease")
}

// Park lets the job rest in COMFY_JOBS for about the given time; then it is delivered again. With none it is at once.
func (q *Queue) Park(lease Lease, rest time.Duration) error {
	body := `-NAK {"delay":` + strconv.FormatInt(int64(rest), 10) + `}`
	return wrap(q.nc.Publish(string(lease), []byte(body)), "park delivery")
}

// FinishSoon removes the job from COMFY_JOBS without waiting for the server: a crash before it has heard of it is repaired by the
// next delivery, which finds the chain ended.
func (q *Queue) FinishSoon(lease Lease) error {
	return wrap(q.nc.Publish(string(lease), []byte("+ACK")), "ack delivery")
}

// Erase removes a job from COMFY_JOBS and overwrites its bytes in the store of NATS, which an ack does not: of a job with
// extra_data nothing may be left behind. A job that is gone already is no error.
func (q *Queue) Erase(ctx context.Context, sequence uint64) error {
	err := q.jobs.SecureDeleteMsg(ctx, sequence)
	if errors.Is(err, natsjs.ErrMsgNotFound) {
		return nil
	}
	if api, is := errors.AsType[*natsjs.APIError](err); is && api.ErrorCode == names.NoMessageFoundCode {
		return nil
	}
	return wrap(err, "erase job %d", sequence)
}

func parseLease(msg *nats.Msg) (Lease, error) {
	lease := msg.Header.Get(names.LeaseHeader)
	if lease == "" {
		return "", fmt.Errorf("message on %s has no header %s", msg.Subject, names.LeaseHeader)
	}
	if !Lease(lease).Valid() {
		return "", fmt.Errorf("message on %s has a header %s that is no lease: %.80q", msg.Subject, names.LeaseHeader, lease)
	}
	return Lease(lease), nil
}
