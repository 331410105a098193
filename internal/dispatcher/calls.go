package dispatcher

import (
	"context"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

// api is what this dispatcher answers, each call as soon as it knows what stands in NATS.
func (d *Dispatcher) api() jetstream.API {
	calls, tenantCalls := d.endpoints(), d.tenantEndpoints()
	for name, endpoint := range calls {
		calls[name] = func(ctx context.Context, body []byte) (any, error) {
			if err := d.loop.ready(ctx); err != nil {
				return nil, err
			}
			return endpoint(ctx, body)
		}
	}
	for name, endpoint := range tenantCalls {
		tenantCalls[name] = func(ctx context.Context, tenant job.Tenant, r jetstream.TenantRequest) (jetstream.TenantReply, error) {
			if err := d.loop.ready(ctx); err != nil {
				return jetstream.TenantReply{}, err
			}
			return endpoint(ctx, tenant, r)
		}
	}
	return jetstream.API{Version: d.cfg.Version, Calls: calls, TenantCalls: tenantCalls}
}

// endpoints are the calls of comfy.api.<name>, which are the operator's.
func (d *Dispatcher) endpoints() map[string]jetstream.Endpoint {
	return map[string]jetstream.Endpoint{
		"status":   answering(d.apiStatus),
		"hosts":    answering(d.apiHosts),
		"blocks":   answering(d.apiBlocks),
		"unblock":  answering(d.apiUnblock),
		"why":      answering(d.apiWhy),
		"queue":    answering(d.apiQueue),
		"jobs":     answering(d.apiJobs),
		"cancel":   answering(d.apiCancel),
		"dead":     answering(d.apiDead),
		"requeue":  answering(d.apiRequeue),
		"purge":    answering(d.apiPurge),
		"affinity": answering(d.apiAffinity),
		"tenants":  answering(d.apiTenants),
		"drain":    answering(d.apiDrain),
	}
}

// answering decodes the request for a typed endpoint; an empty request is an empty object.
func answering[Request, Answer any](call func(context.Context, Request) (Answer, error)) jetstream.Endpoint {
	return func(ctx context.Context, body []byte) (any, error) {
		var request Request
		if err := jetstream.DecodeRequest(body, &request); err != nil {
			return nil, err
		}
		return call(ctx, request)
	}
}
