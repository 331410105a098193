package dispatcher

import (
	"context"
	"fmt"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// owned is a job whose lease this dispatcher has, from its delivery or its claim until an agent has accepted it,
// it is parked, or it has ended. Only the goroutine that walks the job touches it, or the loop before the walk and
// while the job is in hand. It is more than a ticket, which stands for a job of which nothing else is at hand.
type owned struct {
	job     *job.Job
	message job.Message
	lease   queue.Lease
	last    uint64 // sequence of the chain's last event

	attempt     int       // the number of the next attempt
	avoid       []string  // hosts that failed this job
	avoidUntil  time.Time // before it they are not used even when no other host may
	notBefore   time.Time
	fault       string   // why it cannot run anywhere; empty: it can
	unfit       []string // hosts whose agents did not accept it on this walk
	anySlot     bool     // a host refused it that was believed to have a free slot; it is not offered for free slots only again
	lacks       []string // hosts that lack an option of it
	optionsRead bool
	options     workflow.Options
	taken       time.Time
	turn        queue.Turn // of a delivery
	reason      string     // of the last waiting event in the chain
	slot        time.Time  // when it took the slot of its tenant that it has; zero = it has none
}

// idKey is a job's name: ids are a tenant's own.
type idKey struct {
	tenant job.Tenant
	id     job.ID
}

// key is the job's name.
func (o *owned) key() idKey { return idKey{o.job.Tenant, o.job.ID} }

// lane is the job's tenant and priority.
func (o *owned) lane() job.Lane { return job.Lane{Tenant: o.job.Tenant, Priority: o.job.Priority} }

// tenantHash is the job's workflow, as its tenant's.
func (o *owned) tenantHash() tenantHash { return tenantHash{o.job.Tenant, o.job.Graph.Hash()} }

// stored reads the job that a ticket or chain names; it has no lease. When another job is stored at its sequence, since
// the stream was made again, it is gone. A job whose workflow is in a file has no graph: whole reads that too.
func (d *Dispatcher) stored(ctx context.Context, sequence uint64, tenant job.Tenant, id job.ID) (*owned, error) {
	message, err := d.q.Stored(ctx, sequence)
	if err != nil {
		return nil, err
	}
	j, err := job.Parse(message)
	if err != nil || j.Tenant != tenant || j.ID != id {
		return nil, fmt.Errorf("read job %s at %d: another is there: %w", id, sequence, queue.ErrGone)
	}
	return &owned{job: j, message: message, attempt: 1, notBefore: j.NotBefore(), taken: d.clock()}, nil
}

// whole is stored with the workflow, also when that is in a file.
func (d *Dispatcher) whole(ctx context.Context, sequence uint64, tenant job.Tenant, id job.ID) (*owned, error) {
	o, err := d.stored(ctx, sequence, tenant, id)
	if err == nil && o.job.Graph == nil {
		o.job, o.fault, err = d.parse(ctx, o.message)
	}
	return o, err
}
