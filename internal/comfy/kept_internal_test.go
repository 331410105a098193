package comfy

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/failure"
)

func TestAnswersToAnUploadHaveTheirKind(t *testing.T) {
	t.Parallel()
	type told struct {
		Kind      failure.Kind
		Exception string
	}
	for name, c := range map[string]struct {
		status int
		body   string
		want   told
	}{
		"TooLarge": {413, "no", told{failure.Refused, tooLarge}}, "Busy": {429, "", told{failure.RejectedBusy, ""}}, "Away": {503,
			"", told{failure.RejectedBusy, ""}},
		"Name": {400, "", told{failure.Refused, ""}}, "Proxy": {500, "<html>", told{failure.HostLost, ""}},
	} {
		_, err := answering(t, c.status, c.body).Upload(t.Context(), "a.png", "", strings.NewReader("x"))
		f, is := errors.AsType[*failure.Failure](err)
		if !is || (told{f.Kind, f.Exception}) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := answering(t, http.StatusInternalServerError, `{"A": {}}`).Capability(t.Context(), nil); err == nil {
		t.Error("the text of an error is what a host can run")
	}
}

// A password is sent to the host that has it, and to no other.
func TestOnlyAHostWithAUserIsSentOne(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{"http://127.0.0.1:1": "", "http://u:p@127.0.0.1:1": "Basic dTpw"} {
		h, err := New(address, Options{})
		if err != nil {
			t.Fatal(err)
		}
		request, err := h.request(t.Context(), http.MethodGet, "/queue", nil, nil)
		if err != nil || request.Header.Get("Authorization") != want {
			t.Errorf("%s: %q, %v", address, request.Header.Get("Authorization"), err)
		}
		if h.threads.reader == nil {
			t.Error("nobody looks for ComfyUI's process")
		}
	}
}

func TestAProxysPortIsNotThatOfComfyUI(t *testing.T) {
	t.Parallel()
	h := answering(t, http.StatusOK, "")
	if !h.accepts(t.Context()) {
		t.Error("the port of a host that answers takes no connection")
	}
	h.absent.Store(true)
	if h.accepts(t.Context()) {
		t.Error("the port of a proxy counts as that of ComfyUI")
	}
	away, err := New("http://127.0.0.1:1", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if away.accepts(t.Context()) {
		t.Error("a port on which nothing listens takes connections")
	}
}

func TestAStateThatIsTheSameIsNotTold(t *testing.T) {
	t.Parallel()
	h := Host{changed: make(chan struct{}, 1)}
	for _, step := range []struct {
		state State
		told  int
	}{{State{}, 0}, {State{Connected: true}, 1}, {State{Connected: true}, 0}, {State{Connected: true, QueueRemaining: 1}, 1}} {
		h.setState(step.state)
		if len(h.changed) != step.told || h.State() != step.state {
			t.Errorf("%+v is told %d times", step.state, len(h.changed))
		}
		for len(h.changed) > 0 {
			<-h.changed
		}
	}
}

// Long videos of single pictures would fill the agent's memory.
func TestPicturesBeyondTheMemoryLieInAFileUntilTheyAreDropped(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var a album
	show := func(size int, letter string) {
		a.add("1", "SaveImageWebsocket", preview{contentType: "image/png", image: []byte(strings.Repeat(letter, size))})
	}
	if show(maxInMemory-1, "a"); a.file != nil {
		t.Error("a picture that has room lies in a file")
	}
	if show(1, "b"); a.file != nil {
		t.Error("pictures that just have room lie in a file")
	}
	show(1, "c")
	show(2, "d")
	if a.file == nil || a.memory != nil || a.failed != nil {
		t.Fatalf("pictures that have no room are in memory: %v", a.failed)
	}
	var all string
	for i := range a.frames {
		content, err := io.ReadAll(a.read(i))
		if err != nil {
			t.Error(err)
		}
		all += string(content)
	}
	if want := strings.Repeat("a", maxInMemory-1) + "bcdd"; all != want {
		t.Errorf("%d bytes were read, and are others than were kept", len(all))
	}
	h := Host{client: &http.Client{}, albums: map[string]*album{}}
	name := a.file.Name()
	h.keep("p", []Output{{Type: Websocket}}, &a)
	h.Close()
	if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) || len(h.albums) != 0 {
		t.Errorf("the file is there still: %v", err)
	}
	var full album
	show = func(int, string) {
		full.add("1", "SaveImageWebsocket", preview{image: make([]byte, maxInMemory+1)})
	}
	t.Setenv("TMPDIR", t.TempDir()+"/none")
	if show(0, ""); full.failed == nil {
		t.Error("a picture that could not be kept is no failure")
	}
}

func TestAClassThatSendsPicturesIsKnownByItsEnd(t *testing.T) {
	t.Parallel()
	for class, want := range map[string]bool{"websocket": true, "ETN_SendImageWebSocket": true, "SaveImageWebsocket": true, "socket": false,
		"WebsocketReader": false, "": false} {
		if sends(class) != want {
			t.Errorf("%q sends pictures: %t", class, !want)
		}
	}
}

// Only the targets of a prompt are run, and what they need.
func TestPicturesAreMissedOnlyOfNodesThatWereToSendThem(t *testing.T) {
	t.Parallel()
	const class = "SaveImageWebsocket"
	for name, c := range map[string]struct {
		outputs map[string]bool
		targets []string
		cached  []string
		unrun   bool
		most    int
		came    int
		missed  bool
	}{
		"None": {missed: true}, "NoneOfAnOutputNode": {outputs: map[string]bool{class: true}, missed: true},
		"NoOutputNode": {outputs: map[string]bool{class: false}},
		"NoTarget":     {targets: []string{"2"}}, "Target": {targets: []string{"1"}, missed: true}, "Cached": {cached: []string{"1"}}, "Blocked": {unrun: true},
		"Some": {most: 2, came: 1, missed: true}, "All": {most: 2, came: 2}, "OfAnyNumber": {came: 1},
	} {
		tr := newTracker("a", shape{classes: map[string]string{"1": class, "2": "SaveImage"}})
		tr.unrun["1"] = c.unrun
		a := &album{outputs: c.outputs, most: map[string]int{"1": c.most}}
		for range c.came {
			a.frames = append(a.frames, frame{node: "1", class: class})
		}
		r := run{album: a, track: tr, prompt: Prompt{Targets: c.targets}}
		if f := r.complete(c.cached); (f != nil) != c.missed || f != nil && (f.Kind != failure.Lost || f.Node != "1") {
			t.Errorf("%s: %v", name, f)
		}
	}
	dropped := Output{Node: "7", Filename: "7_00001_.png", Subfolder: ownFolder + "/p", Type: Websocket}
	_, _, _, err := answering(t, http.StatusOK, "").Open(t.Context(), dropped) //nolint:dogsled // no body
	if f, is := errors.AsType[*failure.Failure](err); !is || f.Kind != failure.Lost || f.Exception != "result_missing" || f.Node != "7" {
		t.Errorf("of a picture that was dropped: %v", err)
	}
}

// The frames of a node that leaves something else are previews, however that came about.
func TestANodeThatLeavesAFileOrATextHasNoPictures(t *testing.T) {
	t.Parallel()
	h := answering(t, http.StatusOK, "")
	a := &album{frames: []frame{{node: "2", class: "SendPNG"}, {node: "3", class: "SendPNG"}, {node: "4", class: "SendPNG"}}}
	r := run{host: h, album: a, track: newTracker("p", shape{}), prompt: Prompt{ID: "p"}, ending: &ending{}}
	result := &Result{Outputs: []Output{{Node: "2", Filename: "a.png", Subfolder: ownFolder + "/p", Type: "output"}}, Texts: map[string][]string{"3": {"a"}}}
	if f := r.finish(t.Context(), result); f != nil {
		t.Fatal(f)
	}
	var nodes []string
	for _, o := range result.Outputs {
		nodes = append(nodes, o.Node+" "+o.Type)
	}
	if diff := cmp.Diff([]string{"2 output", "4 websocket"}, nodes); diff != "" {
		t.Error(diff)
	}
}

func TestRememberedVersionsAreBounded(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Etag", `"1"`) }))
	t.Cleanup(server.Close)
	h, err := New(server.URL, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	for n := range maxProofs - 1 {
		h.proofs[madeFile{node: signature{byte(n), byte(n >> 8)}}] = "1"
	}
	for n, want := range []int{maxProofs, 1} {
		m := madeFile{file: fileRef{name: "a.png"}, node: signature{byte(n), 255}}
		if err := h.proves(t.Context(), m, &ending{}); err != nil || len(h.proofs) != want || !h.proven(m, `"1"`) {
			t.Errorf("%d are remembered, want %d: %v", len(h.proofs), want, err)
		}
	}
}

func TestAFolderThatIsNotThereIsNone(t *testing.T) {
	t.Parallel()
	if found(t.TempDir()+"/none", fileRef{"output", ownFolder, "here.txt"}, "ours") {
		t.Error("it is ComfyUI's")
	}
}

func TestOnlyAPromptThatRunsIgnoresAStop(t *testing.T) {
	t.Parallel()
	long := time.Now().Add(-time.Hour)
	for name, c := range map[string]struct {
		line backlog
		want string
		kept bool
	}{
		"Runs": {backlog{running: []place{{id: "a"}}}, "a", true}, "Waits": {backlog{pending: []place{{id: "a"}}}, "", true},
		"Gone": {backlog{running: []place{{id: "b"}}}, "", false},
	} {
		h := Host{stopping: map[string]time.Time{"a": long}, options: Options{StuckTime: time.Minute}}
		if got := h.ignoresStop(c.line); got != c.want || (len(h.stopping) > 0) != c.kept {
			t.Errorf("%s: %q ignores it, and %d are remembered", name, got, len(h.stopping))
		}
	}
	h := Host{stopping: map[string]time.Time{"a": time.Now()}, options: Options{StuckTime: time.Hour}}
	if got := h.ignoresStop(backlog{running: []place{{id: "a"}}}); got != "" {
		t.Error("a prompt that was asked a moment ago ignores it")
	}
}

// Prompts of others count as load, and ours do not.
func TestOnlyPromptsOnTheHostAreOutstanding(t *testing.T) {
	t.Parallel()
	h := Host{tracks: map[string]*tracker{}}
	posted, unposted := newTracker("a", shape{}), newTracker("b", shape{})
	posted.onHost.Store(true)
	if known := h.register(posted) || h.register(unposted); known {
		t.Error("a new prompt is known")
	}
	h.alias("c", posted)
	if got := h.outstanding(); got != 1 {
		t.Errorf("%d are outstanding", got)
	}
	if !h.register(newTracker("a", shape{})) {
		t.Error("a prompt that runs is not known")
	}
	h.unregister("a", "c")
	if got := h.outstanding(); got != 0 || len(h.tracks) != 1 {
		t.Errorf("%d are outstanding of %d", got, len(h.tracks))
	}
}

func TestNothingIsAddedToAnAlbumThatWasTakenAway(t *testing.T) {
	t.Parallel()
	tr := newTracker("a", shape{classes: map[string]string{"1": "SaveImageWebsocket"}})
	tr.album = &album{most: map[string]int{}}
	p := preview{prompt: "a", node: "1", contentType: "image/png", image: []byte("x")}
	tr.show(p, time.Unix(1, 0))
	taken := tr.seal()
	tr.show(p, time.Unix(2, 0))
	tr.see(event{kind: "progress", node: "1", max: 7}, time.Unix(3, 0))
	if len(taken.frames) != 1 || taken.most["1"] != 0 || tr.seal() != nil {
		t.Errorf("the album has %d pictures and expects %v", len(taken.frames), taken.most)
	}
	if !tr.lastSign.Equal(time.Unix(3, 0)) || !tr.seen() {
		t.Errorf("the last sign of the prompt is of %s", tr.lastSign)
	}
}
