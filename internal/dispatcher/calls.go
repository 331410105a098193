package dispatcher

import (
	"context"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// api is what this dispatcher answers, each call as soon as all that is stored in NATS has been read.
func (d *Dispatcher) api() queue.API {
	calls, tenantCalls := d.endpoints(), d.tenantEndpoints()
	for name, endpoint := range calls {
		calls[name] = func(ctx context.Context, body []byte) (any, error) {
			if err := d.loop.ready(ctx); err != nil {
				return nil, err
			}
			begun := time.Now()
			answer, err := endpoint(ctx, body)
			d.metrics.called(name, err, begun)
			return answer, err
		}
	}
	for name, endpoint := range tenantCalls {
		tenantCalls[name] = func(ctx context.Context, tenant job.Tenant, r queue.TenantRequest) (queue.TenantReply, error) {
			if err := d.loop.ready(ctx); err != nil {
				return queue.TenantReply{}, err
			}
			begun := time.Now()
			reply, err := endpoint(ctx, tenant, r)
			d.metrics.called("tenant_"+name, err, begun)
			return reply, err
		}
	}
	for name := range calls {
		d.metrics.calls.WithLabelValues(name)
	}
	for name := range tenantCalls {
		d.metrics.calls.WithLabelValues("tenant_" + name)
	}
	return queue.API{Version: d.cfg.Version, Calls: calls, TenantCalls: tenantCalls}
}

// endpoints are the calls of comfy.api.<name>, which are the operator's.
func (d *Dispatcher) endpoints() map[string]queue.Endpoint {
	return map[string]queue.Endpoint{
		"status":   answering(d.apiStatus),
		"hosts":    answering(d.apiHosts),
		"blocks":   answering(d.apiBlocks),
		"unblock":  answering(d.apiUnblock),
		"why":      answering(d.apiWhy),
		"queue":    answering(d.apiQueue),
		"jobs":     answering(d.apiJobs),
		"job":      answering(d.apiJob),
		"overview": answering(d.apiOverview),
		"waiting":  answering(d.apiWaiting),

		"workflows":   answering(d.apiWorkflows),
		"dispatchers": answering(d.apiDispatchers),
		"settings":    answering(d.apiSettings),
		"cancel":      answering(d.apiCancel),
		"dead":        answering(d.apiDead),
		"requeue":     answering(d.apiRequeue),
		"purge":       answering(d.apiPurge),
		"affinity":    answering(d.apiAffinity),
		"tenants":     answering(d.apiTenants),
		"drain":       answering(d.apiDrain),

		"webhooks":           answering(d.apiWebhooks),
		"webhooks.set":       answering(d.apiWebhooksSet),
		"webhooks.remove":    answering(d.apiWebhooksRemove),
		"webhooks.rotate":    answering(d.apiWebhooksRotate),
		"webhooks.test":      answering(d.apiWebhooksTest),
		"webhooks.redeliver": answering(d.apiWebhooksRedeliver),
	}
}

// answering decodes the request for a typed endpoint; an empty request is an empty object.
func answering[Request, Answer any](call func(context.Context, Request) (Answer, error)) queue.Endpoint {
	return func(ctx context.Context, body []byte) (any, error) {
		var request Request
		if err := queue.DecodeRequest(body, &request); err != nil {
			return nil, err
		}
		return call(ctx, request)
	}
}
