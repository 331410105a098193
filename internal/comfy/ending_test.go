package comfy_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
)

type ended struct{ Label, Path, Body string }

func (e ended) id() string { return e.Path[strings.LastIndexByte(e.Path, '/')+1:] }

// endedHost is a host on which one recorded prompt has ended.
func endedHost(t *testing.T, e ended) *comfy.Host {
	t.Helper()
	return serve(t, routes{
		"GET " + e.Path:      says(http.StatusOK, e.Body),
		"GET /queue":         says(http.StatusOK, emptyQueue),
		"POST /prompt":       accepts(e.id()),
		"GET /internal/logs": says(http.StatusOK, `""`),
	})
}

func TestEveryRecordedEndingIsUnderstood(t *testing.T) {
	t.Parallel()
	kinds := map[string]failure.Kind{
		"node raises: ValueError":       failure.ExecutionError,
		"node raises: torch_oom":        failure.OutOfMemory,
		"node raises: runtime_oom_text": failure.OutOfMemory,
		"two outputs, one branch raises: first failure ends the whole prompt; outputs finished before it stay in history.outputs": failure.ExecutionError,
		"LoadImage file deleted between validation and execution":                                                                 failure.ExecutionError,
		"global interrupt of a running job (progress node: interrupt lands at next ProgressBar update)":                           failure.Interrupted,
		"/api/jobs/{id}/cancel and batch": failure.Interrupted,
		// A file of the cache, of which nothing shows that it is still what that node wrote.
		"same graph with different node ids: cache hits are keyed by input signature, not node id":          failure.Lost,
		"output file deleted from disk, then identical prompt again: reports success although file is gone": failure.Lost,
		"second identical": failure.Lost,
		"third identical":  failure.Lost,
	}
	for _, e := range recorded[ended](t, "endings.jsonl") {
		if strings.Contains(e.Body, `"in_progress"`) {
			continue
		}
		t.Run(e.Label, func(t *testing.T) {
			t.Parallel()
			result, err := endedHost(t, e).Run(within(t), comfy.Prompt{ID: e.id(), Workflow: []byte(graph)}, comfy.Watch{})
			if got := failure.KindOf(err); got != kinds[e.Label] {
				t.Errorf("ends as %q (%v), want %q", got, err, kinds[e.Label])
			}
			if err == nil && result.Ran < 0 {
				t.Errorf("it ran for %s", result.Ran)
			}
		})
	}
}

func find(t *testing.T, label, path string) ended {
	t.Helper()
	for _, e := range recorded[ended](t, "endings.jsonl") {
		if e.Label == label && strings.HasPrefix(e.Path, path) && !strings.Contains(e.Body, `"in_progress"`) {
			return e
		}
	}
	t.Fatalf("no recording of %s", label)
	return ended{}
}

