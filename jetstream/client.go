package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/comfyherd/comfyherd/internal/names"
)

// Client is a tenant's access to the queue. It uses comfy.jobs.<tenant>.*, comfy.tenants.<tenant>.>,
// comfy.events.jobs.<tenant>.> and comfy.live.jobs.<tenant>.>, and nothing else of NATS: no stream, no bucket, no
// JetStream API. So it works with credentials that allow a tenant these subjects alone. It is safe for use by many
// goroutines and never closes its connection.
type Client struct {
	nc     *nats.Conn
	tenant Tenant
	again  time.Duration // askAgain, except in tests
	clock  answerClock
}

// CallTime is how long a dispatcher takes at most for a call of a tenant.
const CallTime = 15 * time.Second

const (
	answerGrace   = 3 * time.Second // how much longer than CallTime an answer is waited for
	stoppingPause = 100 * time.Millisecond
	retryPause    = 250 * time.Millisecond // before a call is made again
	askAgain      = 5 * time.Second        // without an answer until a call that changes nothing is sent again
)

// NewClient makes a tenant's client on a connection. It sends nothing. The first call fails when the name is not that of a
// tenant, or when the connection has no permissions for it.
func NewClient(nc *nats.Conn, tenant Tenant) *Client {
	return &Client{nc: nc, tenant: tenant, again: askAgain}
}

// Tenant is the tenant that the client acts for.
func (c *Client) Tenant() Tenant { return c.tenant }

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

// answerTo is call with a new answer.
func answerTo[A any](ctx context.Context, c *Client, name string, request any) (a A, err error) {
	err = c.call(ctx, name, request, &a)
	return a, err
}

// exchange sends a call with headers and bytes as they are. When the dispatcher that receives it is stopping and has not begun,
// it sends the call again.
func (c *Client) exchange(ctx context.Context, name string, header nats.Header, body []byte) (*nats.Msg, error) {
	if !c.tenant.Valid() {
		return nil, noTenant(c.tenant)
	}
	subject := names.TenantPrefix + string(c.tenant) + "." + name
	ctx, cancel := context.WithTimeout(ctx, CallTime+answerGrace)
	defer cancel()
	for said := error(nil); ; {
		asked := time.Now()
		reply, err := c.ask(ctx, name, &nats.Msg{Subject: subject, Header: header, Data: body})
		if _, stopping := errors.AsType[*Stopping](err); stopping && pause(ctx, stoppingPause) {
			said = err
			continue
		}
		if err != nil && said != nil && ctx.Err() != nil {
			return nil, said // more helpful than that the time is over
		}
		if err == nil {
			c.clock.set(reply, asked)
		}
		return reply, err
	}
}

// ask sends a request, and sends one that changes nothing again each time that no answer has come for a while: nats-server drops
// answers that are on their way while an account is updated. The first answer to any of them counts, so that a slow dispatcher's
// is not lost either.
func (c *Client) ask(ctx context.Context, name string, msg *nats.Msg) (*nats.Msg, error) {
	if !repeatable(name) {
		return Ask(ctx, c.nc, msg)
	}
	ctx, cancel := context.WithCancel(ctx)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	type outcome struct {
		reply *nats.Msg
		err   error
	}
	outcomes := make(chan outcome)
	send := func() {
		asking.Go(func() {
			reply, err := Ask(ctx, c.nc, &nats.Msg{Subject: msg.Subject, Header: msg.Header, Data: msg.Data})
			select {
			case outcomes <- outcome{reply, err}:
			case <-ctx.Done():
			}
		})
	}
	send()
	tick := time.NewTicker(c.again)
	defer tick.Stop()
	for {
		select {
		case o := <-outcomes:
			return o.reply, o.err
		case <-tick.C:
			send()
		case <-ctx.Done():
			return nil, fmt.Errorf("ask the dispatchers on %s: %w", msg.Subject, ctx.Err())
		}
	}
}

// repeatable reports whether a call changes nothing.
func repeatable(call string) bool {
	switch call {
	case "status", "why", "jobs", "events", "dead", "queue", "job", "waiting", "workflows", "file.get", "file.stat", "webhooks":
		return true
	}
	return false
}

// Ask sends a request to the dispatchers and gives its answer, or the error that it carries: BadRequest or one of those
// beside it. It is for calls that no method of Client makes.
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
