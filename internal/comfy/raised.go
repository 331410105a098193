package comfy

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/comfyherd/comfyherd/internal/failure"
)

// raised is an execution_error, from the websocket or from the history. Its
// inputs and traceback are not read: they hold what users wrote.
type raised struct {
	Prompt    text `json:"prompt_id"`
	Node      text `json:"node_id"`
	Class     text `json:"node_type"`
	Message   text `json:"exception_message"`
	Exception text `json:"exception_type"`
}

// blocked says that it is an ExecutionBlocked: one branch is skipped, the
// prompt goes on.
func (r *raised) blocked() bool {
	return r.Exception == "ExecutionBlocked" || strings.HasSuffix(string(r.Exception), ".ExecutionBlocked")
}

// failure classifies what a node raised.
func (r *raised) failure() *failure.Failure {
	// ComfyUI appends tips of many lines to its out-of-memory messages.
	message, _, _ := strings.Cut(string(r.Message), "\n\nTIPS")
	message = oneLine(message)
	exception := oneLine(string(r.Exception))
	f := &failure.Failure{
		Kind: raisedKind(exception, message), Node: clip(string(r.Node), 100),
		Class: clip(string(r.Class), 100), Exception: clip(exception, 100),
	}
	where := "a node"
	if f.Node != "" {
		where = fmt.Sprintf("node %s (%s)", f.Node, f.Class)
	}
	f.Message = clip(fmt.Sprintf("%s raised %s: %s", where, cmp.Or(f.Exception, "an error"), cmp.Or(message, "no message")), maxMessage)
	return f
}

// raisedKind looks for memory first: "CUDA error: out of memory" leaves the
// context usable.
func raisedKind(exception, message string) failure.Kind {
	lower := strings.ToLower(message)
	bare := exception[strings.LastIndexByte(exception, '.')+1:]
	switch {
	case strings.HasSuffix(bare, "OutOfMemoryError"), strings.HasSuffix(bare, "MemoryError"), aboutMemory(lower):
		return failure.OutOfMemory
	case containsAny(lower, "no space left on device", "[errno 28]", "disk quota exceeded"):
		return failure.HostSick
	case strings.Contains(lower, "no kernel image is available"):
		return failure.ExecutionError // one extension built for other cards; the context lives
	case bare == "AcceleratorError", containsAny(lower, "cuda error", "hip error", "cuda driver error",
		"device-side assert", "an illegal memory access", "unspecified launch failure",
		"cublas_status_execution_failed", "cudnn_status_execution_failed"):
		return failure.HostSick
	}
	return failure.ExecutionError
}

func aboutMemory(lower string) bool {
	return containsAny(lower, "out of memory", "allocation on device", "not enough gpu video memory",
		"can't allocate memory", "cannot allocate memory", "unable to allocate", "std::bad_alloc",
		"cublas_status_alloc_failed", "cudnn_status_alloc_failed")
}

func containsAny(s string, words ...string) bool {
	for _, word := range words {
		if strings.Contains(s, word) {
			return true
		}
	}
	return false
}
