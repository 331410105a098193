package comfysim_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/comfysim"
)

func TestKillForgetsEverythingButFiles(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{})
	l := h.listen("me")
	l.must()
	done := h.submit(short(1, "a"), "me")
	l.untilEnd()
	ref := h.history(done).Outputs["2"]["images"][0]
	h.submit(sleepy(1, 60, 6000, "none", "x"), "me")
	h.until("runs", func() bool { return len(h.Runs()) == 2 })
	h.Kill()
	if got := h.Runs()[1].Outcome; got != comfysim.Died {
		t.Errorf("outcome of the running prompt = %s, want died", got)
	}
	if _, _, err := h.try("GET", "/prompt", ""); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("GET after Kill: %v, want connection refused", err)
	}
	if err := h.Restart(); err != nil {
		t.Fatal(err)
	}
	if _, text := h.do("GET", "/queue", ""); text != `{"queue_pending":[],"queue_running":[]}` {
		t.Errorf("queue after restart = %s", text)
	}
	if _, text := h.do("GET", "/history/"+done, ""); text != "{}" {
		t.Errorf("history after restart = %s", text)
	}
	h.view(ref)
	if _, text := h.do("POST", "/prompt", fmt.Sprintf(`{"prompt":%s}`, short(1, "a"))); !strings.Contains(text, `"number":0`) {
		t.Errorf("first number after restart: %s, want 0", text)
	}
	h.ended(3)
	if err := h.Restart(); err != comfysim.ErrRunning { //nolint:errorlint // the sentinel itself is promised
		t.Errorf("Restart of a running host = %v", err)
	}
}

// Systems give ports from 32768 on to programs that ask for any port, as programs do that start while a host is down.
func TestNobodyIsGivenThePortOfAHostThatIsDown(t *testing.T) {
	t.Parallel()
	for range 20 {
		h := start(t, comfysim.Config{})
		_, port, err := net.SplitHostPort(strings.TrimPrefix(h.URL(), "http://"))
		if n, no := strconv.Atoi(port); err != nil || no != nil || n >= 32768 {
			t.Errorf("a host listens at %s: %v", h.URL(), err)
		}
	}
}

func TestAFrozenHostAcceptsConnectionsAndSaysNothing(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{})
	h.Freeze()
	conn, err := net.Dial("tcp", strings.TrimPrefix(h.URL(), "http://"))
	if err != nil {
		t.Fatalf("a frozen host refuses connections: %v", err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET /prompt HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 12)
	_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := conn.Read(answer); err == nil {
		t.Fatalf("a frozen host answered %q", answer[:n])
	}
	h.Thaw()
	_ = conn.SetReadDeadline(time.Now().Add(testTimeout))
	if _, err := conn.Read(answer); err != nil || string(answer) != "HTTP/1.1 200" {
		t.Errorf("after the thaw: %q %v", answer, err)
	}
}

func TestFaultsOfARunEndItAsScripted(t *testing.T) {
	t.Parallel()
	graph := txt2img("a.safetensors", "1", "a cat", "x")
	for _, c := range []struct {
		fault   comfysim.Fault
		outcome comfysim.Outcome
		kind    string
	}{
		{comfysim.Fault{Kind: comfysim.FaultRaise, Exception: "ValueError", Message: "boom"}, comfysim.Failed, "ValueError"},
		{comfysim.Fault{Kind: comfysim.FaultRaise, Class: "VAEDecode", Exception: "cuda_device_assert"}, comfysim.Failed, "RuntimeError"},
		{comfysim.Fault{Kind: comfysim.FaultOOM, MinSize: 2048}, comfysim.Failed, "torch.OutOfMemoryError"},
		{comfysim.Fault{Kind: comfysim.FaultOOM, MinSize: 2049}, comfysim.Succeeded, ""},
		{comfysim.Fault{Kind: comfysim.FaultDiskFull}, comfysim.Failed, "OSError"},
		{comfysim.Fault{Kind: comfysim.FaultRaise, Text: "a cat"}, comfysim.Failed, "RuntimeError"},
		{comfysim.Fault{Kind: comfysim.FaultRaise, Text: "a dog"}, comfysim.Succeeded, ""},
		{comfysim.Fault{Kind: comfysim.FaultRaise, Checkpoint: "b.safetensors"}, comfysim.Succeeded, ""},
		{comfysim.Fault{Kind: comfysim.FaultRaise, Checkpoint: "a.safetensors"}, comfysim.Failed, "RuntimeError"},
		{comfysim.Fault{Kind: comfysim.FaultInterrupt}, comfysim.Interrupted, ""},
		{comfysim.Fault{Kind: comfysim.FaultWedge}, comfysim.Wedged, ""},
		{comfysim.Fault{Kind: comfysim.FaultExitWorker}, comfysim.Wedged, ""},
	} {
		t.Run(fmt.Sprintf("%+v", c.fault), func(t *testing.T) {
			t.Parallel()
			h := start(t, comfysim.Config{Models: map[string][]string{"checkpoints": {"a.safetensors"}}, Faults: []comfysim.Fault{c.fault}})
			id := h.submit(graph, "")
			if got := h.ended(1)[0].Outcome; got != c.outcome {
				t.Fatalf("outcome %s, want %s", got, c.outcome)
			}
			if c.kind == "" {
				return
			}
			messages := h.history(id).Status.Messages
			if last := string(messages[len(messages)-1][1]); !strings.Contains(last, fmt.Sprintf(`"exception_type":%q`, c.kind)) {
				t.Errorf("last message %s, want %s", last, c.kind)
			}
		})
	}
}