func TestAResultIsReadFromTheJobAndFromTheHistory(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/api/jobs/", "/history/"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			e := find(t, "02_success_full_ws", path)
			got, err := endedHost(t, e).Run(within(t), comfy.Prompt{ID: e.id(), Workflow: []byte(graph)}, comfy.Watch{})
			if err != nil {
				t.Fatal(err)
			}
			want := &comfy.Result{
				Outputs:   []comfy.Output{{Node: "3", Media: "images", Filename: "probe_00001_.png", Type: "output"}},
				NodeTimes: map[string]time.Duration{},
				// create_time …772, execution_start …773, execution_success …788788
				Queued: time.Millisecond, Ran: 1015 * time.Millisecond,
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAFailureTellsTheNodeAndNothingOfItsInputs(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/api/jobs/", "/history/"} {
		e := find(t, "node raises: torch_oom", path)
		_, err := endedHost(t, e).Run(within(t), comfy.Prompt{ID: e.id(), Workflow: []byte(graph)}, comfy.Watch{})
		want := failure.Failure{
			Kind: failure.OutOfMemory, Node: "2", Class: "PPRaise", Exception: "torch.OutOfMemoryError",
			Message: "node 2 (PPRaise) raised torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB. " +
				"GPU 0 has a total capacity of 23.99 GiB of which 1.02 GiB is free. This error means you ran out of memory on your GPU.",
		}
		if diff := cmp.Diff(want, *failure.As(err)); diff != "" {
			t.Error(path, diff)
		}
	}
}

func TestRaisedExceptionsHaveTheirKind(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		exception, message string
		want               failure.Kind
	}{
		"TorchOutOfMemory":       {"torch.cuda.OutOfMemoryError", "x", failure.OutOfMemory},
		"AllocationOnDevice":     {"RuntimeError", "Allocation on device 0 would exceed allowed memory. (out of memory)", failure.OutOfMemory},
		"AllocationOnDeviceBare": {"torch.OutOfMemoryError", "Allocation on device", failure.OutOfMemory},
		"CUDAOutOfMemory":        {"RuntimeError", "CUDA error: out of memory", failure.OutOfMemory},
		"CUDAOutOfMemoryNew":     {"torch.AcceleratorError", "CUDA error: out of memory", failure.OutOfMemory},
		"HostMemory":             {"MemoryError", "", failure.OutOfMemory},
		"HostMemoryOfTorch":      {"RuntimeError", "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.", failure.OutOfMemory},
		"HostMemoryOfNumpy":      {"numpy._core._exceptions._ArrayMemoryError", "Unable to allocate 8.00 GiB for an array", failure.OutOfMemory},
		"HostMemoryOfFork":       {"OSError", "[Errno 12] Cannot allocate memory", failure.OutOfMemory},
		"MemoryLane":             {"ValueError", "ran out of memory lane", failure.ExecutionError},
		"PoisonedContext":        {"RuntimeError", "CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported", failure.HostSick},
		"IllegalAccess":          {"torch.AcceleratorError", "CUDA error: an illegal memory access was encountered", failure.HostSick},
		"HIP":                    {"RuntimeError", "HIP error: unspecified launch failure", failure.HostSick},
		"CuDNN":                  {"RuntimeError", "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR", failure.HostSick},
		"CuDNNNotSupported":      {"RuntimeError", "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed in a non-contiguous input.", failure.ExecutionError},
		"Cublas":                 {"RuntimeError", "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`", failure.HostSick},
		"CublasMemory":           {"RuntimeError", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", failure.OutOfMemory},
		"DiskFull":               {"OSError", "[Errno 28] No space left on device: '/srv/output/a.png'", failure.HostSick},
		"DiskFullOfAV":           {"av.error.OSError", "[Errno 28] No space left on device: '/srv/output/a.mp4'", failure.HostSick},
		"DiskFullOfSafetensors":  {"safetensors_rust.SafetensorError", `Error while serializing: IoError(Os { code: 28, kind: StorageFull, message: "No space left on device" })`, failure.HostSick},
		"Quota":                  {"OSError", "[Errno 122] Disk quota exceeded", failure.HostSick},
		"NameOfNoSpace":          {"OSError", "[Errno 36] File name too long: '[Errno 28] No space left on device'", failure.ExecutionError},
		"NoKernel":               {"RuntimeError", "CUDA error: no kernel image is available for execution on the device", failure.ExecutionError},
		"NoKernelNew":            {"torch.AcceleratorError", "CUDA error: no kernel image is available for execution on the device", failure.ExecutionError},
		"Shapes":                 {"RuntimeError", "mat1 and mat2 shapes cannot be multiplied (77x768 and 1024x320)", failure.ExecutionError},
		"OutsideTheFolder":       {"Exception", "**** ERROR: Saving image outside the output folder is not allowed.", failure.ExecutionError},
		"InputFileGone":          {"FileNotFoundError", "[Errno 2] No such file or directory: '/in/cat.png'", failure.ExecutionError},
		"MissingModule":          {"ModuleNotFoundError", "No module named 'insightface'", failure.ExecutionError},
		"Refused":                {"ConnectionRefusedError", "[Errno 111] Connection refused", failure.Transient},
		"Requests":               {"requests.exceptions.ReadTimeout", "x", failure.Transient},
		"RequestsURL":            {"requests.exceptions.MissingSchema", "Invalid URL 'cat'", failure.ExecutionError},
		"Aiohttp":                {"aiohttp.client_exceptions.ClientConnectorError", "x", failure.Transient},
		"Urllib":                 {"urllib.error.HTTPError", "HTTP Error 503", failure.Transient},
		"HTTPClient":             {"http.client.RemoteDisconnected", "x", failure.Transient},
		"HTTPClientURL":          {"http.client.InvalidURL", "x", failure.ExecutionError},
		"HTTPServer":             {"http.server.Odd", "x", failure.ExecutionError},
		"SocketOther":            {"socket.SocketKind", "x", failure.ExecutionError},
		"Herror":                 {"socket.herror", "x", failure.Transient},
		"SocketTimeout":          {"socket.timeout", "x", failure.Transient},
		"SSLOther":               {"ssl.CertificateError", "x", failure.ExecutionError},
		"HuggingFace":            {"huggingface_hub.errors.HfHubHTTPError", "x", failure.Transient},
		"HuggingFaceName":        {"huggingface_hub.errors.HFValidationError", "x", failure.ExecutionError},
		"APINodes":               {"comfy_api_nodes.util.common_exceptions.ApiServerError", "x", failure.Transient},
		"APINodesNetwork":        {"comfy_api_nodes.util.common_exceptions.NetworkError", "x", failure.Transient},
		"APINodesLocalNetwork":   {"comfy_api_nodes.util.common_exceptions.LocalNetworkError", "x", failure.Transient},
		"APINodesCancelled":      {"comfy_api_nodes.util.common_exceptions.ProcessingInterrupted", "x", failure.ExecutionError},
		"Name":                   {"socket.gaierror", "[Errno -2] Name or service not known", failure.Transient},
		"TLS":                    {"ssl.SSLCertVerificationError", "x", failure.Transient},
		"Timeout":                {"TimeoutError", "", failure.Transient},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := `{"` + promptID + `": {"outputs": {}, "status": {"status_str": "error", "completed": false, "messages": [["execution_error", {"node_id": "4", "node_type": "X", "exception_type": ` +
				quote(t, c.exception) + `, "exception_message": ` + quote(t, c.message) + `, "current_inputs": {"text": ["secret"], "strength": [NaN]}, "timestamp": 5}]]}}}`
			host := endedHost(t, ended{Path: "/history/" + promptID, Body: body})
			_, err := host.Run(within(t), comfy.Prompt{ID: promptID, Workflow: []byte(graph)}, comfy.Watch{})
			if got := failure.KindOf(err); got != c.want {
				t.Errorf("ends as %v, want %s", err, c.want)
			}
			if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "\n") {
				t.Errorf("its message is %q", err)
			}
		})
	}
}

