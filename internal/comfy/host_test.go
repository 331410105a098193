package comfy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

func TestBadAddressesAreRefusedWithoutTheirPassword(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"", "127.0.0.1:8188", "ftp://u:secret@a", "http://", "http://u:secret@a:port", "http://u:secret@a/?b=c", "http://u:secret@a/#b", "http://u:secret@a/%zz",
		"htp://admin:secret@h:1", "admin:secret@h:1", "http:admin:secret@h:1", "http://admin:se?secret@h:1", "http://admin:%secret@h:1", "http://[admin:secret@h:1", "admin:secret@"} {
		host, err := comfy.New(address, comfy.Options{})
		if err == nil {
			t.Errorf("%q is taken as %s", address, host)
			continue
		}
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("the error shows the password: %v", err)
		}
		if strings.Contains(address, "@h:1") && !strings.Contains(err.Error(), "@h:1") {
			t.Errorf("the error does not say which host it is: %v", err)
		}
	}
}

func TestAHostBehindAPrefixAndAPasswordIsReached(t *testing.T) {
	t.Parallel()
	sim, err := comfysim.Start(comfysim.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	target, err := url.Parse(sim.URL())
	if err != nil {
		t.Fatal(err)
	}
	proxy := http.StripPrefix("/gpu/one", httputil.NewSingleHostReverseProxy(target))
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "me" || password != "secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	host := open(t, strings.Replace(front.URL, "http://", "http://me:secret@", 1)+"/gpu/one/")
	if strings.Contains(host.String(), "secret") {
		t.Errorf("its name is %s", host)
	}
	ctx, stop := context.WithCancel(t.Context())
	var listening sync.WaitGroup
	listening.Go(func() { _ = host.Listen(ctx) })
	defer listening.Wait()
	defer stop()
	rig{t: t, sim: sim, host: host}.await(func(s comfy.State) bool { return s.Connected })
	told := false
	if _, err := host.Run(within(t), sleep(0.3, 6), comfy.Watch{Progress: func(comfy.Progress) { told = true }}); err != nil || !told {
		t.Errorf("told progress: %v, %v", told, err)
	}
	_, err = open(t, front.URL+"/gpu/one").Run(within(t), picture(1), comfy.Watch{})
	if failure.KindOf(err) != failure.Refused || failure.As(err).Exception != comfy.Foreign || !strings.Contains(err.Error(), "password") {
		t.Errorf("without a password it ends as %v", err)
	}
}

func TestTheReasonOfSilenceIsShort(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(nil)
	gone.Close()
	late := routes{"GET /prompt": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }}
	for want, c := range map[string]struct {
		host *comfy.Host
		time time.Duration
	}{
		"connect: connection refused":          {open(t, gone.URL), testTimeout},
		"timeout":                              {serve(t, late), time.Second},
		"/prompt answers HTTP 502 Bad Gateway": {serve(t, routes{"GET /prompt": says(http.StatusBadGateway, "<html>")}), testTimeout},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), c.time)
		_, err := c.host.Probe(ctx)
		cancel()
		if err == nil || comfy.Reason(err) != want {
			t.Errorf("%q of %v, want %q", comfy.Reason(err), err, want)
		}
	}
}

func TestRequestsAreObservedByTheFirstPartOfTheirPath(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	var got []string
	h, err := comfy.New(server.URL+"/behind/a/proxy", comfy.Options{Observe: func(route string, status int, took time.Duration) {
		if took <= 0 {
			t.Errorf("%s took %s", route, took)
		}
		got = append(got, fmt.Sprint(route, " ", status))
	}})
	if err != nil {
		t.Fatal(err)
	}
	_, first := h.Probe(t.Context())
	server.Close()
	_, second := h.Probe(t.Context())
	if first == nil || second == nil || !slices.Equal(got, []string{"/prompt 418", "/prompt 0"}) {
		t.Errorf("%q, errors %v and %v", got, first, second)
	}
}

func TestSurveyTellsVersionMemoryAndForeignWork(t *testing.T) {
	t.Parallel()
	r := simulate(t, comfysim.Config{Name: "gpu1", VRAM: 12 << 30})
	r.sim.AddFault(comfysim.Fault{Kind: comfysim.FaultBacklog, Count: 3, For: time.Minute})
	p := picture(1)
	ended := r.begin(p)
	got, err := r.host.Survey(within(t))
	if err != nil {
		t.Fatal(err)
	}
	if got.QueueRemaining != 4 || got.Foreign != 3 || got.Version != "0.33.0" || got.VRAMTotal != 12<<30 || got.RAMTotal == 0 || got.Device == "" {
		t.Errorf("%+v", got)
	}
	r.await(func(s comfy.State) bool { return s.QueueRemaining == 4 })
	if err := r.host.Cancel(within(t), p.ID); err != nil {
		t.Error(err)
	}
	<-ended
}