func TestAHostDiesWithItsPrompt(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{Faults: []comfysim.Fault{{Kind: comfysim.FaultDie}}})
	h.risk(short(1, "a"), "")
	if got := h.ended(1)[0].Outcome; got != comfysim.Died {
		t.Errorf("outcome %s", got)
	}
	h.until("death", func() bool { return !h.Up() })
}

func TestAWedgedHostLooksAliveAndShowsItInItsLog(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{})
	id := h.submit(`{"1":{"class_type":"EmptyImage","inputs":{"width":8,"height":8,"batch_size":1,"color":1,"zzz":["77",0]}},
		"2":{"class_type":"SaveImage","inputs":{"images":["1",0],"filename_prefix":"x"}}}`, "me")
	if got := h.ended(1)[0].Outcome; got != comfysim.Wedged {
		t.Fatalf("outcome = %s", got)
	}
	_, log := h.do("GET", "/internal/logs", "")
	if i := strings.Index(log, "Exception in thread"); i < 0 || !strings.Contains(log[i:], "(prompt_worker)") {
		t.Errorf("log lacks the signature: %s", log)
	}
	if _, text := h.do("POST", "/api/jobs/"+id+"/cancel", ""); text != `{"cancelled":true}` {
		t.Errorf("cancel = %s", text)
	}
	if running, _ := h.Pending(); running != id {
		t.Errorf("running = %q, want the wedged prompt for ever", running)
	}
	if code, _ := h.do("GET", "/system_stats", ""); code != 200 {
		t.Errorf("system_stats = %d", code)
	}
}

func TestHangsAnswerInterruptsOrNot(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{Faults: []comfysim.Fault{{Kind: comfysim.FaultHang, Times: 1}}})
	id := h.submit(short(1, "a"), "")
	h.until("hangs", func() bool { return len(h.Runs()) == 1 && len(h.Runs()[0].Nodes) == 1 })
	h.do("POST", "/api/jobs/"+id+"/cancel", "")
	if got := h.ended(1)[0].Outcome; got != comfysim.Interrupted {
		t.Errorf("outcome = %s", got)
	}
	h.AddFault(comfysim.Fault{Kind: comfysim.FaultHangHard})
	id = h.submit(short(2, "b"), "")
	h.until("hangs hard", func() bool { return len(h.Runs()) == 2 && len(h.Runs()[1].Nodes) == 1 })
	h.do("POST", "/api/jobs/"+id+"/cancel", "")
	if _, text := h.do("GET", "/api/jobs/"+id, ""); !strings.Contains(text, "in_progress") {
		t.Errorf("job = %s, want it to hang on", text)
	}
}

