package gateway_test

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"

	"github.com/comfyherd/comfyherd/internal/comfysim"
)

// Each test sends what a client sends, in its order, and wants what that client needs.

func TestComfyUIsExampleScriptGetsItsPictures(t *testing.T) {
	t.Parallel()
	f := open(t)
	client, id := uuid.NewString(), uuid.NewString()
	s := f.socket(client)
	f.prompt(map[string]any{"prompt": picture(40), "client_id": client, "prompt_id": id})
	s.end(id)
	entry, _ := f.get("/history/" + id)[id].(map[string]any) // read once, right after the end
	query := saved(t, entry, "2")
	if view := f.do(http.MethodGet, "/view?"+query.Encode(), nil); view.status != http.StatusOK || !bytes.HasPrefix(view.body, []byte("\x89PNG")) {
		t.Errorf("%d", view.status)
	}
}

func TestTheExampleScriptEndsWhenThePromptFails(t *testing.T) {
	t.Parallel()
	f := open(t)
	s := f.socket("script")
	g := picture(41)
	g["3"] = node("SimRaise", map[string]any{"image": []any{"1", 0}, "kind": "ValueError", "message": "boom"})
	g["2"] = node("SaveImage", map[string]any{"images": []any{"3", 0}, "filename_prefix": "x"})
	id := f.prompt(map[string]any{"prompt": g, "client_id": "script", "max_attempts": 1})
	s.end(id)
	if n := s.count(func(m *message) bool { return m.kind == "execution_error" && m.of(id) && m.data["node_id"] == "3" }); n != 1 {
		t.Errorf("%d errors name the node: %s", n, s.story(id))
	}
	if n := s.count(func(m *message) bool { return m.kind == "execution_success" }); n != 0 {
		t.Errorf("a failed prompt is a success: %s", s.story(id))
	}
	entry, _ := f.get("/history/" + id)[id].(map[string]any)
	if status, _ := entry["status"].(map[string]any); status["status_str"] != "error" || status["completed"] != false {
		t.Errorf("%v", entry)
	}
}

func TestPicturesThatComeOverTheWebsocketOnlyComeWhole(t *testing.T) {
	t.Parallel()
	f := open(t)
	s := f.socket("script")
	g := graph{
		"1":                         node("EmptyImage", map[string]any{"width": 32, "height": 32, "batch_size": 3, "color": 42}),
		"save_image_websocket_node": node("SaveImageWebsocket", map[string]any{"images": []any{"1", 0}}),
	}
	id := f.prompt(map[string]any{"prompt": g, "client_id": "script"})
	s.end(id)
	current, pictures := "", 0
	for _, m := range s.got {
		switch {
		case m.kind == "executing" && m.of(id):
			current = fmt.Sprint(m.data["node"])
		case m.binary && current == "save_image_websocket_node":
			if !bytes.HasPrefix(m.raw[8:], []byte("\x89PNG")) {
				t.Errorf("a picture begins %x", m.raw[:16])
			}
			pictures++
		}
	}
	if pictures != 3 {
		t.Errorf("%d pictures came, want 3: %s", pictures, s.story(id))
	}
}

// A picture has no prompt's id for clients without the flag: they take it for one of the node that was named last.
func TestAPictureFollowsTheNameOfItsPrompt(t *testing.T) {
	t.Parallel()
	f := open(t)
	s := f.socket("script")
	g := slow(60, 54)
	g["3"] = node("SimSleep", map[string]any{"image": []any{"1", 0}, "seconds": 60, "steps": 1200, "preview": "JPEG"})
	long := f.prompt(map[string]any{"prompt": g, "client_id": "script"})
	s.until("progress", long)
	s.end(f.prompt(map[string]any{"prompt": picture(55), "client_id": "script"}))
	named := ""
	for m := s.next(); !m.binary; m = s.next() {
		if m.kind == "executing" {
			named = fmt.Sprint(m.data["prompt_id"], " ", m.data["node"])
		}
	}
	if want := long + " 3"; named != want {
		t.Errorf("before the picture was named %q, want %q", named, want)
	}
	f.do(http.MethodPost, "/interrupt", map[string]any{"prompt_id": long})
}

func TestAClientOfExecutedFramesAloneGetsEveryOutput(t *testing.T) {
	t.Parallel()
	f := open(t)
	s := f.socket("stable")
	g := picture(43)
	g["7"] = node("PreviewImage", map[string]any{"images": []any{"1", 0}})
	a := f.do(http.MethodPost, "/api/prompt?clientId=stable", map[string]any{"prompt": g, "client_id": "stable"})
	var got struct {
		ID string `json:"prompt_id"`
	}
	a.into(t, &got)
	s.until("execution_success", got.ID)
	var nodes []string
	for _, m := range s.got {
		if m.kind == "executed" {
			nodes = append(nodes, fmt.Sprint(m.data["node"]))
			output, _ := m.data["output"].(map[string]any)
			images, _ := output["images"].([]any)
			image, _ := images[0].(map[string]any)
			if image["subfolder"] != got.ID {
				t.Errorf("executed says %v", image)
			}
		}
	}
	slices.Sort(nodes)
	if !slices.Equal(nodes, []string{"2", "7"}) {
		t.Errorf("executed came for %v", nodes)
	}
}