const objectInfo = `{
	"KSampler": {"input": {"required": {"seed": ["INT", {"max": 18446744073709551615}], "sampler_name": [["euler", "ddim"], {}], "cfg": ["FLOAT", {"default": NaN, "min": -Infinity}]}}},
	"CheckpointLoaderSimple": {"input": {"required": {"ckpt_name": [["sdxl\\base.safetensors", "a.ckpt"], {"tooltip": "NaN \" Infinity"}]}}},
	"UpscaleModelLoader": {"input": {"required": {"model_name": ["COMBO", {"multiselect": false, "options": ["4x.pth"]}]}}},
	"LoraLoader": {"input": {"required": {"lora_name": [[]]}, "optional": {"vae": ["COMBO", {"options": ["x.vae", 5, null]}], "remote": ["COMBO", {"remote": {}}]}}},
	"Folders": {"input": {"required": {"path": [["sub\\dir", "both\\here", "both/here"]], "steps": [[4, 8.5, true]]}}},
	"LoadImage": {"input": {"required": {"image": [["example.png"], {"image_upload": true}], "kept": [["a"], {"image_upload": false}]}}},
	"Odd": {"input": null}, "Odder": [], "Oddest": {"input": {"required": [1], "optional": {"a": [], "b": 5, "c": [5, {}]}}}
}`

