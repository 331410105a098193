package comfy

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/failure"
)

// answering is a host before a server that answers every request alike.
func answering(t *testing.T, status int, body string) *Host {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(server.Close)
	h, err := New(server.URL, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

func TestAMissingResultIsNotTakenForAnOverwrittenOne(t *testing.T) {
	t.Parallel()
	_, _, _, err := answering(t, http.StatusNotFound, "").Open(t.Context(), Output{Node: "9", Filename: "a.png", Version: "1"}) //nolint:dogsled // no body
	if f, is := errors.AsType[*failure.Failure](err); !is || f.Exception != "result_missing" {
		t.Errorf("got %v", err)
	}
}

func TestAHostWithoutADeviceIsProbed(t *testing.T) {
	t.Parallel()
	p, err := answering(t, http.StatusOK, `{"exec_info":{"queue_remaining":0},"system":{"comfyui_version":"1"},"devices":[]}`).Survey(t.Context())
	if err != nil || p.Device != "" || p.Version != "1" {
		t.Errorf("%+v, %v", p, err)
	}
}

// A proxy's 504 comes also from a ComfyUI that is slow: only 502 and 503 say that nothing listens behind it.
func TestOnlySomeAnswersOfAProxySayThatComfyUIIsAbsent(t *testing.T) {
	t.Parallel()
	for status, absent := range map[int]bool{502: true, 503: true, 504: false, 500: false, 200: false} {
		h := answering(t, status, "{}")
		h.absent.Store(!absent)
		if _, err := h.get(t.Context(), "/queue", nil, smallAnswer); err != nil {
			t.Error(err)
		}
		if h.absent.Load() != absent {
			t.Errorf("%d: absent is %t", status, !absent)
		}
		if answered := status < 501; (h.lastAnswer.Load() != 0) != answered {
			t.Errorf("%d: ComfyUI has answered: %t", status, !answered)
		}
	}
}

func TestRememberedFilesAreBounded(t *testing.T) {
	t.Parallel()
	h := answering(t, http.StatusOK, "")
	for n := range maxRemembered + 5 {
		h.remember(fileRef{"output", ownFolder + "/" + fmt.Sprint(n), "a.png"})
	}
	if len(h.files) != 5 || len(h.forgetFiles(fmt.Sprint(maxRemembered))) != 1 {
		t.Errorf("%d prompts are remembered", len(h.files))
	}
	h.Discard("a prompt without pictures")
}

func TestPicturesThatCannotBeKeptSaySo(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()+"/none")
	var a album
	if err := a.spool(); err == nil {
		t.Error("a picture was kept in a folder that does not exist")
	}
	a.drop()
}

func TestPreviewsWithoutAPictureAreNone(t *testing.T) {
	t.Parallel()
	meta := `{"prompt_id":"a","node_id":"1","image_type":"image/png"}`
	frame := append([]byte{0, 0, 0, 4, 0, 0, 0, byte(len(meta))}, meta...)
	if _, ok := parseBinary(frame); ok {
		t.Error("a preview of no bytes is one")
	}
	if _, ok := parseBinary(append([]byte{0, 0, 0, 4, 0, 0, 0, 17}, `{"prompt_id":"a"}x`...)); ok {
		t.Error("a preview without a type is one")
	}
	if p, ok := parseBinary(append(frame, 'x')); !ok || string(p.image) != "x" || p.node != "1" {
		t.Errorf("%+v, %t", p, ok)
	}
}

func TestTextsForPeopleAreBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 1000)
	r := raised{Node: text(long), Class: text(long), Message: text("Execution Blocked: " + long)}
	half := strings.Repeat("é", 50) + "…"
	if got, want := r.block(), "node "+half+" ("+half+") was not run: "; !strings.HasPrefix(got, want) || len(got) != maxMessage+len("…") {
		t.Errorf("%d bytes: %s", len(got), got)
	}
	for s, want := range map[string]string{"\x80\x80\x80": "…", "aé": "a…", "ab": "ab", "éa": "é…"} {
		if got := clip(s, 2); got != want {
			t.Errorf("clip(%q, 2) = %q, want %q", s, got, want)
		}
	}
	for address, want := range map[string]string{"htp://h:1": `"htp://h:1"`, "htp://u:p@h:1?q": `"…@h:1"`} {
		if got := withoutUser(address); got != want {
			t.Errorf("withoutUser(%q) = %s, want %s", address, got, want)
		}
	}
}

