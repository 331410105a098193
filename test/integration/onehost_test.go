package integration_test

import (
	"bytes"
	"encoding/json"
	"image"
	"image/png"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/jetstream"
)

// class is a node class that passes a picture through and has one list of choices.
func class(input string, choices ...string) json.RawMessage {
	list, err := json.Marshal(append([]string{}, choices...))
	if err != nil {
		panic(err)
	}
	return json.RawMessage(`{"input":{"required":{"image":["IMAGE"],"` + input + `":[` + string(list) + `]}},"output":["IMAGE"],"output_node":false}`)
}

// through has one node between a picture and its file.
func through(class string, inputs ...any) json.RawMessage {
	return graph(map[string]any{
		"1": node("EmptyImage", "width", 16, "height", 16, "batch_size", 1, "color", 0x112233),
		"5": node(class, append([]any{"image", link("1")}, inputs...)...),
		"9": node("SaveImage", "images", link("5"), "filename_prefix", "out"),
	})
}

func TestAnOptionThatOnlyOneHostListsIsLookedForThere(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		input  string
		value  string
		onA    []string
		onB    []string
		lacked string
	}{
		"AScheduler":      {"scheduler", "beta57", []string{"normal"}, []string{"normal", "beta57"}, "beta57"},
		"AListThatIsBare": {"model_path", "kolors", nil, []string{"kolors"}, "kolors"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, setup{dispatchers: 2, hosts: []comfysim.Config{
				{Name: "a", Classes: map[string]json.RawMessage{"Picky": class(c.input, c.onA...)}},
				{Name: "b", Classes: map[string]json.RawMessage{"Picky": class(c.input, c.onB...)}},
			}})
			f.everyone("both hosts have said what they list", func() bool {
				_, hosts := f.why(jetstream.WhyRequest{Workflow: through("Picky", c.input, c.value)})
				return hosts["a"].Code == route.CodeAvoid && strings.Contains(hosts["a"].Text, c.lacked)
			})
			chain := f.chain(f.submit("acme", job.Spec{Workflow: through("Picky", c.input, c.value), PreferHosts: []string{"a"}}))
			if got, want := story(chain), "queued started@b completed@b"; got != want {
				t.Errorf("chain is %q, want %q", got, want)
			}
		})
	}
}

func TestWhatEveryHostRefusesIsDeadAtOnceWithTheWordsOfEach(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 2, hosts: []comfysim.Config{
		{Name: "a", Classes: map[string]json.RawMessage{"Picky": class("scheduler", "normal")}},
		{Name: "b", Classes: map[string]json.RawMessage{"Picky": class("scheduler", "simple")}},
	}})
	end := f.end(f.submit("acme", job.Spec{Workflow: through("Picky", "scheduler", "beta57"), MaxAttempts: 1}))
	if end.EventKind != job.Dead || end.Reason != string(failure.NotRetryable) || end.Kind != failure.Refused || len(end.Attempts) != 2 {
		t.Errorf("ended %s: %s, %s, %d attempts", end.EventKind, end.Reason, end.Kind, len(end.Attempts))
	}
	for host, list := range map[string]string{"a": "normal", "b": "simple"} {
		if !strings.Contains(end.Message, host+": ") || !strings.Contains(end.Hosts[host], list) {
			t.Errorf("host %s is told as %q in %q", host, end.Hosts[host], end.Message)
		}
	}
	f.wantBlockOf("a", through("Picky", "scheduler", "beta57"), "")
}

// picky is a proxy before a simulated host that answers POST /prompt itself when the body holds a text.
func (f *fleet) picky(target, text string, status int, page string) string {
	f.t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		f.t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.URL.Path == "/prompt" {
			body, err := io.ReadAll(r.Body)
			if err != nil || strings.Contains(string(body), text) {
				w.WriteHeader(status)
				_, _ = io.WriteString(w, page)
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		proxy.ServeHTTP(w, r)
	}))
	f.stops = append(f.stops, func() { s.CloseClientConnections(); s.Close() })
	return s.URL
}

