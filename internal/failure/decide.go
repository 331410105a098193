package failure

import (
	"slices"
	"time"
)

// Reason is why a job is dead. The set is closed (docs/contract.md). Where each is decided, in internal/dispatcher if not named:
//
//   - after a failed attempt: Decide, below, for not_retryable, attempts_exhausted, workflow_fault and takes_hosts_down;
//   - invalid_job: receive.go (endRefused, what cannot be read as a job) and dispatch.go (a fault: its file has no such workflow);
//   - over_quota: dispatch.go (overQuota);
//   - expired: match.go (endExpired), dispatch.go (dispatch) and redelivered.go (claimExpired);
//   - no_capable_host: reasons.go, after its capableWait;
//   - takes_hosts_down for further jobs of a guilty workflow: place.go (placeNow) and reasons.go (guilty).
type Reason string

const (
	InvalidJob        Reason = "invalid_job"
	NotRetryable      Reason = "not_retryable"
	AttemptsExhausted Reason = "attempts_exhausted"
	WorkflowFault     Reason = "workflow_fault"
	NoCapableHost     Reason = "no_capable_host"
	TakesHostsDown    Reason = "takes_hosts_down"
	Expired           Reason = "expired"
	OverQuota         Reason = "over_quota"
)

// Reasons lists the closed set.
func Reasons() []Reason {
	return []Reason{InvalidJob, NotRetryable, AttemptsExhausted, WorkflowFault, NoCapableHost, TakesHostsDown, Expired, OverQuota}
}

const (
	// DefaultMaxAttempts bounds the attempts that count when the job does not say.
	DefaultMaxAttempts = 3
	// refusalsMost is how many hosts are asked at most about a job that all of them refuse.
	refusalsMost = 8
	// lossesMost is how many hosts may be lost with a job, even when no two losses are alike.
	lossesMost = 16
)

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
	Waited   bool          `json:"waited,omitempty"`   // as in Failure
	Proven   bool          `json:"proven,omitempty"`   // as in Failure
}

// Policy is what the job and the operator set.
type Policy struct {
	MaxAttempts int           // counted attempts; 0 means DefaultMaxAttempts
	RetryDelay  time.Duration // before a host that already failed this job; doubles with each attempt
}

// Evidence is what is known besides the job's own attempts. In the zero value nothing is known.
type Evidence struct {
	Back   []string // hosts that are healthy at this moment
	Others []Loss   // of the tenant's other jobs of the same workflow
	None   bool     // every host that is capable of the job has refused it
	Better bool     // a host that has not refused it is known to have all that it needs, and one that has refused it is known to lack something
}

// Loss is an attempt that ended with its host, and the job of that attempt.
type Loss struct {
	Attempt
	Job string // empty: the job that is judged
}

// Decision is what becomes of a job after its last attempt failed.
type Decision struct {
	Dead    bool
	Reason  Reason        // when dead
	Message string        // when dead and the message of the last attempt alone does not explain it
	Guilt   *Loss         // when two hosts went down in the same way: the earlier of the two
	Avoid   []string      // hosts that failed this job, in order of their first failure; used only when no other host may
	Delay   time.Duration // before a host in Avoid may be used again, or before any host when Later; without jitter
	Later   bool          // the delay holds for every host
	Counted bool          // whether the last attempt counts; one that ended with its host does not when that comes back
}

// Decide judges the last attempt from the earlier ones and what else is known. It is total and needs no clock; for an
// empty slice the decision is to try.
func Decide(attempts []Attempt, p Policy, known Evidence) Decision {
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
	d.Guilt = guilt(attempts, known.Others)
	d.Reason = reason(attempts, p.MaxAttempts, known, d.Guilt != nil)
	d.Dead = d.Reason != ""
	switch {
	case d.Dead:
		d.Message = message(attempts, d.Reason, d.Guilt)
	case last.Kind == Refused && !last.Proven:
		d.Delay = max(d.Delay, maxDelay) // this host would refuse again; another may be offline for a moment
	}
	return d
}

func reason(attempts []Attempt, limit int, known Evidence, guilty bool) Reason {
	last := attempts[len(attempts)-1]
	better := last.Kind == Refused && known.Better && len(refusals(attempts)) < refusalsMost
	switch {
	case last.Kind.Verdict().Next == End:
		return NotRetryable
	case last.Proven:
		return ""
	case !better && SecondOpinion(attempts):
		return WorkflowFault
	case last.Kind == Refused && (known.None || len(refusals(attempts)) >= refusalsMost):
		return NotRetryable
	case guilty, last.Lost() && len(losses(attempts)) >= lossesMost:
		return TakesHostsDown
	case last.Kind.Verdict().Counts == OnceFree && countKind(attempts, last.Kind) > 1:
		return NotRetryable
	case counted(attempts, known.Back) >= limit:
		return AttemptsExhausted
	}
	return ""
}

// SecondOpinion reports whether the last attempt is an execution_error or a refusal that another host has already met
// with the same signature: then the fault is the workflow's and not a host's.
func SecondOpinion(attempts []Attempt) bool {
	last := attempts[len(attempts)-1]
	if last.Kind != ExecutionError && last.Kind != Refused || last.Proven {
		return false
	}
	for _, a := range attempts[:len(attempts)-1] {
		if a.Kind == last.Kind && !a.Proven && a.Host != last.Host && a.Signature() == last.Signature() {
			return true
		}
	}
	return false
}

// Counts reports whether attempts[i] counts towards max_attempts; one that ended with its host does unless that host
// comes back.
func Counts(attempts []Attempt, i int) bool {
	if attempts[i].Proven {
		return false
	}
	switch attempts[i].Kind.Verdict().Counts {
	case Free:
		return false
	case OnceFree:
		return countKind(attempts[:i], attempts[i].Kind) > 0
	case HostFree:
		return refusedBy(attempts[:i], attempts[i].Host)
	case Counted, UnlessBack:
	}
	return true
}

// counted is how many attempts count. An attempt that ended with its host does not when the host has come back, and not
// yet when it is the last, since its host had no time for that; but it counts when an earlier one ended in the same way,
// as on a fleet of one host.
func counted(attempts []Attempt, back []string) int {
	n := 0
	for i, a := range attempts {
		again := slices.ContainsFunc(attempts[:i], func(b Attempt) bool { return sameWay(&a, &b) })
		free := a.Lost() && !again && (i == len(attempts)-1 || slices.Contains(back, a.Host))
		if !free && Counts(attempts, i) {
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

// refusals are the first refusal of each host, without those for which the host is to blame.
func refusals(attempts []Attempt) []Attempt {
	var list []Attempt
	for i, a := range attempts {
		if a.Kind == Refused && !a.Proven && !refusedBy(attempts[:i], a.Host) {
			list = append(list, a)
		}
	}
	return list
}

func refusedBy(attempts []Attempt, host string) bool {
	for _, a := range attempts {
		if a.Kind == Refused && !a.Proven && a.Host == host {
			return true
		}
	}
	return false
}

// RefusedBy lists the hosts that have refused a job, each once.
func RefusedBy(attempts []Attempt) []string {
	var hosts []string
	for _, a := range refusals(attempts) {
		hosts = append(hosts, a.Host)
	}
	return hosts
}

// avoided are the hosts that failed the job, except those with failures that say nothing about the host.
func avoided(attempts []Attempt) []string {
	var hosts []string
	seen := map[string]bool{}
	for _, a := range attempts {
		if a.Host == "" || seen[a.Host] || a.Kind == RejectedBusy || a.Kind == Transient {
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
