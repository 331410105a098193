package integration_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// call asks the API and fails the test when it answers with an error.
func call[Answer any](f *fleet, name string, request any) Answer {
	f.t.Helper()
	var answer Answer
	if err := f.q.Call(f.context(), name, request, &answer); err != nil {
		f.t.Fatalf("ask for %s: %v", name, err)
	}
	return answer
}

func TestADeadJobShowsEveryAttemptAndIsRequeuedWithItsLineage(t *testing.T) {
	t.Parallel()
	raise := []comfysim.Fault{{Kind: comfysim.FaultRaise, Class: "ImageInvert", Exception: "ValueError", Message: "negative light"}}
	f := start(t, setup{dispatchers: 2, hosts: []comfysim.Config{{Name: "a", Faults: raise}, {Name: "b", Faults: raise}}})
	spec := job.Spec{ID: "order", Workflow: inverted(1, 1), MaxAttempts: 3, Metadata: []byte(`{"order":7}`)}
	if end := f.end(f.submit("acme", spec)); end.Reason != string(failure.WorkflowFault) {
		t.Fatalf("ended %s: %s", end.EventKind, end.Reason)
	}
	dead := call[jetstream.DeadAnswer](f, "dead", jetstream.DeadRequest{Tenant: "acme", Job: "order"}).Dead
	if len(dead) != 1 || len(dead[0].Attempts) != 2 {
		t.Fatalf("dead lists %+v, want one job with two attempts", dead)
	}
	hosts := map[string]bool{}
	for _, a := range dead[0].Attempts {
		hosts[a.Host] = true
		if a.Kind != failure.ExecutionError || !strings.Contains(a.Message, "negative light") || a.Class != "ImageInvert" {
			t.Errorf("an attempt says %+v", a)
		}
	}
	if len(hosts) != 2 {
		t.Errorf("the attempts were on %v, want two hosts", hosts)
	}

	// It dies again as -r1; only that one is requeued then, as -r2, and completes once the cause is gone.
	again := call[jetstream.RequeueAnswer](f, "requeue", jetstream.RequeueRequest{Hash: hashOf(t, inverted(1, 1))[:8]})
	if again.Count != 1 || again.Jobs["order"] != "order-r1" {
		t.Fatalf("requeue answers %+v", again)
	}
	if end := f.end(receipt("acme", "order-r1")); end.EventKind != job.Dead || end.RequeueOf != "order" || string(end.Metadata) != `{"order":7}` {
		t.Errorf("order-r1 ended %s, requeue of %q, metadata %s", end.EventKind, end.RequeueOf, end.Metadata)
	}
	if letter := f.stored("COMFY_DEAD", "comfy.dead.acme"); letter.Header.Get("Comfy-Requeue-Of") != "order" || letter.Header.Get("Comfy-Job-Id") != "order-r1" {
		t.Errorf("the letter of order-r1 has the headers %v", letter.Header)
	}
	f.sims["a"].ClearFaults()
	f.sims["b"].ClearFaults()
	again = call[jetstream.RequeueAnswer](f, "requeue", jetstream.RequeueRequest{Tenant: "acme"})
	if again.Count != 1 || again.Jobs["order-r1"] != "order-r2" {
		t.Fatalf("requeue answers %+v", again)
	}
	if end := f.end(receipt("acme", "order-r2")); end.EventKind != job.Completed || end.RequeueOf != "order-r1" {
		t.Errorf("order-r2 ended %s, requeue of %q", end.EventKind, end.RequeueOf)
	}
	if again = call[jetstream.RequeueAnswer](f, "requeue", jetstream.RequeueRequest{Tenant: "acme"}); again.Count != 0 {
		t.Errorf("all were requeued, and yet %+v", again)
	}
}

