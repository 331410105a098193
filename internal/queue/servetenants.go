package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/jetstream"
)

// TenantRequest is a call on comfy.tenants.<tenant>.<call> as it came.
type TenantRequest struct {
	Header nats.Header
	Body   []byte
}

// TenantReply is the answer to a TenantRequest. One that is larger than NATS' max_payload is replaced by a TooBig.
type TenantReply struct {
	Header nats.Header
	Body   []byte
}

// TenantEndpoint answers one call. The tenant is a valid name, taken from the subject, which NATS permits only to callers of that
// tenant. The context ends after 15 s. The caller gets an error with its code: see jetstream.BadRequest and the types beside it.
type TenantEndpoint func(ctx context.Context, tenant job.Tenant, r TenantRequest) (TenantReply, error)

// TenantJSON makes an endpoint of a call whose request and answer are JSON objects; an empty request is {}. A request
// that names another tenant than the subject does is a BadRequest.
func TenantJSON[Request, Answer any](call func(context.Context, job.Tenant, Request) (Answer, error)) TenantEndpoint {
	return func(ctx context.Context, tenant job.Tenant, r TenantRequest) (TenantReply, error) {
		var request Request
		if err := decodeOwn(r.Body, tenant, &request); err != nil {
			return TenantReply{}, err
		}
		answer, err := call(ctx, tenant, request)
		if err != nil {
			return TenantReply{}, err
		}
		body, err := json.Marshal(answer)
		return TenantReply{Body: body}, wrap(err, "encode the answer")
	}
}

// decodeOwn reads the request of a call of a tenant.
func decodeOwn(body []byte, tenant job.Tenant, request any) error {
	var named struct {
		Tenant job.Tenant `json:"tenant"`
	}
	if err := DecodeRequest(body, &named); err != nil {
		return err
	}
	if named.Tenant != "" && named.Tenant != tenant {
		return &jetstream.BadRequest{Message: fmt.Sprintf("the request names tenant %.64q, and the subject tenant %s: leave tenant out of the request", named.Tenant, tenant)}
	}
	return DecodeRequest(body, request)
}

// DecodeRequest reads the request of a call; an empty one is {}.
func DecodeRequest(body []byte, request any) error {
	if len(body) == 0 {
		return nil
	}
	if err := json.Unmarshal(body, request); err != nil {
		return &jetstream.BadRequest{Message: "the request is not a JSON object with the fields of this call: " + err.Error()}
	}
	return nil
}

// serveTenants adds the tenants' calls to the service.
func (d *callServer) serveTenants(ctx context.Context, service micro.Service, endpoints map[string]TenantEndpoint) error {
	for name, endpoint := range endpoints {
		handler := micro.HandlerFunc(func(r micro.Request) { d.serveTenant(ctx, callOf(r), endpoint) })
		if err := service.AddEndpoint("tenant-"+strings.ReplaceAll(name, ".", "-"), handler, micro.WithEndpointSubject(names.TenantPrefix+"*."+name)); err != nil {
			return fmt.Errorf("serve the call %s of tenants: %w", name, err)
		}
	}
	return nil
}

func (d *callServer) serveTenant(ctx context.Context, c *callIn, endpoint TenantEndpoint) {
	name, _, _ := strings.Cut(strings.TrimPrefix(c.subject, names.TenantPrefix), ".")
	tenant := job.Tenant(name)
	if !tenant.Valid() {
		d.reply(c, nil, &jetstream.BadRequest{Message: fmt.Sprintf("%.80q is no tenant name: use 1 to 64 of A-Z a-z 0-9 _ -", name)})
		return
	}
	d.take(ctx, c, name, callsPerTenant, jetstream.CallTime, func(ctx context.Context) (*nats.Msg, error) {
		reply, err := endpoint(ctx, tenant, TenantRequest{Header: c.header, Body: c.body})
		return &nats.Msg{Header: reply.Header, Data: reply.Body}, err
	})
}
