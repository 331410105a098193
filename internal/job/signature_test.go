package job_test

import (
	"testing"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
)

func TestDeadJobsOfOneCauseHaveOneSignature(t *testing.T) {
	t.Parallel()
	base := job.Event{
		Job: "one", Tenant: "acme", Host: "gpu-1", Reason: "attempts_exhausted", Kind: failure.OutOfMemory, Class: "KSampler", Exception: "OutOfMemoryError",
		Message: "tried to allocate 2.5 GiB in /opt/a",
	}
	same := base
	same.Job, same.Tenant, same.Host, same.Message = "two", "bolt", "gpu-2", "tried to allocate 17 GiB in /opt/b/c"
	if base.Signature() != same.Signature() || len(base.Signature()) != 16 {
		t.Errorf("%s and %s", base.Signature(), same.Signature())
	}
	for name, change := range map[string]func(*job.Event){
		"Reason":  func(e *job.Event) { e.Reason = "not_retryable" },
		"Kind":    func(e *job.Event) { e.Kind = failure.Timeout },
		"Class":   func(e *job.Event) { e.Class = "VAEDecode" },
		"Message": func(e *job.Event) { e.Message = "could not allocate" },
	} {
		other := base
		change(&other)
		if other.Signature() == base.Signature() {
			t.Errorf("another %s has the same signature", name)
		}
	}
}
