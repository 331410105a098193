package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// StartResult compares a prompt of a gateway's client with the same job that it publishes on NATS itself. They come in turn, one by one.
type StartResult struct {
	Prompts int    `json:"prompts"` // of each
	Gateway Spread `json:"gateway"` // POST /prompt until execution_start has come on the websocket
	NATS    Spread `json:"nats"`    // publish until the same message has come as a frame
	Answer  Spread `json:"answer"`  // POST /prompt until its answer
}

const mostStarts = 500 // of each

// measureStart has a process of its own, as the programs of users are, run prompts over the gateway and jobs on NATS.
func (b *gatewayBench) measureStart(ctx context.Context) (*StartResult, error) {
	b.cfg.Progress(Progress{Stage: startStage, Total: mostStarts})
	program, err := begin("the client", order{URL: b.place.url, Starts: b.client.base, Time: b.cfg.Time}, b.place.fail)
	if err != nil {
		return nil, err
	}
	report, err := program.askWithin(ctx, askStarts, stageLimit)
	return report.Starts, errors.Join(err, program.end())
}

// starter is the program that runs them.
type starter struct {
	q      *queue.Queue
	client *gatewayClient
	time   time.Duration

	result chan *StartResult
}

// run measures, and then waits until ctx ends.
func (s *starter) run(ctx, _ context.Context) error {
	defer s.client.http.CloseIdleConnections()
	result, err := s.measure(ctx)
	if err != nil {
		return err
	}
	s.result <- result
	<-ctx.Done()
	return nil
}

// measure runs prompts one by one, in turn over the gateway and on NATS.
func (s *starter) measure(ctx context.Context) (*StartResult, error) {
	conn, err := s.client.dial(ctx, "bench")
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	ctx, stop := context.WithCancelCause(ctx)
	frames, ended := make(chan queue.Frame, 1024), make(chan struct{})
	go func() {
		defer close(ended)
		stop(s.q.FollowFrames(ctx, gatewayTenant, func(f queue.Frame) {
			select {
			case frames <- f:
			case <-ctx.Done():
			}
		}))
	}()
	defer func() {
		stop(nil)
		<-ended
	}()
	over, bare, answer := &samples{}, &samples{}, &samples{}
	began, n := time.Now(), 0
	for ; n < mostStarts && (n < 3 || time.Since(began) < s.time); n++ {
		if err := s.overGateway(ctx, conn, n, over, answer); err != nil {
			return nil, err
		}
		if err := s.overNATS(ctx, frames, n, bare); err != nil {
			return nil, err
		}
	}
	return &StartResult{Prompts: n, Gateway: over.spread(), NATS: bare.spread(), Answer: answer.spread()}, nil
}

// drawing is a small prompt; each has another colour, so that no host answers it from its cache.
func drawing(colour int) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"1":{"class_type":"EmptyImage","inputs":{"width":16,"height":16,"batch_size":1,"color":%d}},`+
		`"2":{"class_type":"PreviewImage","inputs":{"images":["1",0]}}}`, colour))
}

func (s *starter) overGateway(ctx context.Context, conn *websocket.Conn, n int, over, answer *samples) error {
	id := uuid.NewString()
	body := fmt.Sprintf(`{"prompt":%s,"client_id":"bench","prompt_id":%q}`, drawing(2*n), id)
	began := time.Now()
	posted := make(chan error, 1)
	go func() {
		_, err := s.client.request(ctx, http.MethodPost, "/prompt", strings.NewReader(body))
		answer.add(time.Since(began))
		posted <- err
	}()
	for {
		_, text, err := conn.ReadMessage()
		if err != nil {
			return fmt.Errorf("read a websocket: %w", err)
		}
		if !bytes.Contains(text, []byte(id)) {
			continue
		}
		if bytes.HasPrefix(text, []byte(`{"type":"execution_start"`)) || bytes.HasPrefix(text, []byte(`{"type": "execution_start"`)) {
			over.add(time.Since(began))
		}
		if bytes.Contains(text, []byte(`"node":null`)) {
			return <-posted
		}
	}
}

func (s *starter) overNATS(ctx context.Context, frames <-chan queue.Frame, n int, bare *samples) error {
	id := job.ID(uuid.NewString())
	began := time.Now()
	_, err := s.q.Submit(ctx, job.Lane{Tenant: gatewayTenant, Priority: job.Usual}, job.Spec{ID: id, Workflow: drawing(2*n + 1), Live: job.LiveFrames})
	if err != nil {
		return err
	}
	for started := false; !started; {
		select {
		case f := <-frames:
			if started = f.Job == id && bytes.Contains(f.Data, []byte(`"execution_start"`)); started {
				bare.add(time.Since(began))
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for _, err := range s.q.Client(gatewayTenant).FollowMany(ctx, []job.ID{id}) { // until it has ended
		if err != nil {
			return err
		}
	}
	return nil
}
