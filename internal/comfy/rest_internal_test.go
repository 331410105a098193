package comfy

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"

	"github.com/comfyherd/comfyherd/internal/failure"
)

// What a run does not take in time is dropped and counted. Pictures, which exist nowhere else, have more room.
func TestFramesThatAreNotTakenInTimeAreCounted(t *testing.T) {
	t.Parallel()
	now := time.Unix(1, 0)
	var y relay
	y.add(Frame{Data: make([]byte, relayRoom)})
	y.add(Frame{Data: []byte("a")})
	y.add(Frame{Data: []byte("b")})
	y.add(Frame{Data: []byte("c"), Picture: true})
	var got []int
	for _, f := range append(y.take(now), y.take(now)...) {
		got = append(got, f.Missing)
	}
	if diff := cmp.Diff([]int{0, 2}, got); diff != "" {
		t.Errorf("the messages that are missing before each: %s", diff)
	}
	y.add(Frame{Data: make([]byte, relayRoom-1)})
	if got := y.take(now); len(got) != 1 || got[0].Missing != 0 {
		t.Errorf("%d frames after the others were taken", len(got))
	}
}

// A run may want the messages of its prompt while another one, which does not, is told of too.
func TestMessagesOfRunsThatDoNotWantThemAreNotKept(t *testing.T) {
	t.Parallel()
	h := Host{tracks: map[string]*tracker{}}
	h.tracks["a"] = newTracker("a", shape{})
	for _, message := range []string{
		`{"type":"progress_state","data":{"prompt_id":"a"}}`, `{"type":"executed","data":{"prompt_id":"a"}}`, `{"type":"execution_success","data":{"prompt_id":"a"}}`,
		`{"type":"executing","data":{"prompt_id":"b"}}`, "no JSON", `{"type":"x","data":5}`,
	} {
		h.pass(websocket.TextMessage, []byte(message), time.Unix(1, 0))
	}
	h.pass(websocket.BinaryMessage, []byte{0, 0, 0, 1, 0, 0, 0, 2, 'x'}, time.Unix(1, 0))
	if got := h.tracks["a"].relay.take(time.Unix(1, 0)); got != nil {
		t.Errorf("%d frames", len(got))
	}
}

func TestEventsWithoutWhatTheyNeedAreNone(t *testing.T) {
	t.Parallel()
	for _, message := range []string{
		`{"type":"status"}`, `{"type":"execution_error"}`, `{"type":"execution_error","data":{}}`, `{"type":"executing"}`, `{"type":"executing","data":{}}`,
		`{"type":"progress_state","data":{"prompt_id":"a"}}`, `{"type":"other","data":{"prompt_id":"a"}}`, `{"type":5}`, "[]", "no JSON", "",
	} {
		if e, ok := parseText([]byte(message)); ok {
			t.Errorf("%s is %+v", message, e)
		}
	}
	for remaining, want := range map[string]int{"3": 3, "0": 0, "-1": 0, "1e300": 0, "2147483648": 0, `"3"`: 0, "null": 0} {
		e, ok := parseText([]byte(`{"type":"status","data":{"status":{"exec_info":{"queue_remaining":` + remaining + `}}}}`))
		if !ok || e.remaining != want {
			t.Errorf("%s prompts remain: %d, %t", remaining, e.remaining, ok)
		}
	}
	for nodes, want := range map[string]int{`["1", 2, null]`: 3, `"1"`: 0, "null": 0} {
		e, ok := parseText([]byte(`{"type":"execution_cached","data":{"prompt_id":"a","nodes":` + nodes + `}}`))
		if !ok || len(e.nodes) != want {
			t.Errorf("%s: %q are cached", nodes, e.nodes)
		}
	}
	for _, meta := range []string{`{}`, `{"image_type":"image/png"}`, "no JSON"} {
		if _, ok := parseBinary(append([]byte{0, 0, 0, 4, 0, 0, 0, byte(len(meta))}, meta+"picture"...)); ok {
			t.Errorf("a picture of %s is one", meta)
		}
	}
}

// An executed event may come without an output.
func TestANodeWithoutAnOutputLeavesNothing(t *testing.T) {
	t.Parallel()
	got := readOutputs(map[string]json.RawMessage{"1": nil, "2": json.RawMessage("5"), "3": json.RawMessage(`{"images": 5}`)})
	if got.files != nil || got.texts != nil {
		t.Errorf("%+v", got)
	}
}

