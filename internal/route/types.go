package route

import (
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// HostID names a host: [A-Za-z0-9_-]{1,64}.
type HostID string

// Tenant owns jobs.
type Tenant string

// JobID names a job within its tenant.
type JobID string

// Everyone in Block.Tenants means all tenants.
const Everyone Tenant = "*"

// priorities is how many there are: 0 … 9.
const priorities = 10

// Availability of a host.
type Availability string

const (
	Online    Availability = "online"
	Draining  Availability = "draining"
	Unhealthy Availability = "unhealthy" // ComfyUI is down or sick
	Resting   Availability = "resting"   // it gets no jobs for a while, although its agent reports it as online
)

// Run is a job on a host.
type Run struct {
	Tenant   Tenant
	Job      JobID
	Priority int
	Hash     workflow.Hash
	Since    time.Time // when it was accepted
}

// HostState is what the agent of a host reports.
type HostState struct {
	ID       HostID
	State    Availability
	Slots    int             // jobs that it runs at once
	Prefetch int             // jobs that it holds beyond its slots
	Running  []Run           // accepted and not ended, in the order they were accepted
	Foreign  int             // foreign prompts in its backlog, which are not of this fleet; they count as load
	Labels   []string        // such as "gpu=4090"
	Memory   int64           // bytes of VRAM; 0 = unknown
	Recent   []workflow.Hash // ran last, newest first; at most warmDepth are looked at
	Home     bool            // whether the asking dispatcher is this host's home
	Open     bool            // its home has left it free for so long that other dispatchers may give it waiting jobs
	Until    time.Time       // of a resting host: when it is given jobs again
	Why      string          // of a resting host
	Blame    Blame           // of an unhealthy host: the job that it ran when it became so; may be empty
}

// Block keeps jobs of a hash off a host. The JSON form is the value in the block table and the body of a
// blocked event.
type Block struct {
	Host     HostID        `json:"host"`
	Hash     workflow.Hash `json:"hash"`
	Kind     failure.Kind  `json:"kind"`
	Message  string        `json:"message,omitempty"`
	Job      JobID         `json:"job,omitempty"`
	Tenant   Tenant        `json:"tenant,omitempty"` // whose job failed; Message describes that failure
	Tenants  []Tenant      `json:"tenants"`          // whom it holds for; Everyone = all
	Failures int           `json:"failures"`         // strikes that led to it
	Level    int           `json:"level"`            // blocks of the pair before this one, as in Strikes.Level: a success does not reset it
	// Size is of kind out_of_memory: it holds jobs at least this big, and those of unknown size (see Strikes.Add).
	Size int64 `json:"size,omitempty"`
	// Own are the tenants that it holds for beside the others, by failures of their own, each from a size on; 0 = all sizes.
	Own   map[Tenant]int64 `json:"own,omitempty"`
	Until time.Time        `json:"until"` // by the server's clock; the block ends with its key
}

// Wishes are a job's conditions on hosts. Each entry is a host's name or a label of the form "key=value".
type Wishes struct {
	Prefer  []string // tried first
	Only    []string // when not empty, no other host will do
	Exclude []string // never
	Avoid   []string // hosts that failed this job: used when no other capable, unblocked host is online, and not before AvoidUntil
}

// Want is a job as far as choosing a host is concerned.
type Want struct {
	Hash     workflow.Hash
	Tenant   Tenant
	Priority int
	Size     int64 // width × height × batch × frames; 0 = unknown
	Wishes
	AvoidUntil time.Time
	NotBefore  time.Time // for Hold; Choose ignores it
	// Since is when the job first waited for a warm host; zero = never. It bounds that wait.
	Since time.Time
	// Whole makes Explain include the texts of other tenants' failures: for operators.
	Whole bool
	// passing: a free host is given another job while this one waits for a warm host.
	passing bool
}

func isLabel(term string) bool { return strings.IndexByte(term, '=') >= 0 }