func TestFaultsOfSubmission(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{})
	body := fmt.Sprintf(`{"prompt":%s}`, short(1, "a"))
	h.AddFault(comfysim.Fault{Kind: comfysim.FaultRefuse, Status: 429, Times: 1})
	if code, _ := h.do("POST", "/prompt", body); code != 429 {
		t.Errorf("refuse = %d", code)
	}
	h.AddFault(comfysim.Fault{Kind: comfysim.FaultResetAfterQueue, Times: 1})
	if _, text, err := h.try("POST", "/prompt", body); err == nil {
		t.Errorf("reset_after_queue answered %s", text)
	}
	h.ended(1)
	h.AddFault(comfysim.Fault{Kind: comfysim.FaultNodeErrors, Times: 1})
	if code, text := h.do("POST", "/prompt", body); code != 200 || !strings.Contains(text, "value_not_in_list") {
		t.Errorf("node_errors = %d %s", code, text)
	}
	h.ended(2)
	h.AddFault(comfysim.Fault{Kind: comfysim.FaultDeletePending, Times: 1})
	if code, _ := h.do("POST", "/prompt", body); code != 200 {
		t.Errorf("delete_pending = %d", code)
	}
	if _, pending := h.Pending(); len(pending) != 0 || len(h.Runs()) != 2 {
		t.Error("the deleted prompt is still there")
	}
	h.AddFault(comfysim.Fault{Kind: comfysim.FaultSlowAccept, Delay: time.Hour, Times: 1})
	giveUp, answer := h.post(body)
	h.ended(3) // it ran, although no message said so
	giveUp()
	if err := <-answer; err == nil {
		t.Error("slow_accept answered at once")
	}
	if got := len(h.Faults()); got != 0 {
		t.Errorf("%d faults left, want all spent", got)
	}
}

func TestFaultsOfResults(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{})
	h.AddFault(comfysim.Fault{Kind: comfysim.FaultNaN, Times: 1})
	id := h.submit(short(1, "nan"), "")
	h.ended(1)
	if _, text := h.do("GET", "/history/"+id, ""); !strings.Contains(text, `"score":[NaN]`) || json.Valid([]byte(text)) {
		t.Errorf("history = %s, want a bare NaN", text)
	}
	h.AddFault(comfysim.Fault{Kind: comfysim.FaultMissingOutput, Times: 1})
	id = h.submit(short(1, "gone"), "")
	h.ended(2)
	ref := h.history(id).Outputs["2"]["images"][0]
	if code, _ := h.do("GET", fmt.Sprintf("/view?filename=%v", ref["filename"]), ""); code != 404 {
		t.Errorf("view of a missing output = %d", code)
	}
	h.AddFault(comfysim.Fault{Kind: comfysim.FaultHistoryWiped, Times: 1})
	id = h.submit(short(1, "wiped"), "")
	h.ended(3)
	if _, text := h.do("GET", "/history/"+id, ""); text != "{}" {
		t.Errorf("history = %s, want it wiped", text)
	}
	h.AddFault(comfysim.Fault{Kind: comfysim.FaultWrongJSON, Path: "/queue", Times: 1})
	if code, text := h.do("GET", "/api/queue", ""); code != 200 || json.Valid([]byte(text)) {
		t.Errorf("wrong_json = %d %s", code, text)
	}
	h.AddFault(comfysim.Fault{Kind: comfysim.FaultBacklog, Count: 3, For: time.Hour})
	h.until("strangers", func() bool { running, pending := h.Pending(); return running != "" && len(pending) == 2 })
}

func TestADeafSocketStaysOpenAndSilent(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{Faults: []comfysim.Fault{{Kind: comfysim.FaultDeaf, Times: 1}}})
	l := h.listen("me")
	l.must()
	h.submit(short(1, "a"), "me")
	h.ended(1)
	if h.Sockets() != 1 {
		t.Error("the socket was closed")
	}
	h.Kill()
	for {
		e, err := l.next()
		if err != nil {
			return
		}
		if e.Type != "status" || words([]event{e})[0] == "status 0" {
			t.Fatalf("a deaf socket got %v", e)
		}
	}
}

func TestOutputThatJSONCannotHold(t *testing.T) {
	t.Parallel()
	graph := `{"1":{"class_type":"EmptyImage","inputs":{"width":8,"height":8,"batch_size":1,"color":1}},"2":{"class_type":"SimUnserialisable","inputs":{"images":["1",0]}}}`
	h := start(t, comfysim.Config{})
	id := h.submit(graph, "nobody")
	h.ended(1)
	if code, _ := h.do("GET", "/history/"+id, ""); code != 500 {
		t.Errorf("history = %d, want 500", code)
	}
	h.do("POST", "/history", `{"clear":true}`)
	l := h.listen("me")
	l.must()
	h.do("POST", "/free", `{"free_memory":true}`)
	h.risk(graph, "me")
	h.until("death", func() bool { return !h.Up() })
	for {
		if _, err := l.next(); err != nil {
			return
		}
	}
}

