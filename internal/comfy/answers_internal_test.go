package comfy

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// The beginning of an answer may be JSON by itself, and must not be taken for all of it.
func TestAnAnswerThatBreaksOffIsAnError(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte("{}"))
	}))
	t.Cleanup(server.Close)
	h, err := New(server.URL, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	if got, err := h.get(t.Context(), "/queue", nil, smallAnswer); err == nil || !strings.Contains(err.Error(), "read the answer to GET /queue") {
		t.Errorf("%s, %v", got.body, err)
	}
	if err := h.put(t.Context(), fileRef{"output", ownFolder, "a"}, nil, true); err == nil {
		t.Error("a file counts as written although its answer broke off")
	}
}

// Process and ProbeRoom tell a host that is gone from one that answers.
func TestAFileThatCannotBeWrittenSaysWhy(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(nil)
	server.Close()
	h, err := New(server.URL, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.put(t.Context(), fileRef{"output", ownFolder, "a"}, nil, true); !refused(err) {
		t.Errorf("by a port that refuses: %v", err)
	}
	if _, err := h.fetch(t.Context(), fileRef{"temp", ownFolder, "a"}); !refused(err) {
		t.Errorf("read from a port that refuses: %v", err)
	}
}

func TestTheObjectInfoIsKeptWholeOrNotTaken(t *testing.T) {
	t.Parallel()
	whole := `{"A": {"input": {"required": {}}}}` + strings.Repeat(" ", 100_000)
	var raw bytes.Buffer
	if c, err := answering(t, http.StatusOK, whole).Capability(t.Context(), &raw); err != nil || raw.String() != whole || !c.HasClass("A") {
		t.Errorf("%d of %d bytes are kept: %v", raw.Len(), len(whole), err)
	}
	for _, part := range []string{"", "{", `{"A": {}`, `{"A": {}, "B"`, "[]"} {
		if _, err := answering(t, http.StatusOK, part).Capability(t.Context(), nil); err == nil {
			t.Errorf("%q is taken", part)
		}
	}
}

func TestPicturesInAPacksMemoryAreKnownByTheirEntry(t *testing.T) {
	t.Parallel()
	for entry, want := range map[string]string{
		`{"source": "http", "id": "a-1"}`:                               "a-1.png",
		`{"source": "http", "id": "a-1", "content-type": "image/png"}`:  "a-1.png",
		`{"source": "http", "id": "a-1", "content-type": "image/jpeg"}`: "a-1.jpg",
		`{"source": "http", "id": "a-1", "content-type": "image/webp"}`: "a-1.webp",
		`{"source": "http", "id": "a/b"}`:                               "",
		`{"source": "http"}`:                                            "",
		`{"source": "websocket", "id": "a-1"}`:                          "",
	} {
		var files []Output
		if want != "" {
			files = []Output{{Node: "9", Media: "images", Filename: want, Type: workflow.CachedOutput}}
		}
		got := readOutputs(map[string]json.RawMessage{"9": json.RawMessage(`{"images": [` + entry + `]}`)})
		if diff := cmp.Diff(files, got.files); diff != "" {
			t.Errorf("%s: %s", entry, diff)
		}
	}
}

// Of other back ends than CUDA torch's messages begin otherwise, and the type is the same.
func TestAnAcceleratorErrorBlamesTheHost(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]failure.Kind{
		"CUDA error: unspecified launch failure":                                            failure.HostSick,
		"UR error: device lost":                                                             failure.HostSick,
		"CUDA error: no kernel image is available for execution on the device":              failure.ExecutionError,
		"CUDA error: out of memory":                                                         failure.OutOfMemory,
		"HIP error: invalid device function":                                                failure.ExecutionError,
		"CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`":        failure.OutOfMemory,
		"CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasGemmEx( handle, ... )": failure.ExecutionError,
	} {
		got, cause := raisedKind("torch.AcceleratorError", message)
		if got != want || (cause == failure.Poisoned) != (want == failure.HostSick) {
			t.Errorf("%s: %s %s, want %s", message, got, cause, want)
		}
	}
}

func TestBinaryMessagesWithoutAHeaderAreNone(t *testing.T) {
	t.Parallel()
	for n := range 8 {
		if _, ok := parseBinary([]byte{0, 0, 0, 1, 0, 0, 0, 1}[:n]); ok {
			t.Errorf("%d bytes are a picture", n)
		}
	}
}

func TestAnAlbumThatCouldNotKeepAPictureKeepsNoMore(t *testing.T) {
	t.Parallel()
	broken := errors.New("no room")
	a := album{failed: broken}
	a.add("1", "SaveImageWebsocket", preview{contentType: "image/png", image: []byte("picture")})
	if len(a.frames) != 0 || len(a.memory) != 0 || !errors.Is(a.failed, broken) {
		t.Errorf("%d frames of %d bytes, %v", len(a.frames), len(a.memory), a.failed)
	}
}

