package jetstream_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/jetstream"
)

func TestAClientsClockIsSetByAnswers(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	dispatcher, nc := connect(t, url), connect(t, url)
	there := time.Now().AddDate(3, 0, 0)
	headers := []string{"", "soon", there.UTC().Format(time.RFC3339Nano)}
	_, err := dispatcher.Subscribe("comfy.tenants.acme.queue", func(msg *nats.Msg) {
		answer := nats.NewMsg(msg.Reply)
		answer.Data = []byte("{}")
		answer.Header.Set("Comfy-Time", headers[0])
		headers = headers[1:]
		_ = msg.RespondMsg(answer) // a lost answer fails the test
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := dispatcher.Flush(); err != nil {
		t.Fatal(err)
	}
	client := jetstream.NewClient(nc, "acme")
	for _, want := range []int{time.Now().Year(), time.Now().Year(), there.Year()} {
		if _, err := client.Queue(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := client.Now(); got.Year() != want && got.AddDate(0, 0, -1).Year() != want {
			t.Errorf("now is %v, want the year %d", got, want)
		}
	}
}
