package dispatcher

import (
	"context"
	"errors"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// tenantAPIKeys stores the API keys for a job that its tenant submits afterwards. Unlike other changes it is not recorded as an event.
func (d *Dispatcher) tenantAPIKeys(ctx context.Context, tenant job.Tenant, r jetstream.APIKeys) (answer jetstream.APIKeysAnswer, err error) {
	switch {
	case !r.Job.Valid() || r.Job.Ours():
		return answer, &jetstream.BadRequest{Message: "job must be the id that the job will have: 1 to 120 of A-Z a-z 0-9 _ -, not beginning with j-"}
	case r.APIKey == "" && r.AuthToken == "":
		return answer, &jetstream.BadRequest{Message: "give api_key_comfy_org, auth_token_comfy_org or both"}
	}
	answer.Job = r.Job
	answer.Until, err = d.q.PutAPIKeys(ctx, tenant, &r)
	if errors.Is(err, queue.ErrTooManyAPIKeys) {
		return answer, &jetstream.TooMany{Message: err.Error()}
	}
	return answer, err
}
