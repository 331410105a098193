package jetstream

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/job"
)

// Progress is a job's live progress. It is not stored.
type Progress struct {
	Value      float64 `json:"value"`
	Max        float64 `json:"max"`
	Node       string  `json:"node"`
	Class      string  `json:"class_type"`
	NodesDone  int     `json:"nodes_done"`
	NodesTotal int     `json:"nodes_total"`
}

// PublishProgress sends a job's progress to whoever listens; a lost one is replaced by the next.
func (q *Queue) PublishProgress(tenant job.Tenant, id job.ID, p Progress) error {
	body, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode progress of job %s: %w", id, err)
	}
	return wrap(q.nc.Publish(q.progressSubject(tenant, id, "progress"), body), "publish progress of job %s", id)
}

// PublishPreview sends a preview image; the content type stands in the header Content-Type.
func (q *Queue) PublishPreview(tenant job.Tenant, id job.ID, contentType string, image []byte) error {
	msg := nats.NewMsg(q.progressSubject(tenant, id, "preview"))
	msg.Header.Set(contentTypeHeader, contentType)
	msg.Data = image
	return wrap(q.nc.PublishMsg(msg), "publish preview of job %s", id)
}

// progressSubject is where to tell of a job: to the listeners themselves, or out of an account of its own through
// COMFY_LIVE, which a prefix of the API gives away.
func (q *Queue) progressSubject(tenant job.Tenant, id job.ID, what string) string {
	if q.cfg.APIPrefix != "" {
		return tellSubject(tenant, id, what)
	}
	return liveSubject(tenant, id, what)
}

// FollowProgress tells a job's progress until ctx ends.
func (q *Queue) FollowProgress(ctx context.Context, tenant job.Tenant, id job.ID, tell func(Progress)) error {
	return q.serve(ctx, liveSubject(tenant, id, "progress"), func(msg *nats.Msg) {
		var p Progress
		if json.Unmarshal(msg.Data, &p) == nil {
			tell(p)
		}
	})
}

// FollowAllProgress tells the progress of all jobs of a tenant until ctx ends.
func (q *Queue) FollowAllProgress(ctx context.Context, tenant job.Tenant, tell func(job.ID, Progress)) error {
	return q.serve(ctx, liveSubject(tenant, "*", "progress"), func(msg *nats.Msg) {
		var p Progress
		if tokens := strings.Split(msg.Subject, "."); json.Unmarshal(msg.Data, &p) == nil {
			tell(job.ID(tokens[4]), p) // of comfy.live.jobs.<tenant>.<job>.progress
		}
	})
}