func TestNodesThatCannotReachAServerAreKnownByTheirException(t *testing.T) {
	t.Parallel()
	for exception, want := range map[string]bool{
		"ConnectionError": true, "ConnectionRefusedError": true, "ConnectionResetError": true, "ConnectionAbortedError": true, "BrokenPipeError": true,
		"TimeoutError": true, "ValueError": false,
		"requests.exceptions.ConnectTimeout": true, "aiohttp.ClientError": true, "urllib.error.URLError": true, "urllib3.exceptions.MaxRetryError": true,
		"httpx.ConnectError": true, "httpcore.ReadError": true, "websockets.exceptions.ConnectionClosed": true, "websocket.WebSocketException": true,
		"requests.exceptions.InvalidURL": false, "requests.exceptions.MissingSchema": false, "httpx.UnsupportedProtocol": false,
		"requests.exceptions.JSONDecodeError": false, "urllib3.exceptions.LocationParseError": false,
		"http.client.RemoteDisconnected": true, "http.client.InvalidURL": false, "http.cookies.CookieError": false,
		"socket.gaierror": true, "socket.herror": true, "socket.timeout": true, "socket.other": false, "ssl.SSLError": true, "ssl.CertificateError": false,
		"huggingface_hub.utils.HfHubHTTPError": true, "huggingface_hub.utils.RepositoryNotFoundError": false,
		"comfy_api_nodes.NetworkError": true, "comfy_api_nodes.LocalNetworkError": true, "comfy_api_nodes.ApiServerError": true, "comfy_api_nodes.Other": false,
	} {
		if got := outside(exception, exception[strings.LastIndexByte(exception, '.')+1:]); got != want {
			t.Errorf("%s: %t", exception, got)
		}
	}
}

func TestFullDisksAreKnownByTheirMessage(t *testing.T) {
	t.Parallel()
	for message, bares := range map[string][]string{
		"[Errno 28] No space left on device":                                   {"OSError", "IOError"},
		"[Errno 122] Disk quota exceeded":                                      {"OSError", "IOError"},
		"Error while serializing: IoError(Os { code: 28, kind: StorageFull })": {"SafetensorError"},
		"Error while serializing: I/O error: No space left on device":          {"SafetensorError"},
		"Error while deserializing header":                                     nil,
		"[Errno 2] No such file":                                               nil,
	} {
		for _, bare := range []string{"OSError", "IOError", "SafetensorError", "ValueError"} {
			if got := fullDisk(bare, message); got != slices.Contains(bares, bare) {
				t.Errorf("%s: %s: %t", bare, message, got)
			}
		}
	}
}

func TestSignaturesChangeWithAllThatANodeReads(t *testing.T) {
	t.Parallel()
	const graph = `{"1":{"class_type":"A","inputs":{"a":["2",0],"b":1}},"2":{"class_type":"B","inputs":{"c":["1",0]}},"3":{"class_type":"C"}}`
	of := func(node, old, changed string) signature {
		return signaturesOf(json.RawMessage(strings.Replace(graph, old, changed, 1))).of(node)
	}
	for _, c := range []struct {
		node, old, changed string
		same               bool
	}{
		{"1", `"B"`, `"D"`, false},         // what it is linked to
		{"1", `["2",0]`, `["2",1]`, false}, // another output of it
		{"1", `"b":1`, `"b":2`, false},
		{"1", `"A"`, `"D"`, false},
		{"1", `"C"`, `"D"`, true},  // beside it
		{"4", `"C"`, `"D"`, false}, // of a node that the graph lacks all counts
	} {
		if got := of(c.node, "", "") == of(c.node, c.old, c.changed); got != c.same {
			t.Errorf("node %s, %s instead of %s: the same is %t", c.node, c.changed, c.old, got)
		}
	}
}