func TestAWorkflowThatIsTooLargeForOneHostIsAskedOfAnother(t *testing.T) {
	t.Parallel()
	f := start(t, setup{hosts: names("b")})
	f.sim(comfysim.Config{Name: "a"})
	f.agent("a", f.picky(f.sims["a"].URL(), "EmptyImage", http.StatusRequestEntityTooLarge, "Maximum request body size exceeded"), agent.Config{})
	f.awaitPresence(2)
	f.dispatcher(dispatcher.Config{})
	chain := f.chain(f.submit("acme", job.Spec{Workflow: picture(7), PreferHosts: []string{"a"}, MaxAttempts: 1}))
	if got, want := story(chain), "queued started@a failed@a retrying started@b completed@b"; got != want || chain[2].Kind != failure.Refused {
		t.Errorf("chain is %q, want %q; failed as %s: %s", got, want, chain[2].Kind, chain[2].Message)
	}
	f.wantBlockOf("a", picture(7), "")
	f.wantOut("a", false)
}

func TestAFileThatOnlyOneHostHasIsLookedForThere(t *testing.T) {
	t.Parallel()
	loads := json.RawMessage(`{"input":{"required":{"image":["IMAGE"],"video":[["$input"]]}},"output":["IMAGE"],"output_node":false}`)
	hosts := names("a", "b")
	for i := range hosts {
		hosts[i].Classes = map[string]json.RawMessage{"VHS_LoadVideo": loads}
	}
	f := start(t, setup{dispatchers: 2, hosts: hosts})
	f.upload("b", "clip.png", 16, 16)
	workflow := through("VHS_LoadVideo", "video", "clip.png")
	end := f.end(f.submit("acme", job.Spec{Workflow: workflow, PreferHosts: []string{"a"}, MaxAttempts: 1}))
	if end.EventKind != job.Completed || end.Host != "b" {
		t.Errorf("ended %s on %s: %s", end.EventKind, end.Host, end.Message)
	}
	f.wantBlockOf("a", workflow, "")
}

// upload puts a picture into a host's input folder.
func (f *fleet) upload(host, name string, width, height int) {
	f.t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("image", name)
	if err == nil {
		err = png.Encode(part, image.NewRGBA(image.Rect(0, 0, width, height)))
	}
	if err != nil {
		f.t.Fatal(err)
	}
	_ = form.Close()
	request, err := http.NewRequestWithContext(f.context(), http.MethodPost, f.sims[host].URL()+"/upload/image", &body)
	if err != nil {
		f.t.Fatal(err)
	}
	request.Header.Set("Content-Type", form.FormDataContentType())
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		f.t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		f.t.Fatalf("upload %s to %s: HTTP %d", name, host, response.StatusCode)
	}
}

// A firewall before every host does not like what one job says.
func TestAJobThatEveryProxyRefusesDiesAloneAndTheHostsStay(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		page   string
	}{
		"Forbidden":  {http.StatusForbidden, "<html><title>403 Forbidden</title></html>"},
		"BadRequest": {http.StatusBadRequest, "<html><h1>Bad Request</h1></html>"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, setup{})
			for _, host := range []string{"a", "b", "c"} {
				f.sim(comfysim.Config{Name: host})
				f.agent(host, f.picky(f.sims[host].URL(), "DROP TABLE", c.status, c.page), agent.Config{})
			}
			f.awaitPresence(3)
			f.dispatcher(dispatcher.Config{})
			bad := graph(map[string]any{
				"1": node("EmptyImage", "width", 16, "height", 16, "batch_size", 1, "color", 1),
				"9": node("SaveImage", "images", link("1"), "filename_prefix", "DROP TABLE"),
			})
			end := f.end(f.submit("acme", job.Spec{Workflow: bad, MaxAttempts: 1}))
			if end.EventKind != job.Dead || end.Reason != string(failure.WorkflowFault) || end.Kind != failure.Refused || len(end.Attempts) != 2 {
				t.Errorf("ended %s: %s, %s, %d attempts", end.EventKind, end.Reason, end.Kind, len(end.Attempts))
			}
			for _, a := range end.Attempts {
				if !strings.Contains(end.Message, a.Host+": ") || end.Hosts[a.Host] == "" {
					t.Errorf("host %s is not named: %s", a.Host, end.Message)
				}
			}
			if got, want := story(f.chain(f.submit("acme", job.Spec{Workflow: picture(3), OnlyHosts: []string{end.Host}}))),
				"queued started@"+end.Host+" completed@"+end.Host; got != want {
				t.Errorf("an innocent job: %q, want %q", got, want)
			}
			hosts, err := f.q.Hosts(f.context())
			if online := count(hosts, func(h queue.HostState) bool { return h.State == queue.Online }); err != nil || online != 3 {
				t.Errorf("%d hosts are online, want 3: %v", online, err)
			}
		})
	}
}

