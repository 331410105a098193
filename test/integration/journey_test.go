package integration_test

import (
	"testing"

	"github.com/comfyherd/comfyherd/internal/job"
)

func TestABareWorkflowFromAPlainClientCompletesWithItsPicture(t *testing.T) {
	t.Parallel()
	f := start(t, setup{hosts: names("a")})
	r := f.submit("acme", job.Spec{ID: "first", Workflow: picture(0x336699)})
	events := f.chain(r)
	if got, want := kinds(events), "queued started completed"; got != want {
		t.Fatalf("chain is %q, want %q", got, want)
	}
}
