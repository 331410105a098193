package queue

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// storeTimeout bounds one publish into a stream.
const storeTimeout = 5 * time.Second

// store publishes msg into the stream of its subject and gives its sequence there, as nats.go's PublishMsg does; it
// costs half as much, which three events of every job notice. A stream that nobody answers for is left to nats.go,
// which tries again: it may be choosing a leader.
func (q *Queue) store(ctx context.Context, msg *nats.Msg) (uint64, error) {
	answer, err := q.calls.ask(ctx, msg, storeTimeout)
	if errors.Is(err, nats.ErrNoResponders) {
		msg.Reply = ""
		ack, err := q.js.PublishMsg(ctx, msg)
		if err != nil {
			return 0, err
		}
		return ack.Sequence, nil
	}
	if err != nil {
		return 0, err
	}
	return decodeAck(answer.Data)
}

// decodeAck reads a publish ack: the server's usual one without reflection.
func decodeAck(body []byte) (uint64, error) {
	if sequence, usual := usualAck(body); usual {
		return sequence, nil
	}
	var ack struct {
		Error *natsjs.APIError `json:"error"`
		natsjs.PubAck
	}
	switch err := json.Unmarshal(body, &ack); {
	case err != nil || ack.Error == nil && ack.Stream == "":
		return 0, natsjs.ErrInvalidJSAck
	case ack.Error != nil:
		return 0, fmt.Errorf("nats: %w", ack.Error)
	}
	return ack.Sequence, nil
}

// usualAck reads {"stream":"S","seq":7}, with or without a domain.
func usualAck(body []byte) (sequence uint64, ok bool) {
	begin, number, _ := bytes.Cut(body, []byte(`","seq":`))
	stream, named := bytes.CutPrefix(begin, []byte(`{"stream":"`))
	number, whole := bytes.CutSuffix(number, []byte("}"))
	if !named || !whole || len(stream) == 0 {
		return 0, false
	}
	sequence, err := strconv.ParseUint(string(number), 10, 64)
	return sequence, err == nil
}