// Python's KeyError of a node's id, in both places in which ComfyUI validates.
func TestAMissingNodeIsTheWorkflowsFaultWhereverItIsFound(t *testing.T) {
	t.Parallel()
	for kind, want := range map[text]failure.Kind{
		"exception_during_validation": failure.InvalidWorkflow, "exception_during_inner_validation": failure.InvalidWorkflow, "custom_validation_failed": failure.Refused,
	} {
		f := fault{Type: kind, Details: "'77'"}
		f.Extra.Exception = "KeyError"
		if got := f.kind(map[string]bool{"77": true}); got != want {
			t.Errorf("%s: %s, want %s", kind, got, want)
		}
		if got := f.kind(map[string]bool{"7": true}); got != failure.Refused {
			t.Errorf("%s of a key that is no node: %s", kind, got)
		}
	}
}

// Of a state of progress that comes too soon after another one, the newest is passed on before a result and before the end.
func TestTheNewestStateOfProgressIsPassedOnBeforeAResultAndTheEnd(t *testing.T) {
	t.Parallel()
	r := newRelayed(t)
	for _, step := range []struct {
		kind, node string
		want       []string
	}{
		{"progress_state", "1", []string{"progress_state 1"}},
		{"progress_state", "2", nil},
		{"progress_state", "3", nil},
		{"executed", "4", []string{"progress_state 3", "executed 4"}},
		{"progress_state", "5", nil},
		{"execution_success", "6", []string{"progress_state 5"}},
		{"progress_state", "7", nil},
		{"execution_error", "8", []string{"progress_state 7"}},
	} {
		r.now = r.now.Add(10 * time.Millisecond)
		r.says(step.kind, step.node)
		if diff := cmp.Diff(step.want, r.said()); diff != "" {
			t.Errorf("after %s %s: %s", step.kind, step.node, diff)
		}
	}
	r.now = r.now.Add(10 * time.Millisecond)
	r.says("progress_state", "9")
	if due := r.tracker.due(r.now.Add(time.Hour)); !due.Equal(r.tracker.relay.sent.Add(statePause)) {
		t.Errorf("it is due at %s", due)
	}
	r.now = r.now.Add(statePause)
	if diff := cmp.Diff([]string{"progress_state 9"}, r.said()); diff != "" || !r.tracker.due(r.now).Equal(r.now) {
		t.Errorf("when it is due: %s", diff)
	}
}

// relayed is a prompt whose frames are passed on.
type relayed struct {
	t       *testing.T
	host    Host
	tracker *tracker
	now     time.Time
}

func newRelayed(t *testing.T) *relayed {
	t.Helper()
	r := &relayed{t: t, tracker: newTracker("a", shape{}), now: time.Unix(100, 0)}
	r.tracker.relay = &relay{}
	r.host.tracks = map[string]*tracker{"a": r.tracker}
	return r
}

// says has a frame come over the websocket.
func (r *relayed) says(kind, node string) {
	r.host.pass(websocket.TextMessage, []byte(`{"type":"`+kind+`","data":{"prompt_id":"a","node":"`+node+`"}}`), r.now)
}

// said gives what is passed on now.
func (r *relayed) said() (nodes []string) {
	r.t.Helper()
	for _, f := range r.tracker.relay.take(r.now) {
		nodes = append(nodes, kindAndNode(r.t, f.Data))
	}
	return nodes
}

func kindAndNode(t *testing.T, frame []byte) string {
	t.Helper()
	var m struct {
		Type string
		Data struct{ Node string }
	}
	if err := json.Unmarshal(frame, &m); err != nil {
		t.Error(err)
	}
	return m.Type + " " + m.Data.Node
}

// A file of the same name on this machine may be that of another ComfyUI.
func TestOnlyTheFileThatWasWrittenProvesAFolder(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]bool{"ours": true, "another's": false} {
		root, s := t.TempDir(), fileRef{"output", ownFolder, "here.txt"}
		path := filepath.Join(root, ownFolder, "here.txt")
		if err := errors.Join(os.Mkdir(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
		if found(root, s, "ours") != want {
			t.Errorf("with %q in it the folder is proven: %t", content, !want)
		}
		if _, err := os.Stat(path); (err == nil) == want {
			t.Errorf("the file with %q: %v", content, err)
		}
	}
}

func TestAFailureOfAnotherNodeKeepsItsPlace(t *testing.T) {
	t.Parallel()
	tr, at := newTracker("a", shape{classes: map[string]string{"1": "A", "2": "B"}}), time.Unix(1, 0)
	tr.see(event{kind: "executing", node: "1"}, at)
	for node, want := range map[string]failure.Failure{
		"":  {Node: "1", Class: "A", NodeRan: time.Second},
		"1": {Node: "1", Class: "A", NodeRan: time.Second},
		"2": {Node: "2"},
	} {
		f := failure.Failure{Node: node}
		tr.where(&f, at.Add(time.Second))
		if diff := cmp.Diff(want, f); diff != "" {
			t.Errorf("of node %q: %s", node, diff)
		}
	}
}

func TestTheBeginningOfATracebackIsThreeWrites(t *testing.T) {
	t.Parallel()
	begins := []logEntry{{Text: "Exception in thread "}, {Text: "Thread-1 (prompt_worker)"}, {Text: ":\n"}}
	if !announces(begins) {
		t.Error("it is not seen")
	}
	for n := range begins {
		other := append([]logEntry{}, begins...)
		other[n].Text = "other"
		if announces(other) || announces(begins[:n]) {
			t.Errorf("write %d may be another", n)
		}
	}
}
