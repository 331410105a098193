package failure

// Scope says whom a strike of a kind counts against.
type Scope int

const (
	// NoStrike: the failure says nothing about this workflow on this host.
	NoStrike Scope = iota
	// PerTenant: the tenant's own inputs may be the reason, so it counts, and blocks, per tenant.
	PerTenant
	// Suspected: nothing is blocked, but the failure is remembered as a suspicion (route.Suspicion): a second one alike on
	// another host shows that the workflow is at fault.
	Suspected
	// UntilCapable: the pair is blocked at once, for route.Policy.Cap, or until the host's capability changes if that is
	// earlier.
	UntilCapable
)

func (s Scope) String() string {
	return [...]string{"no", "yes, per tenant", "remembered", "blocked until the capability changes"}[s]
}

// Counting says whether an attempt that failed so counts towards max_attempts.
type Counting int

const (
	// Free: never counts.
	Free Counting = iota
	// Counted: always counts.
	Counted
	// OnceFree: the first is free, the next ends the job.
	OnceFree
	// HostFree: the first of each host is free.
	HostFree
	// UnlessBack: it counts unless the host has come back when the next attempt is judged.
	UnlessBack
)

func (c Counting) String() string {
	return [...]string{"no", "yes", "once free", "once free on each host", "unless the host comes back"}[c]
}

// Next is where a job goes after a failure.
type Next int

const (
	// End: dead at once, reason not_retryable.
	End Next = iota
	// Elsewhere: another host at once; the failing host only after retry_delay and only when no other may.
	Elsewhere
	// Later: after retry_delay, on any host.
	Later
)

func (n Next) String() string { return [...]string{"dead at once", "another host at once", "later"}[n] }

// Verdict is what follows from one failed attempt of a kind.
type Verdict struct {
	Strike  Scope
	Counts  Counting
	Next    Next
	Summary string // the row's remark in the table of kinds, for people
}

var verdicts = map[Kind]Verdict{
	InvalidWorkflow: {NoStrike, Free, End, "no host can run it"},
	Incapable:       {UntilCapable, Free, Elsewhere, "the job waits for capable_wait when no host is capable, and is then dead: no_capable_host"},
	OutOfMemory:     {PerTenant, Counted, Elsewhere, "the agent calls /free; the block applies to jobs at least as big, and to those of unknown size; a host with more memory is tried first"},
	ExecutionError:  {PerTenant, Counted, Elsewhere, "a second host decides: after the same signature on two hosts the job is dead: workflow_fault"},
	Timeout:         {PerTenant, Counted, Elsewhere, "before the retry the agent cancels the prompt by its id and waits until ComfyUI has confirmed it"},
	HostLost:        {Suspected, UnlessBack, Elsewhere, "after two alike on two hosts the job is dead: takes_hosts_down"},
	HostSick:        {PerTenant, UnlessBack, Elsewhere, "as host_lost; when a probe or another workflow has proven the host's fault, it is no strike and does not count"},
	Refused:         {NoStrike, HostFree, Elsewhere, "after the same signature on two hosts the job is dead: workflow_fault; after a refusal by every capable host it is dead: not_retryable"},
	Transient:       {NoStrike, Counted, Later, "a node could not reach a service outside of the fleet; tried again after retry_delay"},
	RejectedBusy:    {NoStrike, Free, Later, "tried again after retry_delay"},
	Lost:            {NoStrike, Counted, Elsewhere, "the agent is gone and the lease has run out"},
	Drained:         {NoStrike, Free, Elsewhere, "the agent shut down"},
	Interrupted:     {NoStrike, OnceFree, Elsewhere, "runs once more, on another host, and is dead when it is interrupted again"},
}

// Verdict is total: a kind that is not of the closed set (an event written by a newer or foreign agent) is
// treated as Lost, which retries elsewhere and blames no host.
func (k Kind) Verdict() Verdict {
	if v, known := verdicts[k]; known {
		return v
	}
	return verdicts[Lost]
}
