package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/comfyherd/comfyherd/internal/workflow"
)

const (
	// largestJob is the most bytes of a file that has the workflow of a job.
	largestJob = 64 << 20
	// longestJob is the most bytes of it without texts of more than 4 KiB.
	longestJob = 4 << 20
)

// FileFault is what is wrong with a file that has the workflow of a job. Reading it again gives the same.
type FileFault struct{ Message string }

func (f *FileFault) Error() string { return f.Message }

// WorkflowFile reads the file of COMFY_INPUTS that has the workflow of a job, of at most 64 MiB. ErrNoFile when there is none, a
// *FileFault when it is too large.
func (q *Queue) WorkflowFile(ctx context.Context, name string) ([]byte, error) {
	body, size, err := q.openWorkflow(ctx, name)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	read := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead)) // large enough from the beginning: io.ReadAll takes several times as much
	_, err = read.ReadFrom(body)
	return read.Bytes(), wrap(err, "read file %s", name)
}

// ShortWorkflowFile is WorkflowFile without the texts of more than 4 KiB, on which no decision depends. In memory is only what is
// left, which is at most 4 MiB.
func (q *Queue) ShortWorkflowFile(ctx context.Context, name string) ([]byte, error) {
	body, _, err := q.openWorkflow(ctx, name)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	short, err := workflow.Shorten(body, longestJob)
	if errors.Is(err, workflow.ErrLong) {
		return nil, &FileFault{Message: "the file " + name + ": " + err.Error()}
	}
	return short, wrap(err, "read file %s", name)
}

func (q *Queue) openWorkflow(ctx context.Context, name string) (body io.ReadCloser, size int64, err error) {
	body, f, err := q.OpenInput(ctx, name)
	if err == nil && f.Size > largestJob {
		_ = body.Close()
		return nil, 0, &FileFault{Message: fmt.Sprintf("the file %s has %d bytes, and a job at most %d: put pictures into files and name them in \"inputs\"", name, f.Size, largestJob)}
	}
	return body, f.Size, err
}