func TestADriverScriptsARealProcessOverHTTP(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{})
	code, text := h.do("POST", "/sim/faults", `[{"kind":"raise","exception":"KeyError","times":1,"delay":"1ms"}]`)
	if d := cmp.Diff(`[{"kind":"raise","times":1,"exception":"KeyError","delay":"1ms"}]`, text); code != 200 || d != "" {
		t.Errorf("faults = %d:\n%s", code, d)
	}
	if code, _ := h.do("POST", "/sim/faults", `[{"kind":"nonsense"}]`); code != 400 {
		t.Errorf("an unknown kind = %d, want 400", code)
	}
	h.submit(short(1, "a"), "")
	h.ended(1)
	_, text = h.do("GET", "/sim/runs", "")
	var runs []comfysim.Run
	mustDecode(t, text, &runs)
	if len(runs) != 1 || runs[0].Outcome != comfysim.Failed {
		t.Errorf("runs = %s", text)
	}
	if code, _ := h.do("POST", "/sim/die?restart=1ms", ""); code != 200 {
		t.Errorf("die = %d", code)
	}
	h.until("back with a new life", func() bool {
		_, text, err := h.try("GET", "/history", "")
		return err == nil && text == "{}"
	})
	h.do("POST", "/sim/freeze?for=1ms", "")
	h.do("POST", "/sim/clear", "")
}

func TestEveryNthAndTimesAreCounted(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{Faults: []comfysim.Fault{{Kind: comfysim.FaultRaise, Every: 2, Times: 2}}})
	for i := range 6 {
		h.submit(short(i, fmt.Sprint("p", i)), "")
	}
	var got []comfysim.Outcome
	for _, r := range h.ended(6) {
		got = append(got, r.Outcome)
	}
	want := []comfysim.Outcome{"success", "error", "success", "error", "success", "success"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("outcomes (-want +got):\n%s", d)
	}
}

func TestAStalledPublisherHoldsEverybodysEventsBack(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{Faults: []comfysim.Fault{{Kind: comfysim.FaultStall, For: 50 * time.Millisecond, Times: 1}}})
	l := h.listen("me")
	l.must()
	h.submit(short(1, "a"), "me")
	h.ended(1) // HTTP and the worker go on
	if d := cmp.Diff(recorded(t, "short"), words(l.untilEnd())); d != "" {
		t.Errorf("after the stall (-want +got):\n%s", d)
	}
}

func TestAFreezeFaultStopsTheHostUnderTheJob(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{Faults: []comfysim.Fault{{Kind: comfysim.FaultFreeze, Times: 1}}})
	giveUp, answer := h.post(fmt.Sprintf(`{"prompt":%s}`, short(1, "a")))
	h.until("frozen", h.Frozen)
	giveUp()
	<-answer // which may have left before the freeze
	frozen := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 100 * time.Millisecond}
	if res, err := frozen.Get(h.URL() + "/prompt"); err == nil {
		_ = res.Body.Close()
		t.Error("a frozen host answered")
	}
	h.Thaw()
	if got := h.ended(1)[0].Outcome; got != comfysim.Succeeded {
		t.Errorf("outcome after the thaw = %s", got)
	}
}

func TestANullPNGInfoBreaksTheListOfJobs(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{})
	h.do("POST", "/prompt", fmt.Sprintf(`{"extra_data":{"extra_pnginfo":null,"api_key_comfy_org":"secret","mine":7},"prompt":%s}`, short(1, "a")))
	id := h.ended(1)[0].PromptID
	if code, _ := h.do("GET", "/api/jobs", ""); code != 500 {
		t.Errorf("/api/jobs = %d, want 500", code)
	}
	if _, text := h.do("GET", "/history/"+id, ""); strings.Contains(text, "secret") || !strings.Contains(text, `"mine":7`) {
		t.Errorf("extra_data in the history: %s", text)
	}
}
