package dispatcher

import (
	"context"
	"errors"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// filesAtOnce bounds the files with workflows that are read at once.
const filesAtOnce = 4

// parse reads a message as a job. When its workflow is in a file, that is read too; fault then says why there is no such workflow,
// and the job has one that no host can run, since it ends before it is offered. The error is a *job.Invalid when the message itself
// is no job, and otherwise one of NATS.
func (d *Dispatcher) parse(ctx context.Context, m job.Message) (j *job.Job, fault string, err error) {
	j, err = job.Parse(m)
	if err != nil || j.Graph != nil {
		return j, "", err
	}
	select {
	case d.references <- struct{}{}:
		defer func() { <-d.references }()
	case <-ctx.Done():
		return nil, "", ctx.Err()
	}
	m.File, err = d.q.ShortWorkflowFile(ctx, j.WorkflowFile)
	var unfit *queue.FileFault
	switch {
	case errors.Is(err, queue.ErrNoFile):
		fault = job.NoFile(j.WorkflowFile)
	case errors.As(err, &unfit):
		fault = unfit.Message
	case err != nil:
		return nil, "", err
	default:
		whole, err := job.Parse(m)
		if err == nil {
			return whole, "", nil
		}
		fault = err.Error()
	}
	j.Graph, err = workflow.Parse([]byte(`{"0":{"class_type":"workflow_file","inputs":{}}}`))
	return j, fault, err
}

// receiveFile is receive for a job whose workflow is in a file.
func (d *Dispatcher) receiveFile(ctx context.Context, delivery queue.Delivery) {
	j, fault, err := d.parse(ctx, delivery.Message)
	var invalid *job.Invalid
	switch {
	case err == nil:
		o := d.ownedOf(&delivery, j)
		o.fault = fault
		d.begin(ctx, o)
	case errors.As(err, &invalid):
		d.refuseSoon(ctx, delivery, err)
	default:
		d.loop.pressure.exit()
		d.limit.done(job.Tenant(delivery.Tenant))
		d.log.Warn("the file with a job's workflow could not be read; the job is delivered again", "file", job.File(delivery.Body), "error", err)
	}
}
