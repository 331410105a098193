package comfy

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/failure"
)

func TestAPreviewInTheOldLayoutHasItsFormat(t *testing.T) {
	t.Parallel()
	for format, want := range map[byte]string{1: "image/jpeg", 2: "image/png", 3: ""} {
		p, ok := parseBinary([]byte{0, 0, 0, 1, 0, 0, 0, format, 'x'})
		if ok != (want != "") || ok && (p.contentType != want || string(p.image) != "x" || p.prompt != "" || p.node != "") {
			t.Errorf("format %d: %+v, %t", format, p, ok)
		}
	}
	for name, frame := range map[string]string{"Other": "\x00\x00\x00\x09\x00\x00\x00\x01x", "CutOff": "\x00\x00\x00\x04\x00\x00\x00\x09{}x"} {
		if p, ok := parseBinary([]byte(frame)); ok {
			t.Errorf("%s is %+v", name, p)
		}
	}
}

// Node packs send ids as numbers, and other values where a text belongs.
func TestWhatIsNoTextIsEmptyButANumber(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]text{`"a"`: "a", "0": "0", "9": "9", "10.5": "10.5", "-1": "-1", "true": "", "false": "", "null": "",
		`{"a":1}`: "", "[1]": ""} {
		var got text
		if err := json.Unmarshal([]byte(raw), &got); err != nil || got != want {
			t.Errorf("%s is %q, %v, want %q", raw, got, err, want)
		}
	}
	for raw, want := range map[string]texts{`["a",5,null]`: {"a", "5", ""}, `{"a":1}`: nil, "5": nil, "[]": nil} {
		var got texts
		if err := json.Unmarshal([]byte(raw), &got); err != nil || !cmp.Equal(got, want) {
			t.Errorf("%s is %q, %v, want %q", raw, got, err, want)
		}
	}
}

func TestKindsOfWhatANodeRaises(t *testing.T) {
	t.Parallel()
	const lost, memory = "CUDA error: unspecified launch failure", "CUDA error: out of memory"
	for _, c := range []struct {
		exception, message string
		want               failure.Kind
	}{
		{"torch.OutOfMemoryError", "x", failure.OutOfMemory}, {"torch.cuda.OutOfMemoryError", "x", failure.OutOfMemory},
		{"MemoryError", "", failure.OutOfMemory}, {"numpy.core._exceptions._ArrayMemoryError", "x", failure.OutOfMemory},
		{"RuntimeError", memory, failure.OutOfMemory}, {"ValueError", memory, failure.ExecutionError},
		{"OSError", "[Errno 12] Cannot allocate memory", failure.OutOfMemory}, {"ValueError", "[Errno 12] Cannot allocate memory", failure.ExecutionError},
		{"OSError", "[Errno 2] No such file", failure.ExecutionError}, {"OSError", "[Errno 28] No space left on device", failure.HostSick},
		{"RuntimeError", lost, failure.HostSick}, {"torch.cuda.Error", lost, failure.HostSick}, {"ValueError", lost, failure.ExecutionError},
		{"mytorch.Error", lost, failure.ExecutionError},
		{"RuntimeError", "size mismatch", failure.ExecutionError},
	} {
		if got, _ := raisedKind(c.exception, c.message); got != c.want {
			t.Errorf("%s: %s is %s, want %s", c.exception, c.message, got, c.want)
		}
	}
}

