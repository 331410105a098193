package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// Ticket is a waiting job in COMFY_WAITING. The fields that order it are in the key, the others in the value. Unlike route.Ticket,
// by which tickets are ordered and chosen without NATS, it has the lease, which a claim passes on, and a form in JSON.
type Ticket struct {
	Priority job.Priority  `json:"-"`
	Tenant   job.Tenant    `json:"-"`
	Hash     workflow.Hash `json:"-"`
	Sequence uint64        `json:"-"` // in COMFY_JOBS
	Revision uint64        `json:"-"`

	Job          job.ID     `json:"job"`
	Lease        Lease      `json:"lease"`
	Size         int64      `json:"size,omitempty"`
	PreferHosts  []string   `json:"prefer_hosts,omitempty"`
	OnlyHosts    []string   `json:"only_hosts,omitempty"`
	ExcludeHosts []string   `json:"exclude_hosts,omitempty"`
	AvoidHosts   []string   `json:"avoid_hosts,omitempty"`
	AvoidUntil   *time.Time `json:"avoid_until,omitempty"`
	Attempt      int        `json:"attempt"` // number of the next attempt, from 1
	NotBefore    *time.Time `json:"not_before,omitempty"`
	Expires      *time.Time `json:"expires,omitempty"`
	Received     time.Time  `json:"received"`
}

// Key is the ticket's key in COMFY_WAITING: <priority>.<tenant>.<hash>.<sequence>.
func (t *Ticket) Key() string {
	return strconv.Itoa(int(t.Priority)) + "." + string(t.Tenant) + "." + string(t.Hash) + "." + strconv.FormatUint(t.Sequence, 10)
}

// TicketOf decodes a ticket.
func TicketOf(e Entry) (Ticket, error) {
	t, err := TicketAt(e.Key)
	if err != nil {
		return Ticket{}, err
	}
	t.Revision = e.Revision
	if !t.readPlain(string(e.Value)) {
		if err := json.Unmarshal(e.Value, &t); err != nil {
			return Ticket{}, fmt.Errorf("decode the ticket: %w", err)
		}
	}
	if err := t.check(); err != nil {
		return Ticket{}, err
	}
	return t, nil
}

// readPlain reads the value of a ticket in the form that PutTicket writes for most jobs, and reports whether it had that form.
// Otherwise t is unchanged. A start beside a million tickets reads all of them, which takes 2 µs of CPU each instead of 5.
func (t *Ticket) readPlain(value string) bool {
	r := plainReader{src: value}
	id, lease := r.text(`{"job":"`), r.text(`,"lease":"`)
	size, attempt := r.optionalCount(`,"size":`), r.count(`,"attempt":`)
	received := r.time(`,"received":"`)
	r.must(`}`)
	if !r.whole() {
		return false
	}
	t.Job, t.Lease = job.ID(strings.Clone(id)), Lease(lease) // the id is kept for longer than the lease
	t.Size, t.Attempt, t.Received = size, int(attempt), received
	return true
}

// TicketAt is what a ticket's key says of it.
func TicketAt(key string) (Ticket, error) {
	parts := strings.Split(key, ".")
	if len(parts) == 4 {
		p, errP := strconv.Atoi(parts[0])
		sequence, errS := strconv.ParseUint(parts[3], 10, 64)
		t := Ticket{Priority: job.Priority(p), Tenant: job.Tenant(parts[1]), Hash: workflow.Hash(parts[2]), Sequence: sequence}
		if errP == nil && errS == nil && t.Priority.Valid() {
			return t, nil
		}
	}
	return Ticket{}, fmt.Errorf("the key %.80q does not have the form <priority>.<tenant>.<hash>.<sequence>", key)
}

// PutTicket writes a ticket, or the same one again with a newer lease, and returns its revision.
func (q *Queue) PutTicket(ctx context.Context, t *Ticket) (uint64, error) {
	value, err := json.Marshal(t)
	if err != nil {
		return 0, fmt.Errorf("encode ticket of job %s: %w", t.Job, err)
	}
	revision, err := q.waiting.Put(ctx, t.Key(), value)
	return revision, wrap(err, "put ticket of job %s", t.Job)
}

// claimMarkerTTL is how long a claimed ticket can be distinguished from one that never existed.
const claimMarkerTTL = 5 * time.Minute

// Claim takes a ticket out of the waiting room. Of all dispatchers that try at this revision exactly one gets the revision of the
// ticket's end, and owns the job by the ticket's lease; the others get 0. Extend the lease before the claim: after a crash right behind
// the claim the job is then delivered again after AckWait, and not after the long time for which it was parked.
func (q *Queue) Claim(ctx context.Context, key string, revision uint64) (end uint64, err error) {
	msg := &nats.Msg{Subject: q.rawSubject(q.waiting, key), Header: nats.Header{
		names.KVOperationHeader: {names.PurgeOperation}, names.RollupHeader: {"sub"},
	}}
	ack, err := q.js.PublishMsg(ctx, msg, natsjs.WithExpectLastSequencePerSubject(revision), natsjs.WithMsgTTL(claimMarkerTTL))
	if conflict(err) {
		return 0, nil
	}
	if err != nil {
		return 0, wrap(err, "claim ticket %s", key)
	}
	return ack.Sequence, nil
}

// Ticket reads one ticket. When there is none, claimed is the time at which it was claimed; zero when it was not, or more than 5 min
// ago.
func (q *Queue) Ticket(ctx context.Context, key string) (t Ticket, found bool, claimed time.Time, err error) {
	raw, err := q.readWaiting.GetLastMsgForSubject(ctx, kvSubject(q.waiting, key))
	if errors.Is(err, natsjs.ErrMsgNotFound) {
		return Ticket{}, false, time.Time{}, nil
	}
	if err != nil {
		return Ticket{}, false, time.Time{}, fmt.Errorf("read ticket %s: %w", key, err)
	}
	if raw.Header.Get(names.KVOperationHeader) != "" || raw.Header.Get(names.MarkerReasonHeader) != "" {
		return Ticket{}, false, raw.Time, nil
	}
	t, err = TicketOf(Entry{Phase: Put, Key: key, Value: raw.Data, Revision: raw.Sequence, Time: raw.Time})
	return t, err == nil, time.Time{}, nil // one that is not valid counts as none
}