func TestProgressCountsNodesThatAreDone(t *testing.T) {
	t.Parallel()
	at, h := time.Unix(1, 0), Host{}
	tr := newTracker("a", shape{classes: map[string]string{"1": "A", "2": "B"}})
	tr.album = h.newAlbum()
	tr.see(event{kind: "executing", node: "1"}, at)
	tr.see(event{kind: "progress", node: "1", value: 3, max: 4}, at)
	tr.see(event{kind: "executing", node: "2"}, at)
	if diff := cmp.Diff(&Progress{Node: "2", Class: "B", NodesDone: 1, NodesTotal: 2}, tr.progress); diff != "" || tr.value != 0 || tr.most != 0 {
		t.Errorf("%v of %v: %s", tr.value, tr.most, diff)
	}
	for _, node := range []string{"1.0", "1.1", "1.2"} { // of an expansion
		tr.see(event{kind: "executed", node: node}, at)
	}
	tr.see(event{kind: "executing", node: "1.3"}, at)
	if p := tr.progress; p.NodesDone != 2 || p.NodesTotal != 2 {
		t.Errorf("%d of %d nodes are done", p.NodesDone, p.NodesTotal)
	}
}

func TestLinksToMissingNodesAreKnown(t *testing.T) {
	t.Parallel()
	s := Prompt{Workflow: json.RawMessage(`{"1":{"class_type":"A","inputs":{"a":["2",0],"b":["3",1],"c":["4"],"d":[5,0],"e":"[","f":null}},"2":{"class_type":"B"}}`)}.shape()
	if diff := cmp.Diff(map[string]bool{"3": true}, s.absent); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"1": "A", "2": "B"}, s.classes); diff != "" {
		t.Error(diff)
	}
	tracked := newTracker("a", s)
	for node, want := range map[string]string{"1": "A", "2.0.0.1": "B", "7": ""} {
		if got := tracked.class(node); got != want {
			t.Errorf("class of %s is %q, want %q", node, got, want)
		}
	}
	tracked.see(event{kind: "progress", node: "2.0.1", value: 3, max: 9}, time.Unix(1, 0))
	if diff := cmp.Diff(&Progress{Value: 3, Max: 9, Node: "2.0.1", Class: "B", NodesTotal: 2}, tracked.progress); diff != "" {
		t.Error(diff)
	}
}

func TestQuotedQuotesDoNotEndAText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`{"a":"x\"NaN","b":NaN}`:              `{"a":"x\"NaN","b":null}`,
		`{"a":"\\","b":Infinity}`:             `{"a":"\\","b":null}`,
		`[-Infinity,-1,"-Infinity",Infinity]`: `[null,-1,"-Infinity",null]`,
	} {
		var l lenient
		if got := string(l.append(nil, []byte(in))); got != want {
			t.Errorf("%s became %s, want %s", in, got, want)
		}
	}
}

func TestRefusalsOfOldServersAreReadByTheirMessage(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]failure.Kind{
		`{"error":"no prompt"}`: failure.InvalidWorkflow,
		`{"error":{"type":"invalid_prompt","message":"Cannot execute because a node is missing the class_type property."}}`: failure.InvalidWorkflow,
		`{"error":{"type":"invalid_prompt","message":"something else"}}`:                                                    failure.Refused,
		`{"error":{"type":"dependency_cycle","message":"a circle"}}`:                                                        failure.InvalidWorkflow,
	} {
		var r refusal
		if err := decode([]byte(body), &r); err != nil {
			t.Fatal(err)
		}
		if f := r.failure(nil); f.Kind != want {
			t.Errorf("%s: %s, want %s", body, f.Kind, want)
		}
	}
}

func TestFramesOfATracebackAreFourWrites(t *testing.T) {
	t.Parallel()
	frame := []logEntry{{Text: `  File "/srv/execution.py", line 5, in execute` + "\n"}, {Text: "    "}, {Text: "run()"}, {Text: "\n"}}
	if !traces(frame) {
		t.Error("a frame is not seen")
	}
	for n := range frame {
		other := append([]logEntry{}, frame...)
		if n == 2 {
			continue // the line of code may be any
		}
		other[n].Text = "other"
		if traces(other) || traces(frame[:n]) {
			t.Errorf("write %d may be another", n)
		}
	}
}
