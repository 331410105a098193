// Package failure says why an attempt failed and what follows from it.
//
// The set of kinds is closed. The agent gives each failed attempt one Kind. What follows (a strike, whether the attempt
// counts, where the job is tried next, whether it is dead) is decided by the pure functions of this package from that
// Kind, the job's earlier attempts and the evidence given to them.
package failure

import (
	"errors"
	"time"
)

// Kind is why one attempt of a job failed. The text is what events, blocks, metrics and docs have.
type Kind string

const (
	// InvalidWorkflow: no host can ever run this graph. The job is dead at once and no host is blamed.
	InvalidWorkflow Kind = "invalid_workflow"
	// Incapable: this host lacks a node class or a model. The pair is blocked for the cap of route.Policy, or until the
	// host's capability changes if that is earlier.
	Incapable Kind = "incapable"
	// OutOfMemory: GPU or host memory ran out. Blocks jobs of this size and more; a bigger host is tried.
	OutOfMemory Kind = "out_of_memory"
	// ExecutionError: a node raised. Another host is asked for a second opinion.
	ExecutionError Kind = "execution_error"
	// Timeout: the start, node or total time was over. Before it is reported, the prompt is cancelled on the host.
	Timeout Kind = "timeout"
	// HostLost: while the job was on it, ComfyUI ended, restarted, refused connections or gave no answer. Neither host nor
	// job is blamed until a second host is lost in the same way.
	HostLost Kind = "host_lost"
	// HostSick: ComfyUI answers but can run nothing any more (poisoned CUDA context, full disk, wedged thread); Cause says which.
	HostSick Kind = "host_sick"
	// Refused: this host's ComfyUI, or a proxy before it, did not accept this job: its validation found something
	// that depends on what is installed, or a proxy answered the submit. Another host is asked.
	Refused Kind = "refused"
	// Transient: a node could not reach something outside of the fleet (a service, a download). Tried again later.
	Transient Kind = "transient"
	// RejectedBusy: the host did not accept the prompt now (429, 503, prompts of others in its backlog).
	RejectedBusy Kind = "rejected_busy"
	// Lost: the agent is gone with its lease, or it no longer knows the prompt.
	Lost Kind = "lost"
	// Drained: the agent gave the job back while it was shutting down.
	Drained Kind = "drained"
	// Interrupted: a person or another program interrupted or deleted the prompt in ComfyUI.
	Interrupted Kind = "interrupted"
)

// Kinds lists the closed set in the order of docs/failures.md. A new kind has its place in:
//
//   - kind.go: the constant, and this list;
//   - verdict.go: its row in verdicts. A kind without one would count as lost, so a test demands a row for every kind;
//   - decide.go: avoided, reason and Counts, only if the row does not say all that follows;
//   - where it arises: search internal/comfy, internal/agent and internal/dispatcher for failure.New, failure.Failure{ and Kind. In
//     comfy nearly every file of a prompt's way has some: prompt.go, run.go, submit.go, refusal.go, limits.go, poll.go, ending.go,
//     exception.go, prove.go, files.go, pictures.go, cached.go and probes.go. In agent inputs.go, attempt.go, report.go, store.go and
//     consequences.go have some. A dispatcher makes only lost (redelivered.go) and, for what is no job, invalid_workflow (receive.go);
//   - consequences in internal/agent/consequences.go, whose switch has to name every kind, and notRecorded in internal/agent/record.go, if
//     ComfyUI has no record of such a prompt;
//   - where a kind that it is like has a case of its own: search for failure. and the name of that kind. So settle.go and evidence.go
//     in internal/dispatcher treat refused, and kinds that end with the host (Attempt.Lost), apart from the others;
//   - docs/failures.md, whose table a test compares with the rows, and the table of kinds in docs/troubleshooting.md.
//
// A new Scope is also handled by Scope.String, Strikes.Add (internal/route/strikes.go), recovered (internal/route/success.go), and, in
// internal/dispatcher, strikes.go and halt (blocks.go).
func Kinds() []Kind {
	return []Kind{
		InvalidWorkflow, Incapable, OutOfMemory, ExecutionError, Timeout, HostLost,
		HostSick, Refused, Transient, RejectedBusy, Lost, Drained, Interrupted,
	}
}

// Valid reports whether k is one of Kinds.
func (k Kind) Valid() bool {
	_, known := verdicts[k]
	return known
}

// WorkerDied is the exception type of a host_sick failure whose prompt has killed ComfyUI's worker thread.
const WorkerDied = "worker_died"

// Failure is one failed attempt as the agent saw it. It is an error, and callers return it unchanged.
type Failure struct {
	Kind      Kind
	Message   string // one line for a person: what is wrong and where
	Node      string // id of the graph node that failed; empty when it was no node
	Class     string // class_type of that node
	Exception string // Python exception type, as ComfyUI gave it

	Cause    Cause         // of HostSick: why the host can run nothing
	Progress float64       // of HostLost and HostSick: how far the node was, 0 to 1; 0 when it reported nothing
	NodeRan  time.Duration // of HostLost and HostSick: how long the node had run
	Waited   bool          // of HostLost and HostSick: the prompt waited in ComfyUI's queue while another one ran
	Proven   bool          // the host is to blame and not this job: a probe or another workflow shows it, or nothing was sent
}

// New makes a Failure that concerns no single node.
func New(kind Kind, message string) *Failure { return &Failure{Kind: kind, Message: message} }

func (f *Failure) Error() string { return string(f.Kind) + ": " + f.Message }

// As gives the Failure within err. For an error without one it makes a Failure of kind Lost, which counts as an attempt and
// blames no host: the fault lies on our side of the connection to ComfyUI. As is total; nil gives nil.
func As(err error) *Failure {
	if err == nil {
		return nil
	}
	var f *Failure
	if errors.As(err, &f) {
		return f
	}
	return New(Lost, err.Error())
}

// KindOf is the Kind of As(err); it is empty only for nil.
func KindOf(err error) Kind {
	if f := As(err); f != nil {
		return f.Kind
	}
	return ""
}
