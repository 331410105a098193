package integration_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/job"
)

func TestAJobThatIsLargerThanAMessageRunsFromAFile(t *testing.T) {
	t.Parallel()
	f := startClosed(t, comfysim.Config{Name: "gpu-1"})
	large := graph(map[string]any{
		"1": node("EmptyImage", "width", 16, "height", 16, "batch_size", 1, "color", 0x336699),
		"2": node("SimText", "text", strings.Repeat("iVBORw0KGgo", 150_000)),
		"9": node("SaveImage", "images", link("1"), "filename_prefix", "out"),
	})
	body := append(append([]byte(`{"prompt":`), large...), `,"max_attempts":7}`...)
	if _, err := f.q.StoreInput(f.context(), "acme/large.json", "application/json", bytes.NewReader(body)); err != nil {
		t.Fatal(err)
	}
	acme, _ := f.tenant("acme")
	events := f.listen(acme, "comfy.events.jobs.acme.>")
	f.publish(acme, "acme", job.Spec{ID: "one", WorkflowFile: "acme/large.json"})
	completed, err := job.DecodeEvent(job.Completed, f.next(events, ".one.completed").Data)
	if err != nil {
		t.Fatal(err)
	}
	if want := hashOf(t, large); completed.Hash != want {
		t.Errorf("the hash is %s, want that of the graph, %s", completed.Hash, want)
	}
	f.wantPicture(completed, rgb(0x336699))

	f.publish(acme, "acme", job.Spec{ID: "two", WorkflowFile: "acme/nothing.json"})
	dead, err := job.DecodeEvent(job.Dead, f.next(events, ".two.dead").Data)
	if err != nil {
		t.Fatal(err)
	}
	if dead.Reason != "invalid_job" || !strings.Contains(dead.Message, `workflow_file names "acme/nothing.json"`) {
		t.Errorf("the job is dead for %s: %s", dead.Reason, dead.Message)
	}
	f.publish(acme, "acme", job.Spec{ID: "three", WorkflowFile: "bolt/large.json"})
	if dead, err := job.DecodeEvent(job.Dead, f.next(events, ".three.dead").Data); err != nil || !strings.Contains(dead.Message, "your tenant's name") {
		t.Errorf("a file of another tenant: %s, %v", dead.Message, err)
	}
}
