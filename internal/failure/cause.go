package failure

// Cause is what keeps a host from running jobs. Each cause has a probe of its own and its own way back (docs/failures.md).
type Cause string

const (
	// Down: ComfyUI does not answer. Way back: it answers.
	Down Cause = "down"
	// WorkerGone: the thread that runs prompts has ended. Way back: another process.
	WorkerGone Cause = "worker_gone"
	// Stuck: a prompt does not stop and nothing else can run. Way back: the prompt is gone.
	Stuck Cause = "stuck"
	// Poisoned: the CUDA or HIP context is unusable. Way back: another process.
	Poisoned Cause = "poisoned"
	// DiskFull: nothing can be written. Way back: the agent's own file can be.
	DiskFull Cause = "disk_full"
	// Barred: something before ComfyUI refuses submits. Way back: ComfyUI itself answers a submit.
	Barred Cause = "barred"
	// Unstorable: the agent cannot store results in NATS. Way back: they are stored.
	Unstorable Cause = "unstorable"
)

// Remedy is what shows that a host has a cause, and what shows that the cause is over.
type Remedy struct{ Sign, Back string }

var remedies = map[Cause]Remedy{
	Down:       {"ComfyUI does not answer, and its port or process is gone", "ComfyUI answers"},
	WorkerGone: {"the thread that runs prompts has ended: its log says so, or a prompt stays although nothing runs", "ComfyUI was restarted"},
	Stuck:      {"a prompt does not stop, and nothing else can run", "the prompt is gone"},
	Poisoned:   {"a job failed as in an unusable CUDA or HIP context: the host is on trial, and out when another workflow fails in the same way", "ComfyUI was restarted; while on trial, also a job of another workflow that completes"},
	DiskFull:   {"a job could not write, and neither can the agent", "the agent can write a file of its own"},
	Barred:     {"something before ComfyUI refused a submit, and also the agent's own submit", "ComfyUI itself answers the agent's submit"},
	Unstorable: {"the agent cannot store results in NATS", "the results are stored"},
}

// Remedy is total; that of a cause which is not of the closed set is empty.
func (c Cause) Remedy() Remedy { return remedies[c] }

// Causes lists the closed set in the order of docs/failures.md.
func Causes() []Cause {
	return []Cause{Down, WorkerGone, Stuck, Poisoned, DiskFull, Barred, Unstorable}
}
