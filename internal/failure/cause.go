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

// Causes lists the closed set in the order of docs/failures.md.
func Causes() []Cause {
	return []Cause{Down, WorkerGone, Stuck, Poisoned, DiskFull, Barred, Unstorable}
}