func TestTheTimeOfAFileIsThatOfItsTagWhereBothAgree(t *testing.T) {
	t.Parallel()
	odd := time.Date(2026, 1, 1, 12, 0, 1, 5, time.UTC)
	tag := func(at time.Time) string { return `"` + strconv.FormatInt(at.UnixNano(), 16) + `-5"` }
	for name, c := range map[string]struct {
		tag, modified string
		want          time.Time
	}{
		"Agrees":   {tag(odd), odd.Format(http.TimeFormat), odd},
		"Weak":     {"W/" + tag(odd), odd.Format(http.TimeFormat), odd},
		"Disagree": {tag(odd.Add(time.Second)), odd.Format(http.TimeFormat), odd.Truncate(time.Second)},
		"NoTag":    {"", odd.Format(http.TimeFormat), odd.Truncate(time.Second)},
		"OtherTag": {`"abc"`, odd.Format(http.TimeFormat), odd.Truncate(time.Second)},
		"NoTime":   {tag(odd), "", time.Time{}},
	} {
		header := http.Header{}
		header.Set("Etag", c.tag)
		header.Set("Last-Modified", c.modified)
		if got := writtenAt(header); !got.Equal(c.want) {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestAStateOfProgressKeepsItsPlaceAmongTheFrames(t *testing.T) {
	t.Parallel()
	r := newRelayed(t)
	r.says("progress_state", "1")
	r.says("executing", "2")
	r.now = r.now.Add(statePause)
	r.says("progress_state", "3")
	r.says("progress_state", "4")
	r.says("executing", "5")
	if diff := cmp.Diff([]string{"progress_state 1", "executing 2", "progress_state 3", "executing 5"}, r.said()); diff != "" {
		t.Error(diff)
	}
	r.now = r.now.Add(statePause)
	if diff := cmp.Diff([]string{"progress_state 4"}, r.said()); diff != "" {
		t.Error(diff)
	}
}

func TestASignatureIsTheSameWheneverItIsAskedFor(t *testing.T) {
	t.Parallel()
	const graph = `{"1":{"class_type":"A"},"2":{"class_type":"B","inputs":{"a":["1",0],"b":["1",0]}},` +
		`"3":{"class_type":"B","inputs":{"a":["4",0]}},"4":{"class_type":"C","inputs":{"a":["3",0]}}}`
	s := signaturesOf(json.RawMessage(graph))
	for _, node := range []string{"1", "2", "3", "4"} {
		if first := s.of(node); first != s.of(node) || first == (signature{}) {
			t.Errorf("node %s has %x, and then %x", node, first, s.of(node))
		}
	}
	other := signaturesOf(json.RawMessage(strings.Replace(graph, `"A"`, `"D"`, 1)))
	if other.of("1") == s.of("1") || other.of("2") == s.of("2") {
		t.Error("what another class gives has the same signature")
	}
	if signaturesOf(json.RawMessage("no graph")).of("1") == (signature{}) {
		t.Error("a node of no graph has no signature")
	}
}

func TestTheWorkerIsTheOldestOfThoseThatWereBusy(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		busy map[int]time.Duration
		want int
	}{
		"None": {nil, 0}, "Idle": {map[int]time.Duration{3: 0, 5: 0}, 0}, "One": {map[int]time.Duration{3: 0, 5: time.Second}, 5},
		"Alike": {map[int]time.Duration{3: 600 * time.Millisecond, 5: time.Second, 7: time.Second}, 3},
		"Half":  {map[int]time.Duration{3: 500 * time.Millisecond, 5: time.Second}, 3},
		"Less":  {map[int]time.Duration{3: 499 * time.Millisecond, 5: time.Second}, 5},
	} {
		th := threads{candidates: map[int]bool{}, busy: c.busy}
		for id := range c.busy {
			th.candidates[id] = true
		}
		if got := th.busiest(); got != c.want {
			t.Errorf("%s: it is thread %d, want %d", name, got, c.want)
		}
	}
}

func TestWhatTheWorkerRunsIsReadFromEvents(t *testing.T) {
	t.Parallel()
	blocked := event{kind: "execution_error", prompt: "a", raised: raised{Exception: "ExecutionBlocked"}}
	for name, c := range map[string]struct {
		before string
		e      event
		want   string
	}{
		"Started": {"", event{kind: "execution_start", prompt: "a"}, "a"}, "Executing": {"b", event{kind: "executing", prompt: "a", node: "1"}, "a"},
		"Progress": {"", event{kind: "progress", prompt: "a"}, "a"}, "Executed": {"", event{kind: "executed", prompt: "a"}, ""},
		"Cached": {"", event{kind: "execution_cached", prompt: "a"}, ""},
		"Status": {"a", event{kind: "status"}, "a"}, "Left": {"a", event{kind: "executing", prompt: "a", end: true}, ""},
		"AnotherLeft": {"a", event{kind: "executing", prompt: "b", end: true}, "a"},
		"Success":     {"a", event{kind: "execution_success", prompt: "a"}, ""}, "Interrupted": {"a", event{kind: "execution_interrupted", prompt: "a"}, ""},
		"Raised": {"a", event{kind: "execution_error", prompt: "a"}, ""}, "Blocked": {"a", blocked, "a"},
	} {
		w := worker{prompt: c.before}
		if w.see(c.e, 3); w.prompt != c.want || w.prompt != c.before && w.prompt != "" && w.drops != 3 {
			t.Errorf("%s: it runs %q, want %q, after %d sockets", name, w.prompt, c.want, w.drops)
		}
	}
}

func TestListsOfInputsAreReadInBothShapes(t *testing.T) {
	t.Parallel()
	for config, want := range map[string]list{
		`[["a","b"]]`: {texts: []string{"a", "b"}}, `[["a"],{"image_upload":true}]`: {texts: []string{"a"}, open: true},
		`[["a"],{"upload":true}]`:                       {texts: []string{"a"}, open: true},
		`[["a"],{"image_upload":false,"uploads":true}]`: {texts: []string{"a"}},
		`["COMBO",{"options":["a",5,true,false,null]}]`: {texts: []string{"a"}, numbers: []float64{5, 1, 0}},
	} {
		if got, is := readList(json.RawMessage(config)); !is || got.open != want.open || !cmp.Equal(got.texts, want.texts) || !cmp.Equal(got.numbers, want.numbers) {
			t.Errorf("%s: %+v, %t", config, got, is)
		}
	}
	for _, config := range []string{`[]`, `5`, `["INT",{}]`, `["COMBO"]`, `["COMBO",{}]`, `["STRING",{"options":["a"]}]`, `[5]`, `[null]`} {
		if got, is := readList(json.RawMessage(config)); is {
			t.Errorf("%s: %+v", config, got)
		}
	}
	c := capabilityReader{spellings: map[string]string{}}
	c.spell("A", "a", []string{`one\x`, `both\x`, "both/x", "plain"})
	if diff := cmp.Diff(map[string]string{spellingKey("A", "a", "one/x"): `one\x`}, c.spellings); diff != "" {
		t.Error(diff)
	}
}

func TestAFullResultTakesNoMoreText(t *testing.T) {
	t.Parallel()
	p := produced{size: maxText}
	if p.addText("1", "a"); p.texts != nil {
		t.Errorf("%v", p.texts)
	}
}

// A node of an expansion has the id of the user's node for display.
func TestEventsNameTheNodeThatTheUserKnows(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]event{
		`{"type":"executing","data":{"prompt_id":"p","node":"2.0.1","display_node":"2"}}`: {
			kind: "executing", prompt: "p", node: "2"},
		`{"type":"progress","data":{"prompt_id":"p","node":"2","value":1,"max":4}}`: {kind: "progress", prompt: "p", node: "2", value: 1, max: 4},
		`{"type":"executing","data":{"prompt_id":"p","node":null}}`:                 {kind: "executing", prompt: "p", end: true},
		`{"type":"executed","data":{"prompt_id":"p","node":null}}`:                  {kind: "executed", prompt: "p"},
		`{"type":"execution_cached","data":{"prompt_id":"p","nodes":["1",2]}}`:      {kind: "execution_cached", prompt: "p", nodes: []string{"1", "2"}},
		`{"type":"execution_error","data":{"prompt_id":"p","node_id":"3"}}`: {
			kind: "execution_error", prompt: "p", raised: raised{Prompt: "p", Node: "3"}},
	} {
		got, ok := parseText([]byte(message))
		got.output = nil
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(event{})); diff != "" || !ok {
			t.Errorf("%s: %t %s", message, ok, diff)
		}
	}
}