func TestASocketThatOpensLateSeesWhatRuns(t *testing.T) {
	t.Parallel()
	f := open(t)
	id := f.prompt(map[string]any{"prompt": slow(0.8, 44), "client_id": "late"}) // comfyui-node posts first
	watcher := f.socket("late")
	watcher.until("progress", id)
	again := f.socket("late") // a second socket of the id does not silence the first
	again.end(id)
	watcher.end(id)
	if !strings.HasPrefix(again.story(id), "execution_start executing:3") {
		t.Errorf("a socket that came during the run got %s", again.story(id))
	}
}

func TestOnePromptIsInterruptedAndNoOther(t *testing.T) {
	t.Parallel()
	mine, theirs := tenantOf(t), tenantOf(t)+"-other"
	f := open(t, mine, theirs)
	other := f.as(theirs)
	s := f.socket("krita")
	id := uuid.NewString()
	if got := f.prompt(map[string]any{"prompt": endless(45), "client_id": "krita", "prompt_id": id}); got != id { // Krita wants its own id
		t.Fatalf("the id is %s", got)
	}
	kept := other.prompt(map[string]any{"prompt": slow(0.4, 46)})
	s.until("progress", id)
	if a := other.do(http.MethodPost, "/interrupt", map[string]any{"prompt_id": id}); a.status != http.StatusOK {
		t.Errorf("%d", a.status)
	}
	if a := f.do(http.MethodPost, "/interrupt", "{}"); a.status != http.StatusOK {
		t.Errorf("%d", a.status)
	}
	s.end(id)
	if !strings.HasSuffix(s.story(id), "execution_interrupted executing") {
		t.Errorf("the end is %s", s.story(id))
	}
	if job := f.get("/api/jobs/" + id); job["status"] != "cancelled" {
		t.Errorf("the job is %v", job["status"])
	}
	if status, _ := other.ended(kept)["status"].(map[string]any); status["status_str"] != "success" {
		t.Errorf("the other tenant's prompt: %v", status)
	}
}

func TestAFailedAttemptThatIsRetriedShowsNoEnd(t *testing.T) {
	t.Parallel()
	f := open(t)
	for _, sim := range shared.sims {
		sim.AddFault(comfysim.Fault{Kind: comfysim.FaultRaise, Text: "retry-me", Exception: "requests.exceptions.ConnectionError", Message: "no route", Class: "SimSleep", Times: 1})
	}
	s := f.socket("tab")
	g := slow(0.1, 47)
	g["2"] = node("SaveImage", map[string]any{"images": []any{"3", 0}, "filename_prefix": "retry-me"})
	id := f.prompt(map[string]any{"prompt": g, "client_id": "tab", "max_attempts": 5, "retry_delay": "50ms"})
	s.end(id)
	if got := s.story(id); strings.Count(got, "execution_start") != 1 || strings.Contains(got, "execution_error") || strings.Count(got, "execution_success") != 1 {
		t.Errorf("came %s", got)
	}
	if entry := f.ended(id); saved(t, entry, "2") == nil {
		t.Errorf("%v", entry)
	}
	if n := len(f.get("/queue")["queue_running"].([]any)); n != 0 {
		t.Errorf("%d run", n)
	}
}

func TestSocketsOfAnotherTenantHearNothing(t *testing.T) {
	t.Parallel()
	mine, theirs := tenantOf(t), tenantOf(t)+"-other"
	f := open(t, mine, theirs)
	s, other := f.socket("same"), f.as(theirs).socket("same")
	id := f.prompt(map[string]any{"prompt": slow(0.2, 48), "client_id": "same"})
	s.end(id)
	last := f.as(theirs).prompt(map[string]any{"prompt": picture(49), "client_id": "same"})
	other.end(last)
	for _, m := range other.got {
		if m.binary || m.of(id) {
			t.Errorf("the other tenant received %.200q", m.raw)
		}
		status, _ := m.data["status"].(map[string]any)
		info, _ := status["exec_info"].(map[string]any)
		if info["queue_remaining"] == 2.0 {
			t.Errorf("the other tenant's count is %s", m.raw)
		}
	}
	if got := f.as(theirs).get("/history/" + id); len(got) != 0 {
		t.Errorf("the other tenant's history has %v", got)
	}
}

