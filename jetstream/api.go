package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

// APIName is the name of the micro service that every dispatcher is.
const APIName = "comfy-dispatcher"

const (
	apiPrefix  = "comfy.api."
	apiTimeout = 10 * time.Second
	apiAtOnce  = 64 // calls that a dispatcher answers at a time; more wait their turn
)

// Endpoint answers one call of the API: request JSON in, an answer to encode out.
type Endpoint func(ctx context.Context, request []byte) (any, error)

// BadRequest is an error of the asker's, told with code 400; NotFound with 404; all others with 500.
type BadRequest struct{ Message string }

func (e *BadRequest) Error() string { return e.Message }

// NotFound says that what was asked for is not there.
type NotFound struct{ Message string }

func (e *NotFound) Error() string { return e.Message }

// ServeAPI answers comfy.api.<name> for every endpoint until ctx ends. All dispatchers share the calls.
func (q *Queue) ServeAPI(ctx context.Context, version string, endpoints map[string]Endpoint) error {
	service, err := micro.AddService(q.nc, micro.Config{
		Name: APIName, Version: version, Description: "comfyherd dispatcher: jobs, hosts, blocks, tenants",
	})
	if err != nil {
		return fmt.Errorf("serve the API: %w", err)
	}
	atOnce := make(chan struct{}, apiAtOnce)
	for name, endpoint := range endpoints {
		handler := micro.HandlerFunc(func(r micro.Request) {
			select {
			case atOnce <- struct{}{}:
			case <-ctx.Done():
				return
			}
			go func() {
				defer func() { <-atOnce }()
				q.serveCall(ctx, r, endpoint)
			}()
		})
		if err := service.AddEndpoint(strings.ReplaceAll(name, ".", "-"), handler, micro.WithEndpointSubject(apiPrefix+name)); err != nil {
			return errors.Join(fmt.Errorf("serve API call %s: %w", name, err), service.Stop())
		}
	}
	<-ctx.Done()
	_ = service.Stop()    // the connection may be closed already
	for range apiAtOnce { // until none is under way, after which none begins
		atOnce <- struct{}{}
	}
	return ctx.Err()
}

// serveCall loses an answer that cannot be sent: the asker's timeout covers it. It does not answer by r, which its
// service still reads when the handler has returned.
func (q *Queue) serveCall(ctx context.Context, r micro.Request, endpoint Endpoint) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	msg := nats.NewMsg(r.Reply())
	answer, err := endpoint(ctx, r.Data())
	if err == nil {
		msg.Data, err = json.Marshal(answer)
	}
	if limit := q.nc.MaxPayload(); err == nil && int64(len(msg.Data)) > limit {
		err = fmt.Errorf("the answer has %d bytes, and NATS takes at most %d in a message: ask for less, or raise max_payload", len(msg.Data), limit)
		msg.Data = nil
	}
	if err != nil {
		msg.Header.Set(micro.ErrorHeader, err.Error())
		msg.Header.Set(micro.ErrorCodeHeader, errorCode(err))
	}
	_ = q.nc.PublishMsg(msg)
}

func errorCode(err error) string {
	var bad *BadRequest
	var missing *NotFound
	switch {
	case errors.As(err, &bad):
		return "400"
	case errors.As(err, &missing):
		return "404"
	}
	return "500"
}

// Call asks the dispatchers' API. A missing dispatcher is an error that says so.
func (q *Queue) Call(ctx context.Context, name string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("encode request %s: %w", name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	msg, err := q.nc.RequestWithContext(ctx, apiPrefix+name, body)
	if errors.Is(err, nats.ErrNoResponders) {
		return fmt.Errorf("no dispatcher is running on this NATS: start one with `dispatcher run`: %w", err)
	}
	if err != nil {
		return fmt.Errorf("ask the dispatchers for %s: %w", name, err)
	}
	if text := msg.Header.Get(micro.ErrorHeader); text != "" {
		if msg.Header.Get(micro.ErrorCodeHeader) == "404" {
			return &NotFound{Message: text}
		}
		return &BadRequest{Message: text}
	}
	return wrap(json.Unmarshal(msg.Data, answer), "decode answer to %s", name)
}