func TestAJobOfUnknownSizeThatRunsOutOfMemoryHoldsItsLike(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 2, hosts: []comfysim.Config{{Name: "a", Faults: []comfysim.Fault{{Kind: comfysim.FaultOOM, Text: "huge.png"}}}}})
	f.upload("a", "huge.png", 16, 16)
	f.upload("a", "tiny.png", 16, 16)
	loads := func(file string) json.RawMessage {
		return graph(map[string]any{
			"1": node("LoadImage", "image", file),
			"9": node("SaveImage", "images", link("1"), "filename_prefix", "out"),
		})
	}
	if end := f.end(f.submit("acme", once("a", loads("huge.png")))); end.Kind != failure.OutOfMemory {
		t.Fatalf("ended %s as %s: %s", end.EventKind, end.Kind, end.Message)
	}
	f.wantBlockOf("a", loads("huge.png"), "acme")
	behind := f.submit("acme", onlyOn("a", loads("tiny.png")))
	if e := f.await(behind, job.Waiting); e.Reason != string(route.AllBlocked) {
		t.Errorf("the next one waits because of %s: %s", e.Reason, e.Message)
	}
	if end := f.end(f.submit("bolt", onlyOn("a", loads("tiny.png")))); end.EventKind != job.Completed {
		t.Errorf("another tenant's ended %s: %s", end.EventKind, end.Message)
	}
	if _, err := f.q.Cancel(f.context(), behind.Tenant, behind.Job, "ops", false); err != nil {
		t.Fatal(err)
	}
}

// A dispatcher whose clock is an hour behind has written when the block ends; its key lives on.
func TestABlockEndsWithItsKeyWhateverTimeItTells(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 2, hosts: names("a")})
	hash := hashOf(t, picture(1))
	value, err := json.Marshal(route.Block{
		Host: "a", Hash: hash, Kind: failure.Timeout, Message: "slow", Tenants: []route.Tenant{route.Everyone}, Failures: 1, Until: f.q.Now().Add(-f.q.PresenceTTL()),
	})
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := f.q.OpenBlock(f.context(), "a", hash, value, testTimeout); err != nil || !opened {
		t.Fatalf("block: %t, %v", opened, err)
	}
	f.everyone("all dispatchers know of the block", func() bool {
		_, hosts := f.why(jetstream.WhyRequest{Tenant: "acme", Workflow: picture(1)})
		return hosts["a"].Code == route.CodeBlocked
	})
	held := f.submit("acme", job.Spec{Workflow: picture(1)})
	if e := f.await(held, job.Waiting); e.Reason != string(route.AllBlocked) {
		t.Errorf("it waits because of %s: %s", e.Reason, e.Message)
	}
	if n := call[queue.CountAnswer](f, "unblock", queue.UnblockRequest{Host: "a"}).Count; n != 1 {
		t.Errorf("unblock lifted %d", n)
	}
	f.wantPicture(f.end(held), rgb(1))
}