func TestTheTextsOfAPromptAreBoundedInAll(t *testing.T) {
	t.Parallel()
	p := produced{size: maxText - 2}
	p.addText("1", "abc")
	p.addText("2", "d")
	if diff := cmp.Diff(map[string][]string{"1": {"ab…"}}, p.texts); diff != "" {
		t.Error(diff)
	}
}

func TestMorePicturesThanFitIntoAFileAreAFailure(t *testing.T) {
	t.Parallel()
	p := preview{contentType: "image/png", image: []byte("picture")}
	a := album{size: maxPictures - 6}
	a.add("1", "SaveImageWebsocket", p)
	if a.failed == nil || len(a.frames) > 0 {
		t.Fatalf("%d pictures, %v", len(a.frames), a.failed)
	}
	r := run{album: &a, track: newTracker("a", shape{classes: map[string]string{"1": "SaveImageWebsocket"}})}
	f := r.complete(nil)
	want := &failure.Failure{Kind: failure.Lost, Node: "1", Class: "SaveImageWebsocket", Exception: "pictures_lost",
		Message: "node 1 sends its pictures over the websocket only, and they could not be kept on this machine: the prompt sends more than 4294967296 bytes of pictures"}
	if diff := cmp.Diff(want, f); diff != "" {
		t.Error(diff)
	}
	if f := r.complete([]string{"1"}); f != nil {
		t.Errorf("of a node that was not run: %v", f)
	}
}

// What an output node shows before it saves a file is a preview. A node that can only send has no previews.
func TestFramesOfANodeThatLeftAFileAreNoPictures(t *testing.T) {
	t.Parallel()
	a := album{frames: []frame{{node: "1", class: "SaveImageWebsocket"}, {node: "2", class: "SendPNG"}, {node: "3", class: "SendPNG"}}}
	var got []string
	for _, o := range a.pictures("p", map[string]bool{"1": true, "2": true}) {
		got = append(got, o.Node)
	}
	if diff := cmp.Diff([]string{"1", "3"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestASilentHostsReasonIsShort(t *testing.T) {
	t.Parallel()
	if got := Reason(errors.New("unexpected\nEOF")); got != "unexpected EOF" {
		t.Error(got)
	}
}

// What was deleted on this machine is not emptied as well.
func TestOnlyFilesThatWereNotDeletedAreEmptied(t *testing.T) {
	t.Parallel()
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			asked = append(asked, r.URL.Query().Get("type")+"/"+r.URL.Query().Get("filename"))
		}
	}))
	t.Cleanup(server.Close)
	h, err := New(server.URL, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	files := []fileRef{{"output", "x", "a"}, {"temp", "x", "a"}, {"input", "x", "a"}, {"temp", "x", "a"}, {"temp", "x", "b"}}
	if err := h.emptyFiles(t.Context(), files, []string{"output", "input"}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"temp/a", "temp/b"}, asked); diff != "" {
		t.Error(diff)
	}
}

func TestThePlainLogIsTakenApartAtItsTimes(t *testing.T) {
	t.Parallel()
	const at = "2026-11-28T09:20:55.000001"
	got := entriesOf("before" + at + " - one\n" + at + " - " + at + " - three")
	if diff := cmp.Diff([]logEntry{{at, "one\n"}, {at, ""}, {at, "three"}}, got); diff != "" {
		t.Error(diff)
	}
}

// What a node that can only send shows is a result, and no preview.
func TestAPictureThatIsAResultIsNoPreview(t *testing.T) {
	t.Parallel()
	tr := newTracker("a", shape{classes: map[string]string{"1": "SaveImageWebsocket", "2": "KSampler"}})
	tr.show(preview{node: "1", image: []byte("x")}, time.Unix(1, 0))
	if tr.preview != nil || len(tr.wake) != 0 {
		t.Error("the result is a preview")
	}
	tr.show(preview{node: "2", image: []byte("y")}, time.Unix(1, 0))
	if tr.preview == nil || string(tr.preview.image) != "y" || len(tr.wake) != 1 {
		t.Error("the preview is none, or is not told at once")
	}
}

