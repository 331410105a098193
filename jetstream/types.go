package jetstream

import (
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// Types that internal packages define, under names that other modules can use.
type (
	// Spec is a job to be submitted: its workflow, and what may be said beside it. Its fields, listed by
	// "go doc github.com/comfyherd/comfyherd/internal/job.Spec", are those of a job's body in docs/contract.md.
	Spec = job.Spec
	// Event is one event of a job's chain. Its fields, listed by "go doc github.com/comfyherd/comfyherd/internal/job.Event", are
	// those of events of jobs in docs/contract.md.
	Event = job.Event
	// EventKind says what happened to a job. The kind of a job's last event is the job's state.
	EventKind = job.EventKind
	// ID names a job within its tenant.
	ID = job.ID
	// Tenant owns jobs.
	Tenant = job.Tenant
	// Priority is 0 to 9: jobs of 9 are served first, 5 is usual.
	Priority = job.Priority
	// Lane is a tenant's jobs of one priority.
	Lane = job.Lane
	// Mark is the place of an event in COMFY_EVENTS: its sequence, and when it was stored.
	Mark = job.Mark
	// Duration is a time.Duration that is written as text in JSON, such as "1m30s".
	Duration = job.Duration
	// Hash identifies a workflow: SHA-256, in hexadecimal digits, of its structure and models, without prompts, seeds and sizes.
	Hash = workflow.Hash
	// Kind says why an attempt failed, such as "out_of_memory"; docs/failures.md lists the closed set.
	Kind = failure.Kind
	// Reason says why a job is dead, such as "attempts_exhausted"; docs/contract.md lists the closed set.
	Reason = failure.Reason
	// HoldReason says why no host may take a job, such as "all_blocked"; docs/contract.md lists the closed set.
	HoldReason = route.HoldReason
	// HostVerdict says whether one host may run a job, and if not, why.
	HostVerdict = route.HostVerdict
	// LaneStat is a lane with its waiting and running jobs and its share of the hosts' time.
	LaneStat = route.LaneStat
)

// The kinds of a job's events. After JobCompleted, JobDead or JobCancelled, which are terminal (EventKind.Terminal), no event follows.
const (
	JobQueued    = job.Queued    // a dispatcher has received the job
	JobWaiting   = job.Waiting   // no host may take it now; the event's Reason says why
	JobStarted   = job.Started   // an agent has begun an attempt on the event's Host
	JobFailed    = job.Failed    // the attempt has failed; Kind says how
	JobRetrying  = job.Retrying  // another attempt follows
	JobCompleted = job.Completed // the job has run; Outputs lists its files
	JobDead      = job.Dead      // the job will not be tried again; Reason says why
	JobCancelled = job.Cancelled // somebody has cancelled the job
)
