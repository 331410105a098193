package queue_test

import (
	"context"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

func TestAnswersTellTheTime(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	q, nc := openOn(t, url), connect(t, url)
	serveCalls(t, q, nc, queue.API{TenantCalls: map[string]queue.TenantEndpoint{"queue": queue.TenantJSON(
		func(context.Context, job.Tenant, jetstream.QueueRequest) (jetstream.QueueAnswer, error) {
			return jetstream.QueueAnswer{}, nil
		})}})
	before := q.Now()
	msg, err := nc.Request("comfy.tenants.acme.queue", nil, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	told, err := time.Parse(time.RFC3339Nano, msg.Header.Get("Comfy-Time"))
	if err != nil || told.Before(before.Add(-time.Second)) {
		t.Errorf("it tells %v, %v", told, err)
	}
}
