package comfysim_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"

	"github.com/comfyherd/comfyherd/internal/comfysim"
)

func TestANewSocketGoesDeafWhenTheOldOneOfItsIDCloses(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{})
	old := h.listen("me")
	old.must()
	taken := h.listen("me")
	taken.must()
	h.submit(short(1, "a"), "me")
	if got := words(taken.untilEnd()); got[0] != "status 1" {
		t.Errorf("the second socket of an id got %v, want the run", got)
	}
	old.close()
	h.until("old socket gone", func() bool { return h.Sockets() == 1 })
	witness := h.listen("witness")
	witness.must()
	h.submit(short(2, "b"), "me")
	for range 3 { // put, get, finish
		if e := witness.must(); e.Type != "status" {
			t.Fatalf("witness got %v", e)
		}
	}
	h.Kill()
	if e, err := taken.next(); err == nil {
		t.Errorf("the deaf socket got %v, want nothing until it breaks", e)
	}
}

func TestAReconnectLearnsTheNodeWithoutThePromptID(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{})
	h.submit(sleepy(1, 60, 6000, "none", "x"), "me")
	h.until("node 2 runs", func() bool { r := h.Runs(); return len(r) == 1 && len(r[0].Nodes) == 2 })
	l := h.listen("me")
	l.must()
	if d := cmp.Diff(event{"executing", map[string]any{"node": "2"}}, l.must()); d != "" {
		t.Errorf("second frame:\n%s", d)
	}
}

func TestOthersSeeOnlyWhatIsBroadcast(t *testing.T) {
	t.Parallel()
	for client, want := range map[string][]string{
		"me": {"status 1", "status 1", "status 0"},
		"": {
			"status 1", "status 1", "progress_state map[1:0.0/1.0 running]", "progress_state map[1:1.0/1.0 finished]",
			"progress_state map[1:1.0/1.0 finished 2:0.0/1.0 running]", "progress_state map[1:1.0/1.0 finished 2:1.0/1.0 finished]", "status 0",
		},
	} {
		t.Run("client "+client, func(t *testing.T) {
			t.Parallel()
			h := start(t, comfysim.Config{})
			l := h.listen("watcher")
			l.must()
			h.submit(short(1, "a"), client)
			var got []event
			for range want {
				got = append(got, l.must())
			}
			if d := cmp.Diff(want, words(got)); d != "" {
				t.Errorf("a watcher saw (-want +got):\n%s", d)
			}
		})
	}
}

func TestPreviewsComeInTheFormTheClientAskedFor(t *testing.T) {
	t.Parallel()
	for flags, want := range map[bool][]string{
		false: {"progress_state", "progress", "binary:1"}, true: {"progress_state", "binary:4", "progress"},
	} {
		t.Run(fmt.Sprint(flags), func(t *testing.T) {
			t.Parallel()
			h := start(t, comfysim.Config{})
			l := h.listen("me")
			l.must()
			hello := fmt.Sprintf(`{"type":"feature_flags","data":{"supports_preview_metadata":%v}}`, flags)
			if err := l.conn.WriteMessage(websocket.TextMessage, []byte(hello)); err != nil {
				t.Fatal(err)
			}
			if e := l.must(); e.Type != "feature_flags" || fmt.Sprint(e.Data["max_upload_size"]) != "104857600" {
				t.Fatalf("answer to feature_flags = %v", e)
			}
			h.submit(sleepy(1, 0, 1, "PNG", "x"), "me")
			var got []string
			for _, e := range l.untilEnd() {
				got = append(got, e.Type)
			}
			if !strings.Contains(strings.Join(got, " "), strings.Join(want, " ")) {
				t.Errorf("messages %v, want %v in a row", got, want)
			}
		})
	}
}

func TestADeletedPendingPromptLeavesNoTrace(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{})
	h.submit(sleepy(1, 60, 6000, "none", "x"), "me")
	h.until("runs", func() bool { return len(h.Runs()) == 1 })
	id := h.submit(short(1, "a"), "me")
	h.do("POST", "/queue", fmt.Sprintf(`{"delete":[%q,"unknown"]}`, id))
	if _, text := h.do("GET", "/history/"+id, ""); text != "{}" {
		t.Errorf("history = %s", text)
	}
	if code, _ := h.do("GET", "/api/jobs/"+id, ""); code != http.StatusNotFound {
		t.Errorf("jobs = %d, want 404", code)
	}
	if _, text := h.do("GET", "/prompt", ""); text != `{"exec_info":{"queue_remaining":1}}` {
		t.Errorf("GET /prompt = %s", text)
	}
}

func TestJobsTellEveryState(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{})
	done := h.submit(short(1, "a"), "me")
	h.ended(1)
	failed := h.submit(`{"1":{"class_type":"EmptyImage","inputs":{"width":8,"height":8,"batch_size":1,"color":1}},
		"2":{"class_type":"SimRaise","inputs":{"image":["1",0],"kind":"torch.OutOfMemoryError"}},"3":{"class_type":"PreviewImage","inputs":{"images":["2",0]}}}`, "")
	h.ended(2)
	running := h.submit(sleepy(1, 60, 6000, "none", "x"), "me")
	h.until("runs", func() bool { return len(h.Runs()) == 3 })
	pending := h.submit(short(2, "b"), "me")
	for id, want := range map[string]string{done: "completed", failed: "failed", running: "in_progress", pending: "pending"} {
		_, text := h.do("GET", "/api/jobs/"+id, "")
		var got struct {
			Status string
			Error  struct {
				Type string `json:"exception_type"`
			} `json:"execution_error"`
		}
		mustDecode(t, text, &got)
		if got.Status != want || (id == failed) != (got.Error.Type == "torch.OutOfMemoryError") {
			t.Errorf("job = %+v, want %s", got, want)
		}
	}
	_, text := h.do("GET", "/api/jobs?status=pending,failed&limit=1", "")
	var page struct {
		Jobs       []map[string]any
		Pagination map[string]any
	}
	mustDecode(t, text, &page)
	if len(page.Jobs) != 1 || page.Jobs[0]["id"] != pending || page.Pagination["has_more"] != true || page.Pagination["total"] != 2.0 {
		t.Errorf("page = %s", text)
	}
}

func BenchmarkJobs(b *testing.B) {
	s, err := comfysim.Start(comfysim.Config{Models: map[string][]string{"checkpoints": {"a.safetensors"}}})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	n := 0
	for b.Loop() {
		n++
		body := fmt.Sprintf(`{"prompt":%s}`, txt2img("a.safetensors", fmt.Sprint(n), "a cat", fmt.Sprint("job", n)))
		res, err := client.Post(s.URL()+"/prompt", "application/json", strings.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		_ = res.Body.Close()
		if _, err := s.WaitEnded(b.Context(), n); err != nil {
			b.Fatal(err)
		}
	}
}
