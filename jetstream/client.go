package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
)

// Client is a tenant's access to the queue. It uses comfy.jobs.<tenant>.*, comfy.tenants.<tenant>.>,
// comfy.events.jobs.<tenant>.> and comfy.live.jobs.<tenant>.>, and nothing else of NATS: no stream, no bucket, no
// JetStream API. So it works with credentials that allow a tenant these subjects alone. It is safe for use by many
// goroutines and never closes its connection.
type Client struct {
	nc     *nats.Conn
	tenant job.Tenant
	clock  answerClock
}

// CallTime is the longest time that a dispatcher works on a tenant's call; then it answers with a Failed.
const CallTime = 15 * time.Second

const (
	answerGrace   = 3 * time.Second        // how much longer than CallTime a call waits for its answer
	stoppingPause = 100 * time.Millisecond // before a call that a stopping dispatcher refused is made again
	retryPause    = 250 * time.Millisecond // before a call that got no answer is made again
)

// NewClient makes a client that acts for a tenant on a connection. It sends nothing: an invalid tenant name, or missing
// permissions in NATS, are errors of the first call.
func NewClient(nc *nats.Conn, tenant job.Tenant) *Client { return &Client{nc: nc, tenant: tenant} }

// Tenant is the tenant for which the client acts.
func (c *Client) Tenant() job.Tenant { return c.tenant }

// call asks the dispatchers for comfy.tenants.<tenant>.<name>, with a request and an answer that are JSON.
func (c *Client) call(ctx context.Context, name string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("encode request %s: %w", name, err)
	}
	reply, err := c.exchange(ctx, name, nil, body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(reply.Data, answer); err != nil {
		return fmt.Errorf("decode the answer to %s: %w", name, err)
	}
	return nil
}

// exchange is call with headers, and bodies as they are. A call that a stopping dispatcher refused is made again.
func (c *Client) exchange(ctx context.Context, name string, header nats.Header, body []byte) (*nats.Msg, error) {
	if !c.tenant.Valid() {
		return nil, noTenant(c.tenant)
	}
	subject := names.TenantPrefix + string(c.tenant) + "." + name
	ctx, cancel := context.WithTimeout(ctx, CallTime+answerGrace)
	defer cancel()
	for refusal := error(nil); ; {
		asked := time.Now()
		reply, err := Ask(ctx, c.nc, &nats.Msg{Subject: subject, Header: header, Data: body})
		if _, stopping := errors.AsType[*Stopping](err); stopping && pause(ctx, stoppingPause) {
			refusal = err
			continue
		}
		if err != nil && refusal != nil && ctx.Err() != nil {
			return nil, refusal // it says more than a timeout does
		}
		if err == nil {
			c.clock.set(reply, asked)
		}
		return reply, err
	}
}

// Ask sends a request to the dispatchers and gives the answer of the one that received it, or the error that the answer carries: a
// BadRequest or another of those types. It is for calls that no method of Client makes. ctx needs a deadline.
func Ask(ctx context.Context, nc *nats.Conn, msg *nats.Msg) (*nats.Msg, error) {
	reply, err := nc.RequestMsgWithContext(ctx, msg)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return nil, fmt.Errorf("no dispatcher is running on this NATS: start one with `dispatcher run`: %w", err)
	case errors.Is(err, nats.ErrMaxPayload):
		return nil, &TooBig{Message: fmt.Sprintf("the request has %d bytes, and NATS takes at most %d in a message", len(msg.Data), nc.MaxPayload())}
	case err != nil:
		return nil, fmt.Errorf("ask the dispatchers on %s: %w", msg.Subject, err)
	}
	if text := reply.Header.Get(micro.ErrorHeader); text != "" {
		return nil, errorOfCode(reply.Header.Get(micro.ErrorCodeHeader), text)
	}
	return reply, nil
}

// pause reports whether d has passed before ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