func TestAThousandJobsAreRequeuedByTheirHash(t *testing.T) {
	t.Parallel()
	const jobs = 1000
	f := start(t, setup{dispatchers: 2, hosts: names("a"), noAgents: true})
	for i := range jobs { // no host lives so long, and each asks to be dead at once
		f.publish("comfy.jobs.acme.5", fmt.Appendf(nil, `{"id":"job-%d","workflow":%s,"expires_in":"1ms"}`, i, picture(i)))
	}
	f.reaches("dead", jobs, func() int { return f.total("COMFY_DEAD", ">") })
	f.drained()
	listed, after := 0, uint64(0)
	for {
		page := call[jetstream.DeadAnswer](f, "dead", jetstream.DeadRequest{Reason: failure.Expired, After: after})
		listed += len(page.Dead)
		if after = page.Next; after == 0 {
			break
		}
	}
	if listed != jobs {
		t.Errorf("dead lists %d jobs, want %d", listed, jobs)
	}
	f.agent("a", f.sims["a"].URL(), setup{}.agent)
	before := f.total("COMFY_EVENTS", "comfy.events.jobs.*.*.completed")
	requeued := map[job.ID]job.ID{}
	// A slow server's answer names where to go on. What was requeued dies again, behind the letters that are meant.
	for next, asked := uint64(0), false; len(requeued) < jobs && (next != 0 || !asked); asked = true {
		answer := call[jetstream.RequeueAnswer](f, "requeue",
			jetstream.RequeueRequest{Hash: hashOf(t, picture(1)), After: next, Limit: jobs - len(requeued)})
		if next = answer.Next; answer.Count != len(answer.Jobs) || answer.Count == 0 {
			t.Fatalf("a call requeued %d jobs and names %d, next %d", answer.Count, len(answer.Jobs), next)
		}
		maps.Copy(requeued, answer.Jobs)
	}
	if len(requeued) != jobs || before != 0 || requeued["job-7"] != "job-7-r1" {
		t.Fatalf("%d of %d jobs were requeued, job-7 as %q", len(requeued), jobs, requeued["job-7"])
	}
	f.drained()
	for subject := range f.subjects("COMFY_EVENTS", "comfy.events.jobs.acme.*.queued") {
		if id := strings.Split(subject, ".")[4]; !strings.HasPrefix(id, "job-") {
			t.Errorf("a job %s has appeared", id)
		}
	}
	if n := len(f.subjects("COMFY_EVENTS", "comfy.events.jobs.acme.*.queued")); n != 2*jobs {
		t.Errorf("%d chains have begun, want %d", n, 2*jobs)
	}
}

func TestALetterThatIsPurgedIsGoneAndNoOther(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 1, hosts: names("a"), noAgents: true})
	for _, id := range []string{"one", "two"} {
		f.publish("comfy.jobs.acme.5", fmt.Appendf(nil, `{"id":%q,"workflow":%s,"expires_in":"1ms"}`, id, picture(1)))
		f.end(receipt("acme", id))
	}
	f.drained()
	if dead := call[jetstream.DeadAnswer](f, "dead", jetstream.DeadRequest{}).Dead; len(dead) != 2 {
		t.Fatalf("%d letters, want 2", len(dead))
	}
	if purged := call[queue.PurgeAnswer](f, "purge", queue.PurgeRequest{Tenant: "acme", Job: "one"}); purged.Count != 1 {
		t.Fatalf("%d letters were purged, want 1", purged.Count)
	}
	left := call[jetstream.DeadAnswer](f, "dead", jetstream.DeadRequest{}).Dead
	if len(left) != 1 || left[0].Job != "two" || left[0].Reason != string(failure.Expired) {
		t.Errorf("left are %+v, want two", left)
	}
	if since := call[jetstream.DeadAnswer](f, "dead", jetstream.DeadRequest{Since: time.Now().Add(time.Hour).Format(time.RFC3339)}).Dead; len(since) != 0 {
		t.Errorf("dead since the future are %+v", since)
	}
	call[jetstream.RequeueAnswer](f, "requeue", jetstream.RequeueRequest{Job: "two"})
	f.end(receipt("acme", "two-r1"))
	f.purged = 1
}

func TestEveryIdCanBeRequeuedAlsoOneThatLooksLikeARequeue(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 1})
	long := job.ID(strings.Repeat("x", 120))
	for _, id := range []job.ID{"scene", "scene-r2", long} {
		end := f.end(f.submit("acme", job.Spec{ID: id, Workflow: picture(1), ExpiresIn: job.Duration(10 * time.Millisecond)}))
		if end.Reason != string(failure.Expired) {
			t.Fatalf("%s ended %s (%s)", id, end.EventKind, end.Reason)
		}
	}
	again := call[jetstream.RequeueAnswer](f, "requeue", jetstream.RequeueRequest{Tenant: "acme", Again: true})
	if again.Count != 3 || again.Jobs["scene"] != "scene-r1" || again.Jobs["scene-r2"] != "scene-r2-r1" || !again.Jobs[long].Valid() {
		t.Errorf("requeue answers %+v", again)
	}
	for of, id := range again.Jobs {
		if end := f.end(receipt("acme", string(id))); end.RequeueOf != of {
			t.Errorf("%s is a requeue of %q, want %q", id, end.RequeueOf, of)
		}
	}
}
