package jetstream_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

func TestARefusalReachesTheClientAsATypedError(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	q, nc := openOn(t, url), connect(t, url)
	acme := jetstream.NewClient(nc, "acme")
	if _, err := acme.Status(t.Context(), "a"); !errors.Is(err, nats.ErrNoResponders) || !strings.Contains(err.Error(), "dispatcher run") {
		t.Errorf("without a dispatcher: %v", err)
	}
	var stopping atomic.Int64
	serveCalls(t, q, nc, queue.API{TenantCalls: map[string]queue.TenantEndpoint{
		"status": queue.TenantJSON(func(_ context.Context, tenant job.Tenant, r jetstream.StatusRequest) (jetstream.JobStatus, error) {
			return jetstream.JobStatus{}, &jetstream.NotFound{Message: string(tenant) + " has no job " + string(r.Job)}
		}),
		"queue": func(context.Context, job.Tenant, queue.TenantRequest) (queue.TenantReply, error) {
			if stopping.Add(1) < 3 { // as if it were another dispatcher each time
				return queue.TenantReply{}, &jetstream.Stopping{Message: "ask again"}
			}
			return queue.TenantReply{Body: []byte(`{"lanes":[{"tenant":"acme","priority":5,"depth":2,"place":3}]}`)}, nil
		},
		"cancel": queue.TenantJSON(func(context.Context, job.Tenant, jetstream.CancelRequest) (jetstream.CancelAnswer, error) {
			return jetstream.CancelAnswer{}, errors.New("the disk is full")
		}),
	}})
	_, err := acme.Status(t.Context(), "a")
	if missing, is := errors.AsType[*jetstream.NotFound](err); !is || missing.Message != "acme has no job a" {
		t.Errorf("status: %v", err)
	}
	lanes, err := acme.Queue(t.Context())
	if err != nil || len(lanes.Lanes) != 1 || lanes.Lanes[0].Place != 3 {
		t.Errorf("queue: %+v, %v", lanes, err)
	}
	_, err = acme.Cancel(t.Context(), jetstream.CancelRequest{All: true})
	if failed, is := errors.AsType[*jetstream.Failed](err); !is || failed.Message != "the disk is full" {
		t.Errorf("cancel: %v", err)
	}
	_, err = acme.Why(t.Context(), jetstream.WhyRequest{Workflow: make([]byte, 0), Job: job.ID(strings.Repeat("x", int(nc.MaxPayload())))})
	if _, is := errors.AsType[*jetstream.TooBig](err); !is {
		t.Errorf("a request that NATS does not take: %v", err)
	}
	_, err = jetstream.NewClient(nc, "no tenant").Queue(t.Context())
	if _, is := errors.AsType[*jetstream.BadRequest](err); !is {
		t.Errorf("a tenant that is none: %v", err)
	}
}

func TestARefusedPublishSaysWhyAndWhatToDo(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	nc := connect(t, url)
	acme := jetstream.NewClient(nc, "acme")
	spec := jetstream.Spec{Workflow: []byte(workflow)}
	if _, err := acme.Submit(t.Context(), 5, spec); !errors.Is(err, nats.ErrNoResponders) || !strings.Contains(err.Error(), "is a dispatcher running") {
		t.Errorf("without a stream: %v", err)
	}
	q, err := queue.Open(t.Context(), nc, queue.Config{LaneCap: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Close)
	first, err := acme.Submit(t.Context(), 5, spec)
	if first.Tenant != "acme" || !first.Job.Valid() || first.Sequence != 1 || err != nil {
		t.Errorf("the first is %+v, %v", first, err)
	}
	if _, err := acme.Submit(t.Context(), 5, spec); !errors.Is(err, jetstream.ErrLaneFull) || !strings.Contains(err.Error(), "--lane-cap") {
		t.Errorf("into a full lane: %v", err)
	}
	for size, want := range map[int]string{1<<20 + 5000: "--max-job", int(nc.MaxPayload()): "max_payload"} {
		large := jetstream.Spec{Workflow: []byte(`{"1":{"class_type":"` + strings.Repeat("x", size) + `","inputs":{}}}`)}
		if _, err := acme.Submit(t.Context(), 4, large); !errors.Is(err, jetstream.ErrTooLarge) || !strings.Contains(err.Error(), want) {
			t.Errorf("a job of %d bytes: %v", size, err)
		}
	}
	for _, wrong := range []func() error{
		func() error { _, err := acme.Submit(t.Context(), 10, spec); return err },
		func() error {
			_, err := acme.Submit(t.Context(), 5, jetstream.Spec{ID: "a.b", Workflow: spec.Workflow})
			return err
		},
		func() error { // the ids of our own jobs
			_, err := acme.Submit(t.Context(), 5, jetstream.Spec{ID: "j-1", Workflow: spec.Workflow})
			return err
		},
		func() error { _, err := jetstream.NewClient(nc, "a.b").Submit(t.Context(), 5, spec); return err },
	} {
		if err := wrong(); err == nil || !strings.Contains(err.Error(), "a tenant has 1 to 64") {
			t.Errorf("a name that is none: %v", err)
		}
	}
}
