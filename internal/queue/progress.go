package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/jetstream"
)

// PublishProgress sends a job's progress to its subscribers. It is not stored; a lost message is replaced by the next.
func (q *Queue) PublishProgress(tenant job.Tenant, id job.ID, p jetstream.Progress) error {
	body, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode progress of job %s: %w", id, err)
	}
	return wrap(q.nc.Publish(q.progressSubject(tenant, id, "progress"), body), "publish progress of job %s", id)
}

// PublishPreview sends a preview image, with its type in the header Content-Type. It is not stored.
func (q *Queue) PublishPreview(tenant job.Tenant, id job.ID, contentType string, image []byte) error {
	msg := nats.NewMsg(q.progressSubject(tenant, id, "preview"))
	msg.Header.Set(names.ContentTypeHeader, contentType)
	msg.Data = image
	return wrap(q.nc.PublishMsg(msg), "publish preview of job %s", id)
}

// progressSubject is where progress is published: directly to the subscribers or, by a program in an account of its own, to
// COMFY_LIVE, which publishes it again. A program with an API prefix is in such an account.
func (q *Queue) progressSubject(tenant job.Tenant, id job.ID, what string) string {
	if q.cfg.APIPrefix != "" {
		return names.TellSubject(tenant, id, what)
	}
	return names.LiveSubject(tenant, id, what)
}

// FollowProgress calls tell for every progress message of a job until ctx ends.
func (q *Queue) FollowProgress(ctx context.Context, tenant job.Tenant, id job.ID, tell func(jetstream.Progress)) error {
	return q.serve(ctx, names.LiveSubject(tenant, id, "progress"), func(msg *nats.Msg) {
		var p jetstream.Progress
		if json.Unmarshal(msg.Data, &p) == nil {
			tell(p)
		}
	})
}

// Live is a message about a running job that is not stored: its progress, or a preview image.
type Live struct {
	Tenant      job.Tenant
	Job         job.ID
	Progress    *jetstream.Progress // nil: it is a preview
	ContentType string              // of the preview
	Preview     []byte
}

// FollowLive calls tell for every progress message and preview of a tenant's jobs, or of all jobs when the tenant is empty, until
// ctx ends, from two goroutines.
func (q *Queue) FollowLive(ctx context.Context, tenant job.Tenant, tell func(Live)) error {
	of := cmp.Or(tenant, "*")
	previews, err := q.listen(names.LiveSubject(of, "*", "preview"), func(msg *nats.Msg) {
		tenant, id := names.JobOfLive(msg.Subject)
		tell(Live{Tenant: tenant, Job: id, ContentType: msg.Header.Get(names.ContentTypeHeader), Preview: msg.Data})
	})
	if err != nil {
		return err
	}
	defer func() { _ = previews.Unsubscribe() }() // the connection may be closed already
	return q.serve(ctx, names.LiveSubject(of, "*", "progress"), func(msg *nats.Msg) {
		m := Live{Progress: &jetstream.Progress{}}
		m.Tenant, m.Job = names.JobOfLive(msg.Subject)
		if json.Unmarshal(msg.Data, m.Progress) == nil {
			tell(m)
		}
	})
}
