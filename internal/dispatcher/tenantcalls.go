package dispatcher

import (
	"context"
	"maps"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// tenantEndpoints are the calls of comfy.tenants.<tenant>.<name>. What they tell and change is the tenant's alone.
func (d *Dispatcher) tenantEndpoints() map[string]queue.TenantEndpoint {
	calls := map[string]queue.TenantEndpoint{
		"status":  queue.TenantJSON(d.tenantStatus),
		"why":     queue.TenantJSON(d.tenantWhy),
		"cancel":  queue.TenantJSON(d.tenantCancel),
		"queue":   queue.TenantJSON(d.tenantQueue),
		"dead":    queue.TenantJSON(d.tenantDead),
		"requeue": queue.TenantJSON(d.tenantRequeue),
		"jobs":    queue.TenantJSON(d.tenantJobs),
		"events":  queue.TenantJSON(d.tenantEvents),
		"job":     queue.TenantJSON(d.tenantJob),
		"waiting": queue.TenantJSON(d.tenantWaiting),

		"workflows": queue.TenantJSON(d.tenantWorkflows),
		"api_keys":  queue.TenantJSON(d.tenantAPIKeys),

		"webhooks":           queue.TenantJSON(d.tenantWebhooks),
		"webhooks.set":       queue.TenantJSON(d.tenantWebhooksSet),
		"webhooks.remove":    queue.TenantJSON(d.tenantWebhooksRemove),
		"webhooks.rotate":    queue.TenantJSON(d.tenantWebhooksRotate),
		"webhooks.test":      queue.TenantJSON(d.tenantWebhooksTest),
		"webhooks.redeliver": queue.TenantJSON(d.tenantWebhooksRedeliver),
	}
	maps.Copy(calls, d.files.endpoints())
	return calls
}

func (d *Dispatcher) tenantStatus(ctx context.Context, tenant job.Tenant, r jetstream.StatusRequest) (jetstream.JobStatus, error) {
	r.Tenant = tenant
	return d.apiStatus(ctx, r)
}

func (d *Dispatcher) tenantJobs(ctx context.Context, tenant job.Tenant, r jetstream.JobsRequest) (jetstream.JobsAnswer, error) {
	r.Tenant = tenant
	return d.history.page(ctx, r)
}

func (d *Dispatcher) tenantEvents(ctx context.Context, tenant job.Tenant, r jetstream.EventsRequest) (jetstream.EventsAnswer, error) {
	return d.q.EventsPage(ctx, tenant, r)
}

func (d *Dispatcher) tenantWhy(ctx context.Context, tenant job.Tenant, r jetstream.WhyRequest) (jetstream.WhyAnswer, error) {
	r.Tenant = tenant
	return d.whyFor(ctx, r, ofTenant)
}

func (d *Dispatcher) tenantCancel(ctx context.Context, tenant job.Tenant, r jetstream.CancelRequest) (jetstream.CancelAnswer, error) {
	r.Tenant = tenant
	if r.Force && r.Job.Valid() {
		if err := d.mayCancelUnseen(ctx, tenant, r.Job); err != nil {
			return jetstream.CancelAnswer{}, err
		}
	}
	return d.cancel(ctx, r, tenantBy(tenant, r.By))
}

func (d *Dispatcher) tenantDead(ctx context.Context, tenant job.Tenant, r jetstream.DeadRequest) (jetstream.DeadAnswer, error) {
	r.Tenant = tenant
	return d.apiDead(ctx, r)
}

func (d *Dispatcher) tenantRequeue(ctx context.Context, tenant job.Tenant, r jetstream.RequeueRequest) (jetstream.RequeueAnswer, error) {
	if r.Tenant = ""; !r.All && !r.Narrow() {
		return jetstream.RequeueAnswer{}, needsCondition("job, hash, kind, reason, signature or since")
	}
	r.Tenant = tenant
	return d.requeueAll(ctx, r, tenantBy(tenant, r.By))
}

func (d *Dispatcher) tenantQueue(ctx context.Context, tenant job.Tenant, r jetstream.QueueRequest) (jetstream.QueueAnswer, error) {
	return d.lanes(ctx, tenant, r)
}