func TestCapabilityReadsBothShapesOfChoices(t *testing.T) {
	t.Parallel()
	host := serve(t, routes{"GET /object_info": says(http.StatusOK, objectInfo)})
	got, err := host.Capability(within(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	var want workflow.CapabilityBuilder
	for _, class := range []string{"KSampler", "CheckpointLoaderSimple", "UpscaleModelLoader", "LoraLoader", "Folders", "LoadImage", "Odd", "Odder", "Oddest"} {
		want.AddClass(class)
	}
	want.AddChoices("KSampler", "sampler_name", []string{"euler", "ddim"})
	want.AddChoices("CheckpointLoaderSimple", "ckpt_name", []string{"sdxl/base.safetensors", "a.ckpt"})
	want.AddChoices("UpscaleModelLoader", "model_name", []string{"4x.pth"})
	want.AddChoices("LoraLoader", "lora_name", nil)
	want.AddChoices("LoraLoader", "vae", []string{"x.vae"}, 5)
	want.AddChoices("Folders", "path", []string{"sub/dir", "both/here"})
	want.AddChoices("Folders", "steps", nil, 4, 8.5, 1)
	want.AddFiles("LoadImage", "image", nil)
	want.AddChoices("LoadImage", "kept", []string{"a"})
	if expected := workflow.NewCapability(&want); got.Digest() != expected.Digest() {
		t.Errorf("%d values, want %d", got.Len(), expected.Len())
	}
	if !host.Has("Oddest") || host.Has("Unknown") {
		t.Error("a class is taken for another")
	}
	spelt := []string{
		host.Spelling("CheckpointLoaderSimple", "ckpt_name", "sdxl/base.safetensors"),
		host.Spelling("CheckpointLoaderSimple", "ckpt_name", "a.ckpt"),
		host.Spelling("CheckpointLoaderSimple", "other", "sdxl/base.safetensors"),
		host.Spelling("Folders", "path", "sub/dir"),
		host.Spelling("Folders", "path", "both/here"),
	}
	if diff := cmp.Diff([]string{`sdxl\base.safetensors`, "a.ckpt", "sdxl/base.safetensors", `sub\dir`, "both/here"}, spelt); diff != "" {
		t.Error(diff)
	}
}

func TestABrokenCapabilityIsAnErrorAndKeepsTheSpelling(t *testing.T) {
	t.Parallel()
	body := objectInfo
	host := serve(t, routes{"GET /object_info": func(w http.ResponseWriter, r *http.Request) { says(http.StatusOK, body)(w, r) }})
	if _, err := host.Capability(within(t), nil); err != nil {
		t.Fatal(err)
	}
	for _, body = range []string{"", "[]", objectInfo[:len(objectInfo)/2], "<html>"} {
		if got, err := host.Capability(within(t), nil); err == nil {
			t.Errorf("%q is a capability of %d values", body, got.Len())
		}
	}
	if got := host.Spelling("CheckpointLoaderSimple", "ckpt_name", "sdxl/base.safetensors"); got != `sdxl\base.safetensors` {
		t.Errorf("it is spelt %s", got)
	}
}

func TestTheWedgedWorkerIsFoundInTheLog(t *testing.T) {
	t.Parallel()
	const died = "ComfyUI's worker thread has died and nothing runs until ComfyUI is restarted"
	sign := []string{"Exception in thread ", "Thread-1 (prompt_worker)", ":\n"}
	traceback := []string{"Traceback (most recent call last):\n", "  File \"/srv/main.py\", line 3, in prompt_worker\n    raise\n",
		"comfy_execution.graph.NodeNotFoundError: Node 77 not found", "\n"}
	cases := map[string]struct {
		writes []string
		want   string
	}{
		"Dead":           {slices.Concat([]string{"got prompt\n"}, sign, traceback), died + ": comfy_execution.graph.NodeNotFoundError: Node 77 not found"},
		"AnotherThread":  {slices.Concat([]string{"Exception in thread ", "Thread-9 (download)", ":\n"}, traceback), ""},
		"OnlyMentioned":  {[]string{"the (prompt_worker) is fine\n"}, ""},
		"Empty":          {nil, ""},
		"DeadAfterOther": {slices.Concat([]string{"Exception in thread ", "Thread-9 (download)", ":\n"}, sign), died},
		"Printed":        {[]string{"Exception in thread Thread-1 (prompt_worker):\nTraceback\n", "\n"}, ""},
		"PrintedInParts": {[]string{"Exception in thread ", "\n", "Thread-1 (prompt_worker)", "\n", ":\n", "\n"}, ""},
		"OnlyTheEndIsLeft": {[]string{"^", "^", "\n", "", "  File \"/opt/comfy/execution.py\", line 306, in process_inputs\n", "", "    ", "result = f(**inputs)", "\n", "",
			" ", "^", "\n", "  File \"/opt/comfy/custom_nodes/x.py\", line 25, in go\n", "    ", "raise t(message)", "\n", "KeyboardInterrupt", ": ", "x", "\n"},
			died + ": KeyboardInterrupt: x"},
		"LoggedTraceback": {[]string{"Traceback (most recent call last):\n  File \"/opt/comfy/execution.py\", line 306, in process_inputs\n    result = f(**inputs)\nValueError: x\n"}, ""},
		"PrintedFrame":    {[]string{"  File \"execution.py\", line 1, in x\n", "\n", "    ", "\n", "code", "\n"}, ""},
		"Raised":          {[]string{"!!! Exception during processing !!! x\nException in thread Thread-1 (prompt_worker):\n"}, ""},
	}
	for name, c := range cases {
		for _, path := range []string{"/internal/logs/raw", "/internal/logs"} { // the second is that of old servers
			t.Run(name+path, func(t *testing.T) {
				t.Parallel()
				host := serve(t, routes{"GET " + path: says(http.StatusOK, logged(t, path, c.writes)), "GET /prompt": says(http.StatusOK, `{"exec_info": {"queue_remaining": 0}}`)})
				reason, cause, err := host.Sick(within(t))
				if reason != c.want || (cause == failure.WorkerGone) != (c.want != "") || err != nil {
					t.Errorf("%q, %v, %v", reason, cause, err)
				}
			})
		}
	}
}

// logged is a log as ComfyUI hands it out: each write with its time.
func logged(t *testing.T, path string, writes []string) string {
	t.Helper()
	const at = "2026-11-28T09:20:55.000001"
	if path == "/internal/logs" {
		var b strings.Builder
		for _, w := range writes {
			b.WriteString(at + " - " + w)
		}
		return quote(t, b.String())
	}
	entries := []map[string]string{}
	for _, w := range writes {
		entries = append(entries, map[string]string{"t": at, "m": w})
	}
	body, err := json.Marshal(map[string]any{"entries": entries})
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// A POST that gets no answer on the wire, twice lost before ComfyUI and once after it.
func TestALostPostIsLookedUpBeforeItIsSentAgain(t *testing.T) {
	t.Parallel()
	hangUp := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_ = conn.Close()
	}
	for name, c := range map[string]struct {
		lose func(http.ResponseWriter, *http.Request)
		want failure.Kind
		post int
	}{
		"ConnectionBroke": {hangUp, failure.HostLost, 2},
		"BadGateway":      {says(http.StatusBadGateway, "<html>"), failure.HostLost, 2},
		"GatewayTimeout":  {says(http.StatusGatewayTimeout, "<html>"), failure.HostLost, 1},
		"NoJSON":          {says(http.StatusOK, `{"prompt_id": "xx`), failure.HostLost, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var asked []string
			host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				asked = append(asked, r.Method)
				mu.Unlock()
				if r.Method == http.MethodPost {
					c.lose(w, r)
					return
				}
				says(http.StatusNotFound, `{"error": "Job not found"}`)(w, r)
			}))
			_, err := host.Run(within(t), picture(1), comfy.Watch{})
			if got := failure.KindOf(err); got != c.want {
				t.Errorf("ends as %v", err)
			}
			posts := strings.Split(strings.Join(asked, " "), http.MethodPost)
			if len(posts)-1 != c.post || c.post == 2 && strings.Count(posts[1], http.MethodGet) < 4 {
				t.Errorf("the host was asked %q", asked)
			}
		})
	}
}

