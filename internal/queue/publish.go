package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

// storeTimeout bounds one publish into a stream.
const storeTimeout = 5 * time.Second

// store publishes msg into the stream of its subject and gives its sequence there, as nats.go's PublishMsg does for twice the CPU;
// every job has three events. When no server answers for the stream, which may be choosing a leader, nats.go tries again.
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

// decodeAck reads a publish ack and gives the sequence of the stored message, which is at least 1.
func decodeAck(body []byte) (uint64, error) {
	r := plainReader{src: string(body)}
	r.text(`{"stream":"`)
	r.optional(`,"domain":"`)
	sequence := r.count(`,"seq":`)
	if r.must(`}`); r.whole() && sequence > 0 {
		return uint64(sequence), nil
	}
	var ack struct {
		Error    *natsjs.APIError `json:"error"`
		Sequence uint64           `json:"seq"`
	}
	switch err := json.Unmarshal(body, &ack); {
	case err != nil || ack.Error == nil && ack.Sequence == 0:
		return 0, natsjs.ErrInvalidJSAck
	case ack.Error != nil:
		return 0, fmt.Errorf("nats: %w", ack.Error)
	}
	return ack.Sequence, nil
}
