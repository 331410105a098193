package gateway_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image/color"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"
)

// Each test sends all that one program sends during a run, in its order; GATEWAY's facts about these programs are in docs/gateway.md.

// inPath is the gateway for a program that can only be given an address: the key is in its path.
func (f *face) inPath() *face {
	return &face{t: f.t, tenant: f.tenant, base: f.base + "/k/" + f.key}
}

// lacks wants that the gateway says it does not have what a program probes for.
func (f *face) lacks(method string, paths ...string) {
	f.t.Helper()
	for _, path := range paths {
		if a := f.do(method, path, nil); a.status != http.StatusNotFound && a.status != http.StatusMethodNotAllowed {
			f.t.Errorf("%s %s: %d %.100s", method, path, a.status, a.body)
		}
	}
}

// accepts wants 200.
func (f *face) accepts(method, path string, body any) {
	f.t.Helper()
	if a := f.do(method, path, body); a.status != http.StatusOK {
		f.t.Errorf("%s %s: %d %.200s", method, path, a.status, a.body)
	}
}

func (s *socket) send(text string) {
	s.t.Helper()
	if err := s.conn.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		s.t.Fatal(err)
	}
}

// overSocket is a graph whose picture comes over the websocket only.
func overSocket(colour int) graph {
	return graph{
		"1": node("EmptyImage", map[string]any{"width": 16, "height": 16, "batch_size": 1, "color": colour}),
		"2": node("SaveImageWebsocket", map[string]any{"images": []any{"1", 0}}),
	}
}

func TestKritaGetsItsPicturesAndCancels(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.get("/system_stats")
	client := uuid.NewString()
	_ = f.socket(client).conn.Close() // it connects once to see whether it can
	s := f.socket(client)
	info := f.get("/object_info")
	for _, class := range []string{"KSampler", "VAEDecode", "CheckpointLoaderSimple"} {
		if info[class] == nil {
			t.Errorf("class %s, which it wants, is missing", class)
		}
	}
	withPacks(f)
	f.get("/api/etn/model_info/checkpoints?offset=0&limit=8")
	f.text("/api/etn/languages")
	f.accepts(http.MethodPost, "/api/etn/workflow/subscribe", map[string]any{"client_id": client})
	id := uuid.NewString()
	if got := f.prompt(map[string]any{"prompt": overSocket(60), "client_id": client, "prompt_id": id, "front": false}); got != id {
		t.Fatalf("it wants its own id, and got %s", got)
	}
	s.end(id)
	if n := s.count(func(m *message) bool {
		return m.binary && bytes.HasPrefix(m.raw, []byte("\x00\x00\x00\x01\x00\x00\x00\x02\x89PNG"))
	}); n != 1 {
		t.Errorf("%d pictures came as PNG: %s", n, s.story(id))
	}
	ponged := make(chan struct{}, 1)
	s.conn.SetPongHandler(func(string) error { ponged <- struct{}{}; return nil })
	if err := s.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(testTimeout)); err != nil {
		t.Fatal(err)
	}
	later := shared.q.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	waiting := f.prompt(map[string]any{"prompt": picture(61), "client_id": client, "prompt_id": uuid.NewString(), "run_at": later})
	running := f.prompt(map[string]any{"prompt": endless(62), "client_id": client, "prompt_id": uuid.NewString()})
	s.until("progress", running)
	<-ponged
	f.accepts(http.MethodPost, "/queue", map[string]any{"delete": []string{waiting}})
	f.accepts(http.MethodPost, "/interrupt", "{}")
	s.end(running)
	if queue := f.get("/queue"); inQueue(queue, waiting) || inQueue(queue, running) {
		t.Errorf("after both were cancelled the queue is %v", queue)
	}
}

