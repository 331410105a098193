package queue_test

import (
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// All streams and buckets are deleted while two Queues are open, and are soon made again. Both know when COMFY_JOBS was created, so
// no id that the system gave before is given again.
func TestWhatWasDeletedIsMadeAgain(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), startNATS(t)
	js := must(natsjs.New(connect(t, url)))
	queues := []*queue.Queue{openOn(t, url), openOn(t, url)}
	lane := jetstream.Lane{Tenant: "acme", Priority: 5}
	first := must(queues[0].Submit(ctx, lane, jetstream.Spec{Workflow: []byte(smallWorkflow)}))
	before := queues[0].Created()
	list := js.StreamNames(ctx)
	for name := range list.Name() {
		must(0, js.DeleteStream(ctx, name))
	}
	must(0, list.Err())
	for _, q := range queues {
		for q.Created().Equal(before) {
			await(t)
		}
	}
	created := queues[0].Created()
	if !queues[1].Created().Equal(created) || created.Unix() == before.Unix() {
		t.Errorf("made at %v, then at %v and %v", before, created, queues[1].Created())
	}
	again := must(queues[1].Submit(ctx, lane, jetstream.Spec{Workflow: []byte(smallWorkflow)}))
	m := must(queues[0].Stored(ctx, again.Sequence))
	old := job.GeneratedID(before, first.Sequence)
	if again.Sequence != first.Sequence || m.GeneratedID() == old {
		t.Errorf("the job at %d has the id %s, and had %s before", again.Sequence, m.GeneratedID(), old)
	}
	for _, name := range []string{
		names.EventsStream, names.DeadStream, "KV_" + names.ConditionsBucket, "KV_" + names.TenantsBucket, "OBJ_" + names.InputsStore,
	} {
		for {
			if _, err := js.Stream(ctx, name); err == nil {
				break
			}
			await(t)
		}
	}
}

// await is a pause between two looks at what takes a moment.
func await(t *testing.T) {
	t.Helper()
	select {
	case <-time.After(10 * time.Millisecond):
	case <-t.Context().Done():
		t.Fatal("it took too long")
	}
}
