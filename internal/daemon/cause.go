package daemon

import "github.com/comfyherd/comfyherd/internal/failure"

// CauseText describes a failure.Cause to an operator.
type CauseText struct {
	Short     string // for a cell of a table
	Certain   string // the rest of a sentence about the host
	Suspected string // the same while it is not proven
	Help      string // whole sentences: what to do, and when the host takes jobs again
}

// DescribeCause describes a cause, also one that only newer agents report.
func DescribeCause(cause failure.Cause) CauseText {
	switch cause {
	case failure.Down:
		return CauseText{
			"ComfyUI does not answer", "its ComfyUI does not answer", "its ComfyUI may be down",
			"Start ComfyUI, or look at its log; the host takes jobs again as soon as it answers.",
		}
	case failure.WorkerGone:
		return CauseText{
			"worker is gone", "the part of ComfyUI that runs prompts has ended", "the part of ComfyUI that runs prompts may have ended",
			"Restart ComfyUI; the host takes jobs again by itself then.",
		}
	case failure.Stuck:
		return CauseText{
			"prompt does not stop", "a prompt does not stop, and nothing else can run", "a prompt may not stop",
			"The host takes jobs again when the prompt has stopped; a restart of ComfyUI ends it now.",
		}
	case failure.Poisoned:
		return CauseText{
			"CUDA unusable", "its ComfyUI cannot use the GPU any more (CUDA or HIP error)", "its ComfyUI may not be able to use the GPU any more (CUDA or HIP error)",
			"Restart ComfyUI; the host takes jobs again by itself then.",
		}
	case failure.DiskFull:
		return CauseText{
			"disk full", "ComfyUI cannot write files: its disk is full", "the disk of its ComfyUI may be full",
			"Make room on the disk of ComfyUI's output folder; the host takes jobs again by itself then.",
		}
	case failure.Barred:
		return CauseText{
			"submits are refused", "something before ComfyUI refuses its submits", "something before ComfyUI may refuse its submits",
			"Check the user and password in the agent's COMFY_HOSTS, and the proxy; the host takes jobs again when ComfyUI itself answers a submit.",
		}
	case failure.Unstorable:
		return CauseText{
			"cannot store results", "its agent cannot store results in NATS", "its agent may not be able to store results in NATS",
			"Make room for COMFY_OUTPUTS in NATS' JetStream; results are kept on the host until they are stored, and it takes jobs again then.",
		}
	}
	word := Spaces(string(cause)) // of a newer agent
	return CauseText{word, word, "it may have: " + word, ""}
}
