package agent_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// config is that of a stream.
func (h *house) config(stream string) map[string]any {
	h.t.Helper()
	var info struct {
		Config map[string]any `json:"config"`
	}
	h.api("STREAM.INFO."+stream, struct{}{}, &info)
	return info.Config
}

// direct says whether a stream answers to those who read single messages.
func (h *house) direct(stream string, answers bool) {
	h.t.Helper()
	config := h.config(stream)
	config["allow_direct"] = answers
	h.api("STREAM.UPDATE."+stream, config, nil)
}

// That a store gives no answer says nothing of a job, which another attempt may run.
func TestAJobIsTriedLaterWhenWhatItNeedsCannotBeRead(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	filed, keyed := h.byReference("filed", "acme/filed.json", ""), h.queued(job.Spec{ID: "keyed", APIKeys: true})
	h.direct("OBJ_COMFY_INPUTS", false)
	h.direct("KV_COMFY_APIKEYS", false)
	h.accepted(filed)
	if e := h.event(filed, job.Failed); e.Kind != failure.Transient || !strings.HasPrefix(e.Message, `cannot fetch file "acme/filed.json" from COMFY_INPUTS: `) {
		t.Errorf("failed is %s: %s", e.Kind, e.Message)
	}
	h.wantChain(filed, "queued failed")
	h.accepted(keyed)
	if e := h.event(keyed, job.Failed); e.Kind != failure.Transient || !strings.HasPrefix(e.Message, "cannot read the API keys of the job: ") {
		t.Errorf("failed is %s: %s", e.Kind, e.Message)
	}
	if n := len(h.fake.posted); n != 0 {
		t.Errorf("%d prompts were posted", n)
	}
}

// The object store is the fleet's own, so that no attempt is lost to it.
func TestAnInputIsFetchedAgainUntilTheStoreAnswers(t *testing.T) {
	t.Parallel()
	log := &lines{more: make(chan struct{}, 1)}
	h := start(t, agent.Config{Logger: slog.New(slog.NewTextHandler(log, nil))})
	h.fake.returns(now(), &comfy.Result{}, nil)
	o := h.queued(job.Spec{ID: "one", Workflow: json.RawMessage(loads), Inputs: []job.Input{{Node: "10", Input: "image", Object: "acme/cat.png"}}})
	h.storedInput("acme/cat.png", "miau")
	h.direct("OBJ_COMFY_INPUTS", false)
	h.accepted(o)
	for !log.has("cannot fetch an input; trying again") {
		await(h, log.more, "a line of the log")
	}
	h.wantChain(o, "queued started")
	h.direct("OBJ_COMFY_INPUTS", true)
	if got := await(h, h.fake.uploaded, "the cat"); !strings.HasSuffix(got, "/0-cat.png: miau") {
		t.Errorf("uploaded %q", got)
	}
	h.event(o, job.Completed)
	h.wantChain(o, "queued started completed")
}

func TestAnAgentThatIsStoppedWhileTheStoreIsAwayGivesTheJobBack(t *testing.T) {
	t.Parallel()
	log := &lines{more: make(chan struct{}, 1)}
	h := start(t, agent.Config{Drain: -1, Logger: slog.New(slog.NewTextHandler(log, nil))})
	o := h.queued(job.Spec{ID: "one", Workflow: json.RawMessage(loads), Inputs: []job.Input{{Node: "10", Input: "image", Object: "acme/cat.png"}}})
	h.direct("OBJ_COMFY_INPUTS", false)
	h.accepted(o)
	for !log.has("cannot fetch an input; trying again") {
		await(h, log.more, "a line of the log")
	}
	h.stop()
	h.ended()
	if e := h.event(o, job.Failed); e.Kind != failure.Drained {
		t.Errorf("failed is %s: %s", e.Kind, e.Message)
	}
}

// The prompt has the keys already, which are only to be hidden.
func TestAResumedJobNeedsItsKeysNoLonger(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	h.fake.returns(now(), &comfy.Result{}, nil)
	gone, unread := h.queued(job.Spec{ID: "gone", APIKeys: true}), h.queued(job.Spec{ID: "unread", APIKeys: true})
	for _, o := range []queue.Offer{gone, unread} {
		if o.Job == "unread" {
			h.direct("KV_COMFY_APIKEYS", false)
		}
		h.append(o, job.Event{EventKind: job.Started, Host: "gpu", Attempt: 1, Hash: o.Hash, PromptID: agent.FormerPromptID(&o, h.q.Created())})
		o.Resume, o.LastInChain = true, h.last(o).ChainSequence
		h.accepted(o)
		if p := await(h, h.fake.posted, "the resumed prompt"); !p.Resume {
			t.Errorf("the prompt was posted again: %+v", p)
		}
		h.event(o, job.Completed)
		h.wantChain(o, "queued started completed")
	}
}