func TestCancelAwaitsAPromptWhosePostIsStillUnderWay(t *testing.T) {
	t.Parallel()
	r := simulateDeaf(t, comfysim.Config{}, quick())
	target, err := url.Parse(r.sim.URL())
	if err != nil {
		t.Fatal(err)
	}
	// A proxy that holds the POST back, and delivers it after its client has left.
	arrived, deliver, delivered, looked := make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{}, 1)
	proxy := httputil.NewSingleHostReverseProxy(target)
	cancelling := atomic.Bool{}
	late := serve(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		byCancel := cancelling.Load() // not by Run
		if q.Method == http.MethodPost && q.URL.Path == "/prompt" {
			body, err := io.ReadAll(q.Body)
			if err != nil {
				t.Error(err)
			}
			close(arrived)
			<-deliver
			q = q.WithContext(context.WithoutCancel(q.Context()))
			q.Body = io.NopCloser(strings.NewReader(string(body)))
			defer close(delivered)
		}
		proxy.ServeHTTP(w, q)
		if q.Method == http.MethodGet && byCancel {
			select {
			case looked <- struct{}{}:
			default:
			}
		}
	}))
	p := sleep(30, 300)
	ctx, leave := context.WithCancel(t.Context())
	go func() { <-arrived; leave() }()
	if _, err := late.Run(ctx, p, comfy.Watch{}); err == nil {
		t.Fatal("it ran")
	}
	cancelling.Store(true)
	cancelled := make(chan error, 1)
	go func() { cancelled <- late.Cancel(within(t), p.ID) }()
	<-looked // it was not there yet
	close(deliver)
	if err := <-cancelled; err != nil {
		t.Error(err)
	}
	<-delivered
	if running, pending := r.sim.Pending(); running != "" || len(pending) > 0 {
		t.Errorf("%q runs, %q wait", running, pending)
	}
}

func TestADeafSocketIsReplaced(t *testing.T) {
	t.Parallel()
	o := quick()
	o.PingInterval = time.Second
	r := simulateWith(t, comfysim.Config{Faults: []comfysim.Fault{{Kind: comfysim.FaultDeaf, Times: 1}}}, o)
	if _, err := r.run(sleep(0.1, 1), comfy.Watch{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.run(sleep(2.5, 5), comfy.Watch{}); err != nil { // longer than a live socket stays silent
		t.Fatal(err)
	}
	r.await(func(s comfy.State) bool { return s.Connected })
	told := false
	if _, err := r.run(sleep(0.3, 6), comfy.Watch{Progress: func(comfy.Progress) { told = true }}); err != nil || !told {
		t.Errorf("told progress: %v, %v", told, err)
	}
}

func TestAnOutputThatIsNoJSONEndsThePrompt(t *testing.T) {
	t.Parallel()
	unserialisable := func() comfy.Prompt {
		return comfy.Prompt{ID: uuid.NewString(), Workflow: []byte(
			`{"1":{"class_type":"EmptyImage","inputs":{"width":64,"height":64,"batch_size":1,"color":7}},` +
				`"2":{"class_type":"SimUnserialisable","inputs":{"images":["1",0]}}}`)}
	}
	polling := simulateDeaf(t, comfysim.Config{}, quick())
	if _, err := polling.run(unserialisable(), comfy.Watch{}); failure.KindOf(err) != failure.ExecutionError {
		t.Errorf("polling: %v", err) // the process lives, GET /history of it is a 500
	}
	listening := simulate(t, comfysim.Config{})
	if _, err := listening.run(unserialisable(), comfy.Watch{}); failure.KindOf(err) != failure.HostLost {
		t.Errorf("listening: %v", err) // the process exits
	}
}
