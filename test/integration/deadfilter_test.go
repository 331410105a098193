package integration_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

func TestDeadLettersAreFoundByEveryFilterAndByAllTogether(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 2, hosts: []comfysim.Config{{Name: "a", Faults: []comfysim.Fault{{Kind: comfysim.FaultRaise, Class: "ImageInvert"}}}}})
	raised, late := inverted(1, 1), picture(1)
	f.end(f.submit("acme", job.Spec{ID: "raised", Workflow: raised, MaxAttempts: 1}))
	f.end(f.submit("acme", job.Spec{ID: "late", Workflow: late, OnlyHosts: []string{"nowhere"}, ExpiresIn: job.Duration(time.Millisecond)}))
	f.end(f.submit("bolt", job.Spec{ID: "late", Workflow: late, OnlyHosts: []string{"nowhere"}, ExpiresIn: job.Duration(time.Millisecond)}))
	f.drained()
	for want, r := range map[string]jetstream.DeadRequest{
		"acme/late acme/raised bolt/late": {Since: "1h"},
		"acme/late acme/raised":           {Tenant: "acme"},
		"acme/late bolt/late":             {Job: "late"},
		"acme/raised":                     {Hash: hashOf(t, raised)[:8]},
		"bolt/late":                       {Tenant: "bolt", Hash: hashOf(t, late), Reason: failure.Expired, Job: "late", Since: "1h"},
		"":                                {Tenant: "bolt", Kind: failure.ExecutionError},
	} {
		wantDead(f, r, want)
	}
	wantDead(f, jetstream.DeadRequest{Kind: failure.ExecutionError}, "acme/raised")
	wantDead(f, jetstream.DeadRequest{Kind: failure.Timeout}, "")
	wantDead(f, jetstream.DeadRequest{Since: "0s"}, "")
	counted := call[jetstream.DeadAnswer](f, "dead", jetstream.DeadRequest{Group: "signature"})
	if counted.Count != 3 || counted.Since == nil {
		t.Fatalf("the groups are %+v", counted)
	}
	f.end(f.submit("acme", job.Spec{ID: "after", Workflow: late, OnlyHosts: []string{"nowhere"}, ExpiresIn: job.Duration(time.Millisecond)}))
	wantDead(f, jetstream.DeadRequest{Since: counted.Since.Format(time.RFC3339Nano), UpTo: counted.UpTo}, "acme/late acme/raised bolt/late")
	if again := call[jetstream.RequeueAnswer](f, "requeue", jetstream.RequeueRequest{Reason: failure.Expired, Tenant: "bolt"}); again.Count != 1 || again.Jobs["late"] != "late-r1" {
		t.Errorf("requeue by two filters answers %+v", again)
	}
	f.end(receipt("bolt", "late-r1"))
}

func wantDead(f *fleet, r jetstream.DeadRequest, want string) {
	f.t.Helper()
	var found []string
	for _, e := range call[jetstream.DeadAnswer](f, "dead", r).Dead {
		found = append(found, string(e.Tenant)+"/"+string(e.Job))
	}
	slices.Sort(found)
	if got := strings.Join(found, " "); got != want {
		f.t.Errorf("%+v finds %q, want %q", r, got, want)
	}
}
