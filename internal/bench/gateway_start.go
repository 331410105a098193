package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// StartResult compares a prompt of a gateway's client with the same job of a program on NATS. They come in turn, one by one.
type StartResult struct {
	Prompts int    `json:"prompts"` // of each
	Gateway Spread `json:"gateway"` // POST /prompt until execution_start has come on the websocket
	NATS    Spread `json:"nats"`    // publish until the same message has come as a frame
	Answer  Spread `json:"answer"`  // POST /prompt until its answer
}

const mostStarts = 500 // of each

// measureStart runs prompts one by one, in turn over the gateway and on NATS.
func (b *gatewayBench) measureStart(ctx context.Context) (*StartResult, error) {
	conn, err := b.dial(ctx, "bench")
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	frames, ended := make(chan queue.Frame, 1024), make(chan struct{})
	following, stop := context.WithCancel(ctx)
	go func() {
		defer close(ended)
		err := b.q.FollowFrames(following, gatewayTenant, func(f queue.Frame) {
			select {
			case frames <- f:
			case <-following.Done():
			}
		})
		if err != nil && following.Err() == nil {
			b.place.fail(err)
		}
	}()
	defer func() {
		stop()
		<-ended
	}()
	over, bare, answer := &samples{}, &samples{}, &samples{}
	began, n := time.Now(), 0
	for ; n < mostStarts && (n < 3 || time.Since(began) < b.cfg.Time); n++ {
		if err := b.overGateway(ctx, conn, n, over, answer); err != nil {
			return nil, err
		}
		if err := b.overNATS(ctx, frames, n, bare); err != nil {
			return nil, err
		}
		b.cfg.Progress(Progress{Stage: startStage, Done: n, Total: mostStarts})
	}
	return &StartResult{Prompts: n, Gateway: over.spread(), NATS: bare.spread(), Answer: answer.spread()}, nil
}

// dial opens a websocket and reads the first message.
func (b *gatewayBench) dial(ctx context.Context, client string) (*websocket.Conn, error) {
	conn, response, err := websocket.DefaultDialer.DialContext(ctx, strings.Replace(b.base, "http", "ws", 1)+"/ws?clientId="+client, nil)
	if err != nil {
		return nil, fmt.Errorf("open a websocket: %w", err)
	}
	_ = response.Body.Close()
	if _, _, err = conn.ReadMessage(); err != nil {
		return nil, fmt.Errorf("read the first message of a websocket: %w", err)
	}
	return conn, nil
}

// drawing is a small prompt; each has another colour, so that no host answers it from its cache.
func drawing(colour int) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"1":{"class_type":"EmptyImage","inputs":{"width":16,"height":16,"batch_size":1,"color":%d}},`+
		`"2":{"class_type":"PreviewImage","inputs":{"images":["1",0]}}}`, colour))
}

func (b *gatewayBench) overGateway(ctx context.Context, conn *websocket.Conn, n int, over, answer *samples) error {
	id := uuid.NewString()
	body := fmt.Sprintf(`{"prompt":%s,"client_id":"bench","prompt_id":%q}`, drawing(2*n), id)
	began := time.Now()
	posted := make(chan error, 1)
	go func() {
		_, err := b.request(ctx, http.MethodPost, "/prompt", strings.NewReader(body))
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

func (b *gatewayBench) overNATS(ctx context.Context, frames <-chan queue.Frame, n int, bare *samples) error {
	id := job.ID(uuid.NewString())
	began := time.Now()
	_, err := b.q.Submit(ctx, job.Lane{Tenant: gatewayTenant, Priority: job.Usual}, job.Spec{ID: id, Workflow: drawing(2*n + 1), Live: job.LiveFrames})
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
	for _, err := range b.q.Client(gatewayTenant).FollowMany(ctx, []job.ID{id}) { // until it has ended
		if err != nil {
			return err
		}
	}
	return nil
}
