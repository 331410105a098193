package queue_test

import (
	"errors"
	"testing"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/queue"
)

func TestAnAckGivesTheSequenceOfTheStoredMessage(t *testing.T) {
	t.Parallel()
	got, err := queue.DecodeAck([]byte(`{"stream":"COMFY_EVENTS","seq":17,"duplicate":true}`))
	if got != 17 || err != nil {
		t.Errorf("the ack gives %d and %v, want 17", got, err)
	}
}

// An everyday ack is read without encoding/json, which takes more allocations; each job has three.
func TestAnEverydayAckIsReadWithoutDecodingIt(t *testing.T) { //nolint:paralleltest // it counts the allocations of the process
	for _, body := range []string{`{"stream":"COMFY_EVENTS","seq":17}`, `{"stream":"COMFY_EVENTS","domain":"hub","seq":17}`} {
		if got, err := queue.DecodeAck([]byte(body)); got != 17 || err != nil {
			t.Errorf("%s gives %d and %v, want 17", body, got, err)
		}
		if n := testing.AllocsPerRun(10, func() { _, _ = queue.DecodeAck([]byte(body)) }); n > 2 {
			t.Errorf("to read %s allocates %.0f times", body, n)
		}
	}
}

func TestAnAnswerWithoutASequenceIsNoAck(t *testing.T) {
	t.Parallel()
	for _, body := range []string{``, `+OK`, `{}`, `{"stream":"COMFY_EVENTS"}`, `{"stream":"COMFY_EVENTS","seq":0}`, `{"seq":"17"}`, `{"seq":-1}`} {
		if _, err := queue.DecodeAck([]byte(body)); !errors.Is(err, natsjs.ErrInvalidJSAck) {
			t.Errorf("%q is taken for an ack, or its error is %v", body, err)
		}
	}
}

func TestARefusedMessageGivesTheErrorOfJetStream(t *testing.T) {
	t.Parallel()
	_, err := queue.DecodeAck([]byte(`{"error":{"code":400,"err_code":10071,"description":"wrong last sequence"},"stream":"COMFY_EVENTS","seq":0}`))
	if api, is := errors.AsType[*natsjs.APIError](err); !is || api.ErrorCode != 10071 {
		t.Errorf("the error is %v, want JetStream's with the code 10071", err)
	}
}
