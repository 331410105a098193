package failure

import "time"

// Reason is why a job is dead. The set is closed (docs/contract.md).
type Reason string

const (
	InvalidJob        Reason = "invalid_job"
	NotRetryable      Reason = "not_retryable"
	AttemptsExhausted Reason = "attempts_exhausted"
	WorkflowFault     Reason = "workflow_fault"
	NoCapableHost     Reason = "no_capable_host"
	TakesHostsDown    Reason = "takes_hosts_down"
	Expired           Reason = "expired"
)

// DefaultMaxAttempts bounds the attempts that count when the job does not say.
const DefaultMaxAttempts = 3

// hostsDown is how many attempts may cost a host its ComfyUI before the job is taken out of the fleet.
const hostsDown = 2

// WorkerDied is the exception type of a host_sick failure whose prompt has killed ComfyUI's worker thread.
const WorkerDied = "worker_died"

// Attempt is one ended attempt of a job.
type Attempt struct {
	Number    int    `json:"attempt,omitempty"`
	Host      string `json:"host"`
	Kind      Kind   `json:"kind"`
	Message   string `json:"message"`
	Node      string `json:"node,omitempty"`
	Class     string `json:"class_type,omitempty"`
	Exception string `json:"exception_type,omitempty"`

	Cause    Cause         `json:"cause,omitempty"`    // as in Failure
	Progress float64       `json:"progress,omitempty"` // as in Failure
	NodeRan  time.Duration `json:"-"`                  // as in Failure
	Proven   bool          `json:"proven,omitempty"`   // as in Failure
}

// Policy is what the job and the operator set.
type Policy struct {
	MaxAttempts int           // counted attempts; 0 means DefaultMaxAttempts
	RetryDelay  time.Duration // before a host that already failed this job; doubles with each attempt
}

// Decision is what becomes of a job after its last attempt failed.
type Decision struct {
	Dead    bool
	Reason  Reason        // when dead
	Avoid   []string      // hosts that failed this job, in order of their first failure; used only when no other host may
	Delay   time.Duration // before a host in Avoid may be used again, or before any host when Later; without jitter
	Later   bool          // the delay holds for every host
	Counted bool          // whether the last attempt counted
}

// Decide judges the last of attempts in the light of the earlier ones. It is total and needs no clock;
// an empty slice decides to try.
func Decide(attempts []Attempt, p Policy) Decision {
	if len(attempts) == 0 {
		return Decision{}
	}
	if p.MaxAttempts <= 0 {
		p.MaxAttempts = DefaultMaxAttempts
	}
	last := attempts[len(attempts)-1]
	d := Decision{Avoid: avoided(attempts), Counted: Counts(attempts, len(attempts)-1)}
	d.Delay = delay(p.RetryDelay, attempts)
	d.Later = last.Kind.Verdict().Next == Later
	d.Reason = reason(attempts, p.MaxAttempts)
	d.Dead = d.Reason != ""
	return d
}

func reason(attempts []Attempt, limit int) Reason {
	last := attempts[len(attempts)-1]
	switch {
	case last.Kind.Verdict().Next == End:
		return NotRetryable
	case SecondOpinion(attempts):
		return WorkflowFault
	case countKind(attempts, HostLost)+wedged(attempts) >= hostsDown:
		return TakesHostsDown
	case last.Kind.Verdict().Counts == OnceFree && countKind(attempts, last.Kind) > 1:
		return NotRetryable
	case counted(attempts) >= limit:
		return AttemptsExhausted
	}
	return ""
}

// SecondOpinion reports whether the last attempt is an execution_error that another host has already
// met with the same signature: then the fault is the workflow's and not a host's.
func SecondOpinion(attempts []Attempt) bool {
	last := attempts[len(attempts)-1]
	if last.Kind != ExecutionError {
		return false
	}
	for _, a := range attempts[:len(attempts)-1] {
		if a.Kind == ExecutionError && a.Host != last.Host && a.Signature() == last.Signature() {
			return true
		}
	}
	return false
}

// Counts reports whether attempts[i] counts towards max_attempts.
func Counts(attempts []Attempt, i int) bool {
	switch attempts[i].Kind.Verdict().Counts {
	case Free:
		return false
	case OnceFree:
		return countKind(attempts[:i], attempts[i].Kind) > 0
	case Counted:
	}
	return true
}

func counted(attempts []Attempt) int {
	n := 0
	for i := range attempts {
		if Counts(attempts, i) {
			n++
		}
	}
	return n
}

func countKind(attempts []Attempt, kind Kind) int {
	n := 0
	for _, a := range attempts {
		if a.Kind == kind {
			n++
		}
	}
	return n
}

// wedged counts the attempts after which a host ran nothing any more: the prompt has killed the thread that runs
// prompts, and only a restart of ComfyUI brings it back. Other sick hosts, as one with a full disk, are not the job's doing.
func wedged(attempts []Attempt) int {
	n := 0
	for _, a := range attempts {
		if a.Kind == HostSick && a.Exception == WorkerDied {
			n++
		}
	}
	return n
}

// avoided leaves out hosts whose only failures say nothing about them.
func avoided(attempts []Attempt) []string {
	var hosts []string
	seen := map[string]bool{}
	for _, a := range attempts {
		if a.Host == "" || seen[a.Host] || a.Kind == RejectedBusy || a.Kind == Interrupted || a.Kind == Transient {
			continue
		}
		seen[a.Host] = true
		hosts = append(hosts, a.Host)
	}
	return hosts
}

// maxDelay bounds the doubling, not what the job asked for.
const maxDelay = 5 * time.Minute

func delay(base time.Duration, attempts []Attempt) time.Duration {
	if base <= 0 {
		base = time.Second
	}
	most := max(base, maxDelay)
	for i := 1; i < len(attempts) && base < most; i++ {
		base *= 2
	}
	return min(base, most)
}