func TestAPromptRunsFromItsFirstEventToItsLast(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		events []event
		want   bool
	}{
		"Nothing":     {nil, false},
		"Started":     {[]event{{kind: "execution_start"}}, true},
		"OnlyResult":  {[]event{{kind: "executed", node: "1"}}, false},
		"Succeeded":   {[]event{{kind: "execution_start"}, {kind: "execution_success"}}, false},
		"Interrupted": {[]event{{kind: "execution_start"}, {kind: "execution_interrupted"}}, false},
		"Failed":      {[]event{{kind: "execution_start"}, {kind: "execution_error", raised: raised{Exception: "ValueError"}}}, false},
		"Blocked":     {[]event{{kind: "execution_start"}, {kind: "execution_error", raised: raised{Exception: "ExecutionBlocked"}}}, true},
	} {
		tr := newTracker("a", shape{})
		for _, e := range c.events {
			tr.see(e, time.Unix(1, 0))
		}
		if tr.running() != c.want {
			t.Errorf("%s: it runs: %t", name, !c.want)
		}
	}
	tr := newTracker("a", shape{})
	tr.look()
	tr.see(event{kind: "executing", node: "1"}, time.Unix(1, 0))
	if !tr.hint {
		t.Error("an event has taken back that the prompt is to be looked up")
	}
}

// A result that overtakes the start of its prompt does not begin it, and an ExecutionBlocker keeps a node from being run.
func TestWhatOtherEventsSayOfAPromptIsKept(t *testing.T) {
	t.Parallel()
	at := time.Unix(1, 0)
	tr := newTracker("a", shape{classes: map[string]string{"1": "A", "2": "B", "3": "C"}})
	tr.see(event{kind: "executed", node: "3"}, at)
	if !tr.started.IsZero() {
		t.Error("a result begins the prompt")
	}
	tr.see(event{kind: "execution_start"}, at.Add(time.Second))
	tr.see(event{kind: "executing", node: "1"}, at.Add(2*time.Second))
	if !tr.started.Equal(at.Add(time.Second)) || tr.progress.NodesDone != 1 {
		t.Errorf("it began at %s, with %d nodes done", tr.started, tr.progress.NodesDone)
	}
	for range maxBlocked + 1 {
		tr.see(event{kind: "execution_error", raised: raised{Node: "2", Exception: "ExecutionBlocked"}}, at)
	}
	if tr.raised != nil || tr.hint || len(tr.blocked) != maxBlocked || !tr.blocks("2") || tr.blocks("1") {
		t.Errorf("raised %+v, %d are blocked", tr.raised, len(tr.blocked))
	}
}

// A prompt waited when another one ran, in the process that it was posted to, or, where its own events would have come, when one stood
// before it.
func TestAPromptWaitedWhenAnotherOneRan(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		worker  worker
		renamed string // by ComfyUI
		edit    func(*run)
		want    bool
	}{
		"AnotherRan":        {worker{prompt: "b", drops: 2}, "", func(*run) {}, true},
		"InAFormerProcess":  {worker{prompt: "b", drops: 1}, "", func(*run) {}, false},
		"NoneRan":           {worker{drops: 2}, "", func(*run) {}, false},
		"ItRan":             {worker{prompt: "a", drops: 2}, "", func(*run) {}, false},
		"ItRanRenamed":      {worker{prompt: "x", drops: 2}, "x", func(*run) {}, false},
		"ItRanByItsOldName": {worker{prompt: "a", drops: 2}, "x", func(*run) {}, false},
		"ItHadStarted":      {worker{prompt: "b", drops: 2}, "", func(r *run) { r.track.started = time.Unix(1, 0) }, false},
		"ItWasSeenRunning":  {worker{prompt: "b", drops: 2}, "", func(r *run) { r.runSince = time.Unix(1, 0) }, false},
		"BehindOne":         {worker{}, "", func(r *run) { r.session, r.othersFirst = &session{}, true }, true},
		"BehindNone":        {worker{}, "", func(r *run) { r.session = &session{} }, false},
		"WithoutASocket":    {worker{}, "", func(r *run) { r.othersFirst = true }, false},
	} {
		r := run{host: &Host{worker: c.worker}, prompt: Prompt{ID: "a"}, id: "a", track: newTracker("a", shape{}), dropsBefore: 2}
		if c.renamed != "" {
			r.id = c.renamed
		}
		c.edit(&r)
		if r.waited() != c.want {
			t.Errorf("%s: it waited: %t", name, !c.want)
		}
	}
}