func TestOutputsOfEveryMediaKindAreFound(t *testing.T) {
	t.Parallel()
	const body = `{"` + promptID + `": {"outputs": {
		"12": {"gifs": [{"filename": "a.mp4", "subfolder": "v", "type": "output", "format": "video/h264-mp4", "frame_rate": NaN}]},
		"9": {"images": [{"filename": "b.png", "subfolder": "", "type": "temp"}, {"filename": "c.png", "subfolder": "", "type": "output"}], "animated": [true]},
		"7": {"audio": [{"filename": "d.flac", "subfolder": "audio", "type": "output"}], "text": ["hello", 5, null]},
		"8:1": {"3d": [{"filename": "e.glb", "subfolder": "", "type": "output"}], "result": [{"x": -Infinity}], "odd": 5},
		"3": null},
		"status": {"status_str": "success", "completed": true, "messages": []}}}`
	host := endedHost(t, ended{Path: "/history/" + promptID, Body: body})
	got, err := host.Run(within(t), comfy.Prompt{ID: promptID, Workflow: []byte(graph)}, comfy.Watch{})
	if err != nil {
		t.Fatal(err)
	}
	want := []comfy.Output{
		{Node: "7", Media: "audio", Filename: "d.flac", Subfolder: "audio", Type: "output"},
		{Node: "9", Media: "images", Filename: "b.png", Type: "temp"},
		{Node: "9", Media: "images", Filename: "c.png", Type: "output"},
		{Node: "12", Media: "gifs", Filename: "a.mp4", Subfolder: "v", Type: "output"},
		{Node: "8:1", Media: "3d", Filename: "e.glb", Type: "output"},
	}
	if diff := cmp.Diff(want, got.Outputs); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string][]string{"7": {"hello", "5"}}, got.Texts); diff != "" {
		t.Error(diff)
	}
}
