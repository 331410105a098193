package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/names"
)

// COMFY_WAITING is a log: each change of a ticket has the next revision. So a dispatcher that receives changes through the relays
// of others sees when it has missed one, and reads that one.

// TicketLog is the state of COMFY_WAITING.
type TicketLog struct {
	Made  time.Time // another time: it was deleted and made again, and revisions begin at 1
	First uint64    // older tickets are gone, also when watches gave no change of them, as after a purge of the bucket's stream by hand
	Last  uint64    // revision of the newest change
}

// TicketLog reads the state of COMFY_WAITING, and makes the bucket when it is missing.
func (q *Queue) TicketLog(ctx context.Context) (TicketLog, error) {
	info, err := q.bucket(ctx, names.WaitingBucket)
	if err != nil {
		return TicketLog{}, err
	}
	return TicketLog{Made: info.Created, First: info.State.FirstSeq, Last: info.State.LastSeq}, nil
}

// TicketsAfter calls tell for the changes of tickets after a revision, in their order, but without those that a later one has
// replaced.
func (q *Queue) TicketsAfter(ctx context.Context, revision uint64, tell func(Change[Ticket])) error {
	answers, err := q.nc.SubscribeSync(q.nc.NewInbox())
	if err != nil {
		return fmt.Errorf("read tickets: %w", err)
	}
	defer func() { _ = answers.Unsubscribe() }() // the connection may be closed already
	for {
		before := revision
		want := batchGet{Sequence: revision + 1, Subject: kvSubject(q.waiting, ">"), Batch: replayBatch}
		complete, err := q.gets(ctx, answers, names.BucketStream(names.WaitingBucket), want, func(msg *nats.Msg) error {
			e := ticketEntry(msg, q.waiting.Bucket())
			revision = e.Revision
			c, _ := Decode(e, TicketOf) // the phase says whether it is valid
			tell(c)
			return nil
		})
		switch {
		case err != nil:
			return fmt.Errorf("read tickets: %w", err)
		case complete:
			return nil
		case revision == before:
			return fmt.Errorf("read tickets: %w", nats.ErrNoResponders)
		}
	}
}

// ticketEntry is a stored message of a bucket, as a direct get gives it.
func ticketEntry(msg *nats.Msg, bucket string) Entry {
	subject := names.Added(msg.Header, natsjs.SubjectHeader)
	e := Entry{Phase: Put, Value: msg.Data, Revision: sequenceOf(msg)}
	if prefix := names.KeySubject(bucket, ""); len(subject) > len(prefix) {
		e.Key = subject[len(prefix):]
	}
	e.Time = storedAt(msg)
	if operationOf(msg.Header) != natsjs.KeyValuePut {
		e.Phase = Gone
	}
	return e
}

// ticketLine is a change of a ticket in a relay.
type ticketLine struct {
	Key      string          `json:"ticket"`
	Revision uint64          `json:"revision"`
	Time     time.Time       `json:"time"`
	Value    json.RawMessage `json:"value,omitempty"` // none: it does not wait any more
}

func appendTicket(b []byte, c *Change[Ticket]) []byte {
	line := ticketLine{Key: c.Key, Revision: c.Revision, Time: c.Time}
	if c.Phase == Put {
		line.Value, _ = json.Marshal(&c.Value) // it was encoded before
	}
	raw, err := json.Marshal(&line)
	if err != nil { // a year that JSON has no form for
		return b
	}
	return append(append(b, raw...), '\n')
}

func decodeTicket(line []byte) (Change[Ticket], error) {
	var t ticketLine
	if err := json.Unmarshal(line, &t); err != nil {
		return Change[Ticket]{}, fmt.Errorf("decode the ticket: %w", err)
	}
	e := Entry{Phase: Put, Key: t.Key, Value: t.Value, Revision: t.Revision, Time: t.Time}
	if _, err := TicketAt(t.Key); err != nil {
		return Change[Ticket]{}, err
	}
	if len(t.Value) == 0 {
		e.Phase = Gone
	}
	return Decode(e, TicketOf)
}
