package comfysim

import "fmt"

// exception is a Python exception as it appears in execution_error: its type and its message, both verbatim.
type exception struct {
	kind    string
	message string
	fatal   bool // no Exception but a BaseException: it ends the worker thread
}

func (e *exception) Error() string { return e.kind + ": " + e.message }

const oomTail = "\nThis error means you ran out of memory on your GPU.\n\n" +
	"TIPS: If the workflow worked before you might have accidentally set the batch_size to a large number."

const oomMessage = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 23.99 GiB of which 1.02 GiB is free."

// plainExceptions have no text of their own.
var plainExceptions = [...]string{"ValueError", "RuntimeError", "MemoryError", "FileNotFoundError", "KeyError", "TypeError", "ConnectionError"}

// recordedExceptions carry the texts that real servers sent.
var recordedExceptions = [...]struct{ name, kind, message string }{
	{"torch.OutOfMemoryError", "torch.OutOfMemoryError", oomMessage + oomTail},
	{"runtime_oom_text", "RuntimeError", "CUDA error: out of memory" + oomTail},
	{"cpu_oom", "RuntimeError", "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 1125899906842624 bytes. Error code 12 (Cannot allocate memory)\n"},
	{"mat_shapes", "RuntimeError", "mat1 and mat2 shapes cannot be multiplied (77x2048 and 768x320)\n"},
	{"cuda_device_assert", "RuntimeError", "CUDA error: device-side assert triggered\n"},
	{"ENOSPC", "OSError", "[Errno 28] No space left on device\n"},
}

// exceptionKinds are the choices of SimRaise, and the names a raise fault understands.
func exceptionKinds() []string {
	kinds := append([]string{}, plainExceptions[:]...)
	for _, e := range recordedExceptions {
		kinds = append(kinds, e.name)
	}
	return append(kinds, "SystemExit")
}

// newException makes an exception by name. A name that is not known is taken as a Python type. An empty message means
// the usual one.
func newException(name, message string) *exception {
	for _, e := range recordedExceptions {
		if e.name != name {
			continue
		}
		if message == "" {
			message = e.message
		}
		return &exception{kind: e.kind, message: message}
	}
	if message == "" {
		message = "simulated: " + name
	}
	switch name {
	case "SystemExit", "KeyboardInterrupt":
		return &exception{kind: name, message: message, fatal: true}
	case "KeyError":
		return &exception{kind: name, message: fmt.Sprintf("'%s'\n", message)}
	}
	return &exception{kind: name, message: message + "\n"}
}

// traceback has the shape of a real one: a list of frames, outermost first.
func (e *exception) traceback(class string) []string {
	return []string{
		"  File \"/srv/comfyui/execution.py\", line 545, in execute\n    output_data, output_ui, has_subgraph, has_pending_tasks = await get_output_data(prompt_id, unique_id, obj, input_data_all, execution_block_cb=execution_block_cb, pre_execute_cb=pre_execute_cb, v3_data=v3_data)\n",
		"  File \"/srv/comfyui/execution.py\", line 306, in process_inputs\n    result = f(**inputs)\n",
		fmt.Sprintf("  File \"/srv/comfyui/custom_nodes/simulated/__init__.py\", line 77, in run\n    raise %s # %s\n", e.kind, class),
	}
}
