package comfy

import (
	"cmp"
	"fmt"
	"slices"
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

// block is what an ExecutionBlocked says, for people.
func (r *raised) block() string {
	message := oneLine(strings.TrimPrefix(string(r.Message), "Execution Blocked: "))
	return clip(fmt.Sprintf("node %s (%s) was not run: %s", clip(string(r.Node), 100), clip(string(r.Class), 100), cmp.Or(message, "no message")), maxMessage)
}

// failure classifies what a node raised.
func (r *raised) failure() *failure.Failure {
	// ComfyUI appends tips of many lines to its out-of-memory messages.
	message, _, _ := strings.Cut(string(r.Message), "\n\nTIPS")
	message = oneLine(message)
	exception := oneLine(string(r.Exception))
	f := &failure.Failure{
		Node: clip(string(r.Node), 100), Class: clip(string(r.Class), 100), Exception: clip(exception, 100),
	}
	f.Kind, f.Cause = raisedKind(exception, message)
	where := "a node"
	if f.Node != "" {
		where = fmt.Sprintf("node %s (%s)", f.Node, f.Class)
	}
	f.Message = clip(fmt.Sprintf("%s raised %s: %s", where, cmp.Or(f.Exception, "an error"), cmp.Or(message, "no message")), maxMessage)
	return f
}

// raisedKind decides by the exception's type, and by how its message begins where torch or the system itself writes
// that beginning. A message that quotes what a user wrote has it further back, or is raised with another type. Memory
// comes first: "CUDA error: out of memory" leaves the context usable.
func raisedKind(exception, message string) (failure.Kind, failure.Cause) {
	bare := exception[strings.LastIndexByte(exception, '.')+1:]
	device := exception == "RuntimeError" || strings.HasPrefix(exception, "torch.")
	switch {
	case strings.HasSuffix(bare, "MemoryError"), // and so OutOfMemoryError
		device && begins(message, memoryTexts), bare == "OSError" && strings.HasPrefix(message, "[Errno 12]"):
		return failure.OutOfMemory, ""
	case fullDisk(bare, message):
		return failure.HostSick, failure.DiskFull
	case bare == "AcceleratorError" && !begins(message, usableTexts), device && begins(message, poisonTexts) && !begins(message, usableTexts):
		return failure.HostSick, failure.Poisoned
	case outside(exception, bare):
		return failure.Transient, ""
	}
	return failure.ExecutionError, ""
}

func begins(message string, beginnings []string) bool {
	return slices.ContainsFunc(beginnings, func(b string) bool { return strings.HasPrefix(message, b) })
}

// memoryTexts are beginnings of the messages with which torch, its back ends and ComfyUI's samplers report a lack of memory.
var memoryTexts = []string{
	"CUDA error: out of memory", "CUDA out of memory", "HIP error: out of memory", "HIP out of memory", "XPU out of memory",
	"MPS backend out of memory", "NPU out of memory", "Allocation on device", "Could not allocate tensor with", "Not enough memory, use lower resolution",
	"[enforce fail at alloc_cpu.cpp", "DefaultCPUAllocator: ", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED",
	"cuDNN error: CUDNN_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "std::bad_alloc",
}

// poisonTexts are beginnings of torch's errors after which the device may be unusable for this process.
var poisonTexts = []string{
	"CUDA error: ", "HIP error: ", "CUDA driver error: ",
	"cuDNN error: CUDNN_STATUS_INTERNAL_ERROR", "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", "cuDNN error: CUDNN_STATUS_MAPPING_ERROR",
	"cuDNN error: CUDNN_STATUS_NOT_INITIALIZED", "CUDNN_STATUS_INTERNAL_ERROR", "CUDNN_STATUS_EXECUTION_FAILED", "CUDNN_STATUS_NOT_INITIALIZED",
	"CUBLAS_STATUS_NOT_INITIALIZED", "CUBLAS_STATUS_EXECUTION_FAILED", "CUBLAS_STATUS_INTERNAL_ERROR",
}

// usableTexts are beginnings of errors that would otherwise count as failure.Poisoned. The device stays usable: the call was wrong,
// or an extension was built for other cards.
var usableTexts = []string{
	"CUDA error: no kernel image is available", "HIP error: no kernel image is available", "HIP error: invalid device function",
	"CUDA error: invalid argument", "CUDA error: invalid configuration argument", "CUDA error: operation not supported", "CUDA error: invalid device ordinal",
	"CUDA error: CUBLAS_STATUS_NOT_SUPPORTED", "CUDA error: CUBLAS_STATUS_INVALID_VALUE",
}

// fullDisk reports whether a message begins as those of the system, or of libraries that write large files, about a full
// disk.
func fullDisk(bare, message string) bool {
	switch bare {
	case "OSError", "IOError":
		return begins(message, []string{"[Errno 28]", "[Errno 122]"})
	case "SafetensorError":
		return begins(message, []string{"Error while serializing: IoError(Os { code: 28,", "Error while serializing: I/O error: No space left on device"})
	}
	return false
}

// outside reports whether a node could not reach a server outside of the fleet, by the exception's type alone. A malformed
// address is the workflow's fault.
func outside(exception, bare string) bool {
	switch bare {
	case "ConnectionError", "ConnectionRefusedError", "ConnectionResetError", "ConnectionAbortedError", "BrokenPipeError", "TimeoutError":
		return true
	}
	library, _, _ := strings.Cut(exception, ".")
	switch library {
	case "requests", "aiohttp", "urllib", "urllib3", "httpx", "httpcore", "websockets", "websocket":
		return !strings.HasPrefix(bare, "Invalid") && !strings.HasPrefix(bare, "Missing") && !strings.HasPrefix(bare, "Unsupported") && bare != "JSONDecodeError" && bare != "LocationParseError"
	case "http":
		return strings.HasPrefix(exception, "http.client.") && bare != "InvalidURL"
	case "socket":
		return bare == "gaierror" || bare == "herror" || bare == "timeout"
	case "ssl":
		return strings.HasPrefix(bare, "SSL")
	case "huggingface_hub":
		return bare == "HfHubHTTPError"
	case "comfy_api_nodes":
		return bare == "NetworkError" || bare == "LocalNetworkError" || bare == "ApiServerError"
	}
	return false
}
