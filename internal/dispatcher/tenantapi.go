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
	}
}

func (d *Dispatcher) tenantStatus(ctx context.Context, tenant job.Tenant, r jetstream.StatusRequest) (jetstream.JobStatus, error) {
	r.Tenant = tenant
	return d.apiStatus(ctx, r)
}
