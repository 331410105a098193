package integration_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

// The stream of jobs is deleted beside a running dispatcher. Bare jobs get ids of the system's making, which rest on the
// stream and the sequence: the first job of the new stream has the sequence of an old one, and must not have its id, whose
// chain has ended.
func TestJobsOfAStreamThatWasMadeAgainRun(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 2, hosts: names("a")})
	ends := f.subscribe("comfy.events.jobs.acme.*.completed")
	run := func() string {
		t.Helper()
		var ack struct {
			Error *struct{ Description string }
			Seq   uint64
		}
		f.eventually("a stream of jobs", func() bool {
			reply, err := f.nc.Request("comfy.jobs.acme.5", picture(1), testTimeout)
			return err == nil && json.Unmarshal(reply.Data, &ack) == nil && ack.Error == nil && ack.Seq > 0
		})
		msg, err := ends.NextMsg(testTimeout)
		if err != nil {
			t.Fatalf("job %d: %v", ack.Seq, err)
		}
		return msg.Subject
	}
	first := run()
	f.drained()
	if _, err := f.nc.Request("$JS.API.STREAM.DELETE.COMFY_JOBS", nil, testTimeout); err != nil {
		t.Fatal(err)
	}
	if second := run(); second == first {
		t.Errorf("both jobs are %s", strings.Split(second, ".")[4])
	}
}

// What a list, a look and the filters need stands in the letter: the events are kept for a tenth of its time.
func TestDeadLettersAreFoundWhenTheirEventsAreGone(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 1, hosts: names("a")})
	spec := job.Spec{ID: "raised", Workflow: inverted(1, 1), MaxAttempts: 1}
	spec.Workflow = json.RawMessage(strings.Replace(string(spec.Workflow), "ImageInvert", "NoSuchNode", 1))
	spec.ExpiresIn = job.Duration(1)
	f.end(f.submit("acme", spec))
	f.drained()
	if _, err := f.nc.Request("$JS.API.STREAM.PURGE.COMFY_EVENTS", nil, testTimeout); err != nil {
		t.Fatal(err)
	}
	f.purged = -1 // its dead event is gone, and its letter is not
	hash := hashOf(t, spec.Workflow)
	wantDead(f, jetstream.DeadRequest{Hash: hash, Reason: failure.Expired}, "acme/raised")
	wantDead(f, jetstream.DeadRequest{Hash: "ffff"}, "")
	answer := call[jetstream.DeadAnswer](f, "dead", jetstream.DeadRequest{})
	if len(answer.Dead) != 1 || answer.Dead[0].Hash != hash || answer.Dead[0].Message == "" {
		t.Errorf("it is told as %+v", answer.Dead)
	}
}
