package dispatcher_test

import (
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// inFile makes a job refer to a file.
func inFile(name string) func(*job.Spec) {
	return func(spec *job.Spec) { spec.Workflow, spec.WorkflowFile = nil, name }
}

func TestAJobWhoseWorkflowIsInAFileRunsAsAnyOther(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.files["acme/flow"] = workflowFile{body: encoded(t, job.Spec{Workflow: graph(1)})}
		s.dispatcher(dispatcher.Config{})
		s.submit("x", inFile("acme/flow"))
		s.pass(time.Second)
		s.want("chain without a host", s.story("x"), "queued waiting:none_capable")
		s.want("hash", s.lastOf("x").Hash, hashOf(t, 1))
		why := answered[jetstream.WhyAnswer](s, "acme", "why", jetstream.WhyRequest{Job: "x"})
		s.want("why", why.Reason, "none_capable")
		s.runs("a", nil)
		s.pass(time.Second)
		s.want("chain", s.story("x"), "queued waiting:none_capable started completed")
	})
}

func TestAJobWhoseFileHasNoWorkflowIsDeadForThat(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file *workflowFile
		says string
	}{
		"NoFile":   {nil, `workflow_file names "acme/flow", which COMFY_INPUTS does not have`},
		"TooLarge": {&workflowFile{fault: &queue.FileFault{Message: "it has 65 MiB"}}, "it has 65 MiB"},
		"NoGraph":  {&workflowFile{body: []byte("no workflow")}, "workflow"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(s *scene) {
				if c.file != nil {
					s.files["acme/flow"] = *c.file
				}
				s.dispatcher(dispatcher.Config{})
				s.runs("a", nil)
				s.submit("x", inFile("acme/flow"))
				s.pass(time.Second)
				s.want("chain", s.story("x"), "queued dead:invalid_job")
				if got := s.lastOf("x").Message; !strings.Contains(got, c.says) {
					t.Errorf("it is dead since %q, want %q", got, c.says)
				}
				s.want("left", s.left(), 0)
				s.want("slots are free for the next", func() string { s.submit("y"); s.pass(time.Second); return s.story("y") }(), "queued started completed")
			})
		})
	}
}

// While the store of files cannot be read nothing is known of the job, and nothing is kept for it either.
func TestAJobWhoseFileCannotBeReadIsDeliveredAgain(t *testing.T) {
	t.Parallel()
	inBubble(t, func(s *scene) {
		s.files["acme/flow"] = workflowFile{body: encoded(t, job.Spec{Workflow: graph(1)})}
		s.dispatcher(dispatcher.Config{})
		s.runs("a", nil)
		s.mu.Lock()
		s.cut = func(effect string) error {
			if strings.HasPrefix(effect, "file ") {
				return errCut
			}
			return nil
		}
		s.mu.Unlock()
		const jobs = 600 // more than may be under way at once
		for n := range jobs {
			s.submit(job.RequeueID("x", n), inFile("acme/flow"))
		}
		s.pass(20 * time.Second)
		s.want("chains", len(s.done("append")), 0)
		s.want("deliveries", len(s.done("deliver")), jobs)
		s.mu.Lock()
		s.cut = nil
		s.mu.Unlock()
		s.pass(ackWait)
		s.want("the end of the last", s.lastOf("x-r599").EventKind, job.Completed)
	})
}