func TestThePageIsRemindedOfWhatStillRuns(t *testing.T) {
	t.Parallel()
	f := open(t)
	s := f.socket("tab")
	if err := s.conn.WriteMessage(websocket.TextMessage, []byte(`{"type":"feature_flags","data":{"supports_preview_metadata":true,"supports_manager_v4_ui":true}}`)); err != nil {
		t.Fatal(err)
	}
	for s.next().kind != "feature_flags" {
	}
	long := f.prompt(map[string]any{"prompt": endless(50), "client_id": "tab"})
	s.until("progress", long)
	short := f.prompt(map[string]any{"prompt": picture(51), "client_id": "tab"})
	s.end(short)
	s.until("execution_start", long) // again, behind the end of the short one
	if a := f.do(http.MethodPost, "/api/jobs/"+long+"/cancel", nil); !bytes.Contains(a.body, []byte("true")) {
		t.Errorf("%d %s", a.status, a.body)
	}
	s.end(long)
	if n := s.count(func(m *message) bool {
		return m.binary && string(m.raw[:4]) == "\x00\x00\x00\x04" && bytes.Contains(m.raw, []byte(long))
	}); n == 0 {
		t.Error("no preview has the metadata that the page asked for")
	}
}

func TestThePollerNeverFindsAPromptNowhere(t *testing.T) {
	t.Parallel()
	tenant := tenantOf(t)
	faces := []*face{open(t, tenant), open(t, tenant)} // it submits through one gateway and asks the other
	var ids []string
	for i := range 24 {
		ids = append(ids, faces[i%2].prompt(map[string]any{"prompt": picture(100 + i)}))
	}
	left := slices.Clone(ids)
	for deadline := time.Now().Add(testTimeout); len(left) > 0; {
		for i, id := range left {
			f := faces[(i+1)%2]
			queued := inQueue(f.get("/queue"), id)
			entry := f.get("/history/" + id)[id]
			if !queued && entry == nil {
				t.Fatalf("prompt %s is neither in the queue nor in the history", id)
			}
			if entry != nil {
				left = slices.DeleteFunc(slices.Clone(left), func(one string) bool { return one == id })
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d prompts have not ended", len(left))
		}
	}
}

func inQueue(queue map[string]any, id string) bool {
	for _, list := range queue {
		entries, _ := list.([]any)
		for _, entry := range entries {
			if tuple, _ := entry.([]any); len(tuple) == 5 && tuple[1] == id {
				return true
			}
		}
	}
	return false
}

func TestTheCloudDialectOfTheCommandLine(t *testing.T) {
	t.Parallel()
	f := open(t)
	bare := &face{t: t, tenant: f.tenant, key: "", base: f.base}
	header := []string{"Authorization", "", "X-API-Key", f.key}
	a := bare.do(http.MethodPost, "/api/prompt", map[string]any{"prompt": picture(52), "client_id": "cli"}, header...)
	var got struct {
		ID string `json:"prompt_id"`
	}
	if a.into(t, &got); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if a := bare.do(http.MethodGet, "/api/history_v2/"+uuid.NewString(), nil, header...); a.status != http.StatusNotFound {
		t.Errorf("an unknown prompt: %d", a.status)
	}
	f.ended(got.ID)
	record := bare.do(http.MethodGet, "/api/history_v2/"+got.ID, nil, header...)
	var entries map[string]map[string]any
	if record.into(t, &entries); entries[got.ID]["status"] == nil {
		t.Errorf("%s", record.body)
	}
	if a := bare.do(http.MethodGet, "/api/job/"+got.ID+"/status", nil, header...); !bytes.Contains(a.body, []byte(`"completed"`)) {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestJunkOnTheSocketChangesNothing(t *testing.T) {
	t.Parallel()
	f := open(t)
	s := f.socket("junk")
	for kind, data := range map[int]string{websocket.TextMessage: "{not json", websocket.BinaryMessage: "\x00\x01\x02"} {
		if err := s.conn.WriteMessage(kind, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.conn.WriteMessage(websocket.TextMessage, []byte(`{"type":"feature_flags","data":[1]}`)); err != nil {
		t.Fatal(err)
	}
	s.end(f.prompt(map[string]any{"prompt": picture(53), "client_id": "junk"}))
	for _, body := range []string{"", "{", "[1]", `"x"`, "null", `{"prompt":null}`, `{"prompt":[]}`, `{"prompt":{"1":"x"}}`, `{"prompt":{"nodes":[],"links":[]}}`,
		`{"prompt":{"1":{"class_type":"EmptyImage","inputs":{}}},"prompt_id":"NOT-A-UUID"}`, `{"prompt":{},"client_id":{}}`, `{"prompt":{},"extra_data":null}`, `{"prompt":{},"number":"x"}`} {
		if a := f.do(http.MethodPost, "/prompt", body); a.status != http.StatusBadRequest || !bytes.Contains(a.body, []byte(`"message"`)) {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
}