func TestSwarmUIRunsAsOneBackend(t *testing.T) {
	t.Parallel()
	whole := open(t)
	catalogued(whole)
	f := whole.inPath()
	for _, name := range choices(f.get("/object_info")) {
		if strings.Contains(name, `\`) {
			t.Errorf("a backslash in %q would change its paths", name)
		}
	}
	f.get("/features")
	client := uuid.NewString()
	s := f.socket(client)
	s.send(`{"type":"feature_flags","data":{"supports_preview_metadata":true}}`)
	for s.next().kind != "feature_flags" {
	}
	f.upload("/upload/image", "init.png", painted(t, color.NRGBA{G: 9, A: 255}), "overwrite", "true")
	g := graph{
		"1": node("LoadImage", map[string]any{"image": "init.png"}),
		"2": node("SaveImage", map[string]any{"images": []any{"1", 0}, "filename_prefix": "swarm"}),
		"3": node("SaveImageWebsocket", map[string]any{"images": []any{"1", 0}}),
	}
	id := f.prompt(map[string]any{"prompt": g, "client_id": client})
	s.until("execution_start", id) // it ignores all before this
	began := len(s.got)
	s.end(id)
	for _, m := range s.got[began:] { // and takes all after it for its own
		if !m.binary && m.kind != "status" && !m.of(id) {
			t.Errorf("a message of another prompt: %.200s", m.raw)
		}
	}
	query := saved(t, f.get("/history/" + id)[id].(map[string]any), "2")
	f.accepts(http.MethodGet, "/view?"+query.Encode(), nil)
	f.accepts(http.MethodPost, "/interrupt", map[string]any{"prompt_id": id}) // it has ended; nothing happens
	f.accepts(http.MethodPost, "/history", map[string]any{"delete": []string{id}})
	if got := f.get("/history/" + id); len(got) != 0 {
		t.Errorf("the history still has %v", got)
	}
}

func TestTheNodesOfN8nFindTheirPictures(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.get("/system_stats")
	a := f.do(http.MethodPost, "/prompt?execution_id=7", map[string]any{"prompt": picture(63), "execution_id": "7"})
	var got struct {
		ID string `json:"prompt_id"`
	}
	a.into(t, &got)
	for inQueue(f.get("/queue"), got.ID) { // alexalok's node says that the workflow has disappeared when the history has nothing then
	}
	entry, _ := f.get("/history/" + got.ID)[got.ID].(map[string]any)
	status, _ := entry["status"].(map[string]any)
	if messages, _ := status["messages"].([]any); status["status_str"] != "success" || status["completed"] != true || len(messages) == 0 {
		t.Fatalf("%v", entry)
	}
	// ksxh0524's node builds the address without escaping.
	id := f.prompt(map[string]any{"prompt": picture(64), "client_id": "client_" + uuid.NewString()})
	query := saved(t, f.ended(id), "2")
	bare := fmt.Sprintf("/view?filename=%s&subfolder=%s&type=%s", query["filename"][0], query["subfolder"][0], query["type"][0])
	if parsed, err := url.ParseQuery(strings.TrimPrefix(bare, "/view?")); err != nil || parsed.Encode() != query.Encode() {
		t.Errorf("%s is read as %v", bare, parsed)
	}
	f.accepts(http.MethodGet, bare, nil)
}

func TestSaintnosSDKNeverMissesItsPrompt(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.get("/prompt")
	s := f.socket("saintno")
	f.accepts(http.MethodPatch, "/internal/logs/subscribe", `{"enabled":true,"clientId":"saintno"}`)
	if got := f.get("/object_info/CrystoolsMonitor"); len(got) != 0 {
		t.Errorf("a class that nobody has: %v", got)
	}
	f.lacks(http.MethodGet, "/manager/version")
	f.get("/system_stats")
	id := f.prompt(map[string]any{"prompt": slow(0.3, 65), "client_id": "saintno"})
	for m := s.next(); m.kind != "executing" || m.data["node"] != nil || !m.of(id); m = s.next() {
		if m.binary && !bytes.HasPrefix(m.raw, []byte("\x00\x00\x00\x01")) {
			t.Errorf("it throws at the binary message %x…", m.raw[:8])
		}
		if m.kind == "status" && !inQueue(f.get("/queue"), id) && f.get("/history/" + id)[id] == nil {
			t.Errorf("at a status the prompt is neither in the queue nor in the history")
		}
	}
	f.ended(id)
}

func TestComfyuiNodeProbesAndFollows(t *testing.T) {
	t.Parallel()
	f := open(t)
	for _, path := range []string{"/prompt", "/queue", "/system_stats", "/features", "/api/jobs?limit=1", "/object_info"} {
		f.get(path)
	}
	f.lacks(http.MethodGet, "/api/assets?limit=1", "/api/crystools/monitor", "/manager/version")
	id := f.prompt(map[string]any{"prompt": slow(0.5, 66), "client_id": "late"}) // before its socket opens
	s := f.socket("late")
	s.send(`{"type":"feature_flags","data":{"supports_preview_metadata":true}}`)
	s.end(id)
	f.ended(id)
}

func TestComfyUIClientUploadsRunsAndReads(t *testing.T) {
	t.Parallel()
	f := open(t)
	s := f.socket("ui-client")
	f.upload("/upload/image", "ui.png", painted(t, color.NRGBA{B: 7, A: 255}), "overwrite", "false")
	id := f.prompt(map[string]any{"prompt": graph{
		"1": node("LoadImage", map[string]any{"image": "ui.png"}),
		"2": node("SaveImage", map[string]any{"images": []any{"1", 0}, "filename_prefix": "x"}),
	}, "client_id": "ui-client"})
	s.end(id)
	entry, _ := f.get("/history/" + id)[id].(map[string]any)
	f.accepts(http.MethodGet, "/view?"+saved(t, entry, "2").Encode(), nil)
	for _, path := range []string{"/embeddings", "/extensions"} {
		var list []string
		f.do(http.MethodGet, path, nil).into(t, &list)
	}
	f.get("/history")
}

func TestTheCommandLineInItsLocalMode(t *testing.T) {
	t.Parallel()
	whole := open(t)
	catalogued(whole)
	f := whole.inPath()
	f.get("/object_info")
	f.get("/history?max_items=1")
	f.get("/system_stats")
	s := f.socket("cli")
	wrong := picture(67)
	wrong["1"] = node("EmptyImage", map[string]any{"width": 16, "height": 16, "batch_size": 1, "color": 67, "upscale": []any{"9", 0}})
	if a := f.do(http.MethodPost, "/prompt", map[string]any{"prompt": wrong, "client_id": "cli"}); a.status != http.StatusBadRequest || !bytes.Contains(a.body, []byte(`"node_errors"`)) {
		t.Errorf("a link to a node that does not exist: %d %s", a.status, a.body)
	}
	id := f.prompt(map[string]any{"prompt": endless(68), "client_id": "cli"})
	watch := f.socket("cli") // `jobs watch` is a second socket of the same client
	watch.until("progress", id)
	s.until("progress", id)
	running, _ := f.get("/queue")["queue_running"].([]any)
	if len(running) != 1 {
		t.Fatalf("%d prompts run", len(running))
	}
	extra, _ := running[0].([]any)[3].(map[string]any)
	if extra["client_id"] != "cli" {
		t.Errorf("the queue says %v of whose prompt it is", extra)
	}
	f.accepts(http.MethodPost, "/queue", map[string]any{"delete": []string{uuid.NewString()}})
	f.accepts(http.MethodPost, "/interrupt", map[string]any{"prompt_id": id})
	s.end(id)
	watch.end(id)
	f.accepts(http.MethodPost, "/free", map[string]any{"unload_models": true})
	f.accepts(http.MethodGet, "/models", nil)
	f.accepts(http.MethodGet, "/models/checkpoints", nil)
}

func TestTheCommandLineInItsCloudMode(t *testing.T) {
	t.Parallel()
	f := open(t)
	cloud := func(method, path string, body any) *answer {
		bare := &face{t: t, base: f.base}
		return bare.do(method, path, body, "Authorization", "", "X-API-Key", f.key)
	}
	conn, response, err := websocket.DefaultDialer.Dial(strings.Replace(f.base, "http", "ws", 1)+"/ws?clientId=cloud&token="+f.key, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	s := &socket{t: t, conn: conn}
	t.Cleanup(func() { _ = conn.Close() })
	if a := cloud(http.MethodGet, "/api/user", nil); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
	for _, path := range []string{"/api/object_info", "/api/experiment/models", "/api/jobs?limit=5"} {
		if a := cloud(http.MethodGet, path, nil); a.status != http.StatusOK || !json.Valid(a.body) {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	submit := func(g graph) (id string) {
		var got struct {
			ID string `json:"prompt_id"`
		}
		cloud(http.MethodPost, "/api/prompt", map[string]any{"prompt": g, "client_id": "cloud"}).into(t, &got)
		return got.ID
	}
	id := submit(endless(69))
	s.until("progress", id)
	if a := cloud(http.MethodPost, "/api/jobs/"+id+"/cancel", nil); !bytes.Contains(a.body, []byte(`true`)) {
		t.Errorf("cancel: %d %s", a.status, a.body)
	}
	s.end(id)
	if a := cloud(http.MethodGet, "/api/jobs/"+id, nil); !bytes.Contains(a.body, []byte(`"cancelled"`)) {
		t.Errorf("%d %.300s", a.status, a.body)
	}
	done := submit(picture(70))
	s.end(done)
	var entries map[string]map[string]any
	cloud(http.MethodGet, "/api/history_v2/"+done, nil).into(t, &entries)
	if a := cloud(http.MethodGet, "/api/view?"+saved(t, entries[done], "2").Encode(), nil); a.status != http.StatusOK {
		t.Errorf("its picture: %d", a.status)
	}
	var listed struct {
		History []struct {
			ID string `json:"prompt_id"`
		}
	}
	if cloud(http.MethodGet, "/api/history_v2", nil).into(t, &listed); len(listed.History) != 2 || listed.History[0].ID != done {
		t.Errorf("the history is %v", listed.History)
	}
}