// What breaks off when an agent is stopped is no failure of its own.
func TestAnAgentThatIsStoppedWhileItFetchesGivesTheJobBack(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 1)
	files := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
	}))
	t.Cleanup(files.Close)
	h := start(t, agent.Config{Drain: -1, InputURLs: "127.0.0.0/8"})
	o := h.queued(job.Spec{ID: "one", Workflow: json.RawMessage(loads), Inputs: []job.Input{{Node: "10", Input: "image", URL: files.URL + "/cat.png"}}})
	h.accepted(o)
	await(h, asked, "the request")
	h.stop()
	h.ended()
	if e := h.event(o, job.Failed); e.Kind != failure.Drained || e.Counted == nil || *e.Counted {
		t.Errorf("failed is %s: %s", e.Kind, e.Message)
	}
}

// The other side of a connection that is kept open sends for ever.
func TestTheConnectionOfAFileThatIsNotTakenIsClosed(t *testing.T) {
	t.Parallel()
	left := make(chan string, 10)
	files := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/none" {
			w.WriteHeader(http.StatusNotFound)
		}
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 32<<10)); err != nil {
				break
			}
		}
		left <- r.URL.Path
	}))
	t.Cleanup(files.Close)
	h := start(t, agent.Config{MaxInput: 1000, InputURLs: "127.0.0.0/8"})
	for id, path := range map[job.ID]string{"none": "/none", "long": "/long"} {
		o := h.queued(job.Spec{ID: id, Workflow: json.RawMessage(loads), Inputs: []job.Input{{Node: "10", Input: "image", URL: files.URL + path}}})
		h.accepted(o)
		if e := h.event(o, job.Failed); e.Kind != failure.InvalidWorkflow {
			t.Errorf("failed is %s: %s", e.Kind, e.Message)
		}
		if got := await(h, left, "the end of the connection"); got != path {
			t.Errorf("%s was left, not %s", got, path)
		}
	}
}

// The log of the agent is read by people who must not know the secrets of tenants.
func TestTheLogSaysWhereAnInputWasNotFetchedWithoutItsSecrets(t *testing.T) {
	t.Parallel()
	files := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(files.Close)
	log := &lines{more: make(chan struct{}, 1)}
	h := start(t, agent.Config{InputURLs: "127.0.0.0/8", Logger: slog.New(slog.NewTextHandler(log, nil))})
	host := strings.TrimPrefix(files.URL, "http://")
	for id, c := range map[job.ID]struct{ url, where, why string }{
		"none": {"http://me:s3cret@" + host + "/a%20b/cat.png?token=s3cret", "from=" + files.URL + "/a%20b/cat.png", "HTTP 404 Not Found"},
		"away": {"http://me:s3cret@127.0.0.1:1/dog.png?token=s3cret", "from=http://127.0.0.1:1/dog.png", "connection refused"},
	} {
		o := h.queued(job.Spec{ID: id, Workflow: json.RawMessage(loads), Inputs: []job.Input{{Node: "10", Input: "image", URL: c.url}}})
		h.accepted(o)
		h.event(o, job.Failed)
		if !log.has(c.where) || !log.has(c.why) || log.has("s3cret") {
			t.Errorf("%s: the log is %s", id, log.all())
		}
	}
}

// Whoever stores it again helps a job that waits for it.
func TestAStoredInputThatIsDamagedIsFetchedAgain(t *testing.T) {
	t.Parallel()
	log := &lines{more: make(chan struct{}, 1)}
	h := start(t, agent.Config{Logger: slog.New(slog.NewTextHandler(log, nil))})
	h.fake.returns(now(), &comfy.Result{}, nil)
	h.storedInput("acme/cat.png", "miau miau")
	var part struct {
		Message struct {
			Subject string `json:"subject"`
		} `json:"message"`
	}
	h.api("STREAM.MSG.GET.OBJ_COMFY_INPUTS", map[string]any{"seq": 1}, &part)
	if _, err := h.nc.RequestWithContext(h.ctx, part.Message.Subject, []byte("wuff")); err != nil { // another part, of which its digest knows nothing
		t.Fatal(err)
	}
	o := h.queued(job.Spec{ID: "one", Workflow: json.RawMessage(loads), Inputs: []job.Input{{Node: "10", Input: "image", Object: "acme/cat.png"}}})
	h.accepted(o)
	for !log.has("the file broke off while it was fetched") {
		await(h, log.more, "a line of the log")
	}
	h.storedInput("acme/cat.png", "miau")
	if got := await(h, h.fake.uploaded, "the cat"); !strings.HasSuffix(got, "/0-cat.png: miau") {
		t.Errorf("uploaded %.100q", got)
	}
	h.event(o, job.Completed)
}
