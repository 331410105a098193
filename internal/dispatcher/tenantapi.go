package dispatcher

import (
	"context"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

// tenantEndpoints are the calls of comfy.tenants.<tenant>.<name>. What they tell and change is the tenant's alone.
func (d *Dispatcher) tenantEndpoints() map[string]jetstream.TenantEndpoint {
	return map[string]jetstream.TenantEndpoint{
		"status": jetstream.TenantJSON(d.tenantStatus),
		"jobs":   jetstream.TenantJSON(d.tenantJobs),
		"events": jetstream.TenantJSON(d.tenantEvents),
	}
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
