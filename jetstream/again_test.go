package jetstream_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/jetstream"
)

// nats-server drops answers while it updates an account. The dispatcher here gives none to the first request of each call.
func TestACallThatChangesNothingIsSentAgainWhenNoAnswerComes(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	acme := jetstream.NewClient(connect(t, url), "acme")
	acme.AskAgainAfter(20 * time.Millisecond)
	for call, ask := range map[string]func() error{
		"status":    func() error { _, err := acme.Status(t.Context(), "a"); return err },
		"why":       func() error { _, err := acme.Why(t.Context(), jetstream.WhyRequest{Job: "a"}); return err },
		"jobs":      func() error { _, err := acme.Jobs(t.Context(), jetstream.JobsRequest{}); return err },
		"events":    func() error { _, err := acme.Events(t.Context(), jetstream.EventsRequest{}); return err },
		"dead":      func() error { _, err := acme.Dead(t.Context(), jetstream.DeadRequest{}); return err },
		"queue":     func() error { _, err := acme.Queue(t.Context()); return err },
		"job":       func() error { _, err := acme.Story(t.Context(), "a"); return err },
		"waiting":   func() error { _, err := acme.Waiting(t.Context(), jetstream.WaitingRequest{}); return err },
		"workflows": func() error { _, err := acme.Workflows(t.Context(), jetstream.WorkflowsRequest{}); return err },
		"webhooks":  func() error { _, err := acme.Webhooks(t.Context(), jetstream.WebhooksRequest{}); return err },
		"file.get": func() error {
			_, err := acme.GetPiece(t.Context(), jetstream.FileRequest{Name: "acme/a"})
			return err
		},
		"file.stat": func() error { _, err := acme.StatFile(t.Context(), "acme/a"); return err },
	} {
		var asked atomic.Int64
		answerAll(t, url, "comfy.tenants.acme."+call, func(msg *nats.Msg) {
			if asked.Add(1) > 1 {
				_ = msg.RespondMsg(&nats.Msg{Header: nats.Header{"Comfy-File-Size": {"2"}, "Comfy-Offset": {"0"}}, Data: []byte("{}")})
			}
		})
		if err := ask(); err != nil || asked.Load() < 2 {
			t.Errorf("%s was asked %d times: %v", call, asked.Load(), err)
		}
	}
}

func TestACallThatChangesSomethingIsSentOnce(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	acme := jetstream.NewClient(connect(t, url), "acme")
	acme.AskAgainAfter(time.Millisecond)
	var cancels atomic.Int64
	waited := make(chan struct{}) // until another call was sent several times
	answerAll(t, url, "comfy.tenants.acme.cancel", func(msg *nats.Msg) {
		if cancels.Add(1) == 1 {
			go func() {
				<-waited
				_ = msg.Respond([]byte("{}"))
			}()
		}
	})
	var queues atomic.Int64
	answerAll(t, url, "comfy.tenants.acme.queue", func(msg *nats.Msg) {
		if queues.Add(1) == 5 {
			_ = msg.Respond([]byte("{}"))
		}
	})
	done := make(chan error, 1)
	go func() {
		_, err := acme.Cancel(t.Context(), jetstream.CancelRequest{All: true})
		done <- err
	}()
	if _, err := acme.Queue(t.Context()); err != nil {
		t.Error(err)
	}
	close(waited)
	if err := <-done; err != nil || cancels.Load() != 1 {
		t.Errorf("cancel was sent %d times: %v", cancels.Load(), err)
	}
}

// answerAll receives requests on a connection of its own.
func answerAll(t *testing.T, url, subject string, answer nats.MsgHandler) {
	t.Helper()
	nc := connect(t, url)
	if _, err := nc.Subscribe(subject, answer); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}
