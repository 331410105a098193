package queue

import (
	"bufio"
	"bytes"
	"compress/flate"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/names"
)

// Relay is what a dispatcher sends to the other dispatchers about the hosts that it is home to, and about the tickets that it has
// written or claimed. In a large fleet they receive these batches instead of the states that agents send and of the watch of
// tickets.
//
// On the wire it is lines of JSON, compressed with deflate: a line with the batch's other fields, then one for each ticket and for each
// state, as agents send them.
type Relay struct {
	From    string           `json:"from"`
	Gone    []string         `json:"gone,omitempty"` // hosts whose presence has ended
	Tickets []Change[Ticket] `json:"-"`              // Put, or Gone
	States  []HostState      `json:"-"`              // of one host in the order of their serials
}

const (
	relayRaw  = 256 << 10 // bytes of states in one message, before they are compressed
	relayMost = 4 << 20   // bytes that a received message may have when it is decompressed
)

// Relay sends r to all dispatchers, in several messages when it is large.
func (q *Queue) Relay(r *Relay) error {
	for _, body := range r.encode() {
		if err := q.nc.Publish(names.RelaySubject(r.From), body); err != nil {
			return wrap(err, "relay hosts of dispatcher %s", r.From)
		}
	}
	return nil
}

// encode gives the bodies of the messages, at least one.
func (r *Relay) encode() [][]byte {
	var bodies [][]byte
	head, _ := json.Marshal(r) // strings can always be encoded
	next := append(head, '\n')
	full := func() {
		if len(next) >= relayRaw {
			bodies = append(bodies, deflated(next))
			next, _ = json.Marshal(&Relay{From: r.From})
			next = append(next, '\n')
		}
	}
	for i := range r.Tickets {
		next = appendTicket(next, &r.Tickets[i])
		full()
	}
	for i := range r.States {
		next = append(r.States[i].AppendJSON(next), '\n')
		full()
	}
	return append(bodies, deflated(next))
}

func deflated(raw []byte) []byte {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.BestSpeed) // the level is valid, and a buffer fails no write
	_, _ = w.Write(raw)
	_ = w.Close()
	return b.Bytes()
}

// decodeRelay reads a message of the dispatcher from. A state or ticket that is not valid is left out.
func decodeRelay(from string, body []byte) (Relay, error) {
	unpacked := flate.NewReader(bytes.NewReader(body))
	raw, err := io.ReadAll(io.LimitReader(unpacked, relayMost+1))
	if err != nil {
		return Relay{}, fmt.Errorf("decompress the hosts of dispatcher %s: %w", from, err)
	}
	if len(raw) > relayMost {
		return Relay{}, fmt.Errorf("the hosts of dispatcher %s have more than %d bytes", from, relayMost)
	}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, relayMost)
	if !lines.Scan() {
		return Relay{}, errors.New("the message is empty")
	}
	var r Relay
	if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
		return Relay{}, fmt.Errorf("decode the hosts of dispatcher %s: %w", from, err)
	}
	if r.From != from || len(r.Gone) > mostSlots {
		return Relay{}, fmt.Errorf("the message of dispatcher %s has the sender %.80q", from, r.From)
	}
	for lines.Scan() {
		if bytes.HasPrefix(lines.Bytes(), []byte(`{"ticket":`)) {
			if c, err := decodeTicket(lines.Bytes()); err == nil {
				r.Tickets = append(r.Tickets, c)
			}
			continue
		}
		if s, err := decodeState(lines.Bytes()); err == nil && s.check() == nil {
			r.States = append(r.States, s)
		}
	}
	return r, nil
}

// FollowRelays calls tell for every relay of every dispatcher, also of this one, until ctx ends.
func (q *Queue) FollowRelays(ctx context.Context, tell func(Relay)) error {
	return q.serve(ctx, names.Relays, func(msg *nats.Msg) {
		if r, err := decodeRelay(names.RelaySender(msg.Subject), msg.Data); err == nil {
			tell(r)
		}
	})
}

// Presence reads one host's presence as its watch gives it: Gone when there is none.
func (q *Queue) Presence(ctx context.Context, host string) (Change[HostState], error) {
	return readOne(ctx, q.readHosts, q.hosts, host, HostStateOf)
}
