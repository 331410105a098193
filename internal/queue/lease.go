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

// Lease is the ack subject of a delivery: whoever extends it owns the job. It is opaque and works from any connection. It is not
// fenced: messages to an old lease still take effect, so no decision may rest on a lease alone; the chain decides.
//
// This file is the only one that settles a message of COMFY_JOBS.
type Lease string

// Extend keeps the lease for another AckWait from now, without waiting for the server. Of a parked job it ends the park.
func (q *Queue) Extend(lease Lease) error {
	return wrap(q.nc.Publish(string(lease), []byte("+WPI")), "extend lease")
}

// ExtendSurely is Extend that waits until the server has confirmed it, at most 2 s.
func (q *Queue) ExtendSurely(ctx context.Context, lease Lease) error {
	ctx, cancel := context.WithTimeout(ctx, offerTimeout)
	defer cancel()
	_, err := q.nc.RequestWithContext(ctx, string(lease), []byte("+WPI"))
	return wrap(err, "extend lease")
}

// Park gives a delivery back to NATS, which delivers the job again after about the given time; at once when that is 0.
func (q *Queue) Park(lease Lease, rest time.Duration) error {
	body := `-NAK {"delay":` + strconv.FormatInt(int64(rest), 10) + `}`
	return wrap(q.nc.Publish(string(lease), []byte(body)), "park delivery")
}

// FinishSoon removes the job from COMFY_JOBS without waiting for the server. When the message is lost, the job is delivered again,
// and the dispatcher that finds its chain ended acks it.
func (q *Queue) FinishSoon(lease Lease) error {
	return wrap(q.nc.Publish(string(lease), []byte("+ACK")), "ack delivery")
}

// Erase removes a job from COMFY_JOBS and overwrites its bytes in NATS' storage, which an ack does not do. It is for jobs with
// extra_data, which may hold keys. A job that is no longer stored is no error.
func (q *Queue) Erase(ctx context.Context, sequence uint64) error {
	err := q.jobs.SecureDeleteMsg(ctx, sequence)
	if errors.Is(err, natsjs.ErrMsgDeleteUnsuccessful) { // nats.go does not say why
		if _, why := q.Stored(ctx, sequence); errors.Is(why, ErrGone) {
			return nil
		}
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
