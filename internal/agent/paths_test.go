package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// storedInput puts a file into COMFY_INPUTS.
func (h *house) storedInput(name, content string) {
	h.t.Helper()
	if _, err := h.q.StoreInput(h.ctx, name, "application/json", strings.NewReader(content)); err != nil {
		h.t.Fatal(err)
	}
}

// byReference is the offer of a job whose body is in a file; the dispatcher has read the file, which the offer does not carry.
func (h *house) byReference(id job.ID, file, content string) queue.Offer {
	h.t.Helper()
	o := h.queued(job.Spec{ID: id})
	o.Message.Body = []byte(`{"workflow_file":"` + file + `"}`)
	if content != "" {
		h.storedInput(file, content)
	}
	return o
}

// The events of a job in a file are no larger than others.
func TestMoreSeedsThanAnEventHoldsFailTheAttempt(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	nodes := make([]string, 30_000)
	for i := range nodes {
		nodes[i] = fmt.Sprintf(`"a-node-with-a-long-id-%05d":{"class_type":"A","inputs":{"seed":-1}}`, i)
	}
	o := h.byReference("one", "acme/one.json", `{"workflow":{`+strings.Join(nodes, ",")+`}}`)
	h.accepted(o)
	if e := h.event(o, job.Failed); e.Kind != failure.InvalidWorkflow || !strings.Contains(e.Message, "seeds of 30000 nodes") {
		t.Errorf("failed is %s: %s", e.Kind, e.Message)
	}
	h.wantChain(o, "queued failed")
}

func TestAJobInAFileIsReadWhereItRuns(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	h.fake.returns(now(), &comfy.Result{}, nil)
	o := h.byReference("one", "acme/one.json", `{"workflow":`+saves+`}`)
	h.accepted(o)
	if p := await(h, h.fake.posted, "the POST"); !strings.Contains(string(p.Workflow), "EmptyImage") {
		t.Errorf("posted was %s", p.Workflow)
	}
	h.event(o, job.Completed)
	for name, c := range map[string]struct{ content, says string }{
		"none": {"", "acme/none.json"}, "empty": {"{}", ""}, "broken": {"{", ""},
	} {
		o := h.byReference(job.ID(name), "acme/"+name+".json", c.content)
		h.accepted(o)
		if e := h.event(o, job.Failed); e.Kind != failure.InvalidWorkflow || !strings.Contains(e.Message, c.says) {
			t.Errorf("%s: failed is %s: %s", name, e.Kind, e.Message)
		}
		h.wantChain(o, "queued failed") // nothing was started
	}
}

func TestTheKeysOfAJobAreAddedWhereItRuns(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	h.fake.returns(now(), &comfy.Result{Texts: map[string][]string{"2": {"the key is key-0123456789"}}}, nil)
	if _, err := h.q.PutAPIKeys(h.ctx, "acme", &jetstream.APIKeys{Job: "one", APIKey: "key-0123456789"}); err != nil {
		t.Fatal(err)
	}
	o := h.queued(job.Spec{ID: "one", APIKeys: true, ExtraData: json.RawMessage(`{"a":1}`)})
	h.accepted(o)
	if p := await(h, h.fake.posted, "the POST"); !strings.Contains(string(p.ExtraData), `"api_key_comfy_org":"key-0123456789"`) || !strings.Contains(string(p.ExtraData), `"a":1`) {
		t.Errorf("extra_data is %s", p.ExtraData)
	}
	if e := h.event(o, job.Completed); strings.Contains(e.Outputs[0].Text, "0123456789") {
		t.Errorf("completed has %+v", e.Outputs)
	}
	o = h.queued(job.Spec{ID: "none", APIKeys: true})
	h.accepted(o)
	if e := h.event(o, job.Failed); e.Kind != failure.InvalidWorkflow || !strings.Contains(e.Message, "no keys are kept for it") {
		t.Errorf("failed is %s: %s", e.Kind, e.Message)
	}
	if len(h.fake.posted) != 0 {
		t.Error("a job without its keys was posted")
	}
}

func TestAnAttemptBeginsWhenItsJobHasOnlyWaitedSinceItsOffer(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	h.fake.returns(now(), &comfy.Result{}, nil)
	waited := h.queued(job.Spec{ID: "waited"})
	for range 2 {
		h.append(waited, job.Event{EventKind: job.Waiting, Reason: "blocked"})
	}
	h.accepted(waited)
	h.event(waited, job.Completed)
	h.wantChain(waited, "queued waiting waiting started completed")

}

// A resumed attempt is that of the chain's last event, or another process has gone on with the job.
func TestAnAttemptIsResumedWhenItsStartedEventIsTheLast(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	h.fake.returns(now(), &comfy.Result{}, nil)
	o := h.queued(job.Spec{ID: "one"})
	h.append(o, job.Event{EventKind: job.Started, Host: "gpu", Attempt: 1, PromptID: "another"})
	o.Resume = true
	h.dropped(o)
	h.wantChain(o, "queued started")
	o = h.queued(job.Spec{ID: "two"})
	former := agent.FormerPromptID(&o, h.q.Created())
	h.append(o, job.Event{EventKind: job.Started, Host: "gpu", Attempt: 1, PromptID: former})
	h.append(o, job.Event{EventKind: job.Failed, Host: "gpu", Attempt: 1, PromptID: former, Kind: failure.Lost})
	o.Resume = true
	h.dropped(o)
	h.wantChain(o, "queued started failed")
}

func TestAResultThatComfyUIDoesNotHandOutEndsTheAttempt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		body io.Reader
		err  error
		kind failure.Kind
		says string
	}{
		"Refused":  {nil, &failure.Failure{Kind: failure.Lost, Message: "it is gone"}, failure.Lost, "it is gone"},
		"BreakOff": {io.MultiReader(strings.NewReader("abc"), breaking{}), nil, failure.HostLost, "ComfyUI broke off while it handed out a.png of node 2: the wire is cut"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, agent.Config{})
			h.fake.returns(now(), &comfy.Result{Outputs: []comfy.Output{picture}}, nil)
			h.fake.set(func() {
				h.fake.open = func(comfy.Output) (io.ReadCloser, string, int64, error) {
					if c.err != nil {
						return nil, "", 0, c.err
					}
					return io.NopCloser(c.body), "image/png", 100, nil
				}
			})
			o := h.queued(job.Spec{ID: "one"})
			h.accepted(o)
			if e := h.event(o, job.Failed); e.Kind != c.kind || !strings.Contains(e.Message, c.says) {
				t.Errorf("failed is %s: %s", e.Kind, e.Message)
			}
			if _, _, err := h.q.OpenOutput(h.ctx, "acme/one/2/a.png"); !errors.Is(err, queue.ErrNoFile) {
				t.Errorf("a part of it is stored: %v", err)
			}
		})
	}
}

// breaking is a connection that is cut.
type breaking struct{}

func (breaking) Read([]byte) (int, error) { return 0, errors.New("the wire is cut") }

// paged is a ComfyUI whose routes answer as a test says.
type paged struct {
	*fake
	page func(route string) (*comfy.Page, error)
}

func (p paged) Page(_ context.Context, route string, _ url.Values) (*comfy.Page, error) {
	return p.page(route)
}

func TestAGETIsPassedOnAndItsFailureTold(t *testing.T) {
	t.Parallel()
	pages := func(route string) (*comfy.Page, error) {
		p := &comfy.Page{Status: 200, ContentType: "application/json", Size: -1, Body: io.NopCloser(strings.NewReader(`["a"]`))}
		switch route {
		case "models/none":
			p.Status = 404
		case "models/away":
			return nil, errors.New("connection refused")
		case "models/breaks":
			p.Body = io.NopCloser(io.MultiReader(strings.NewReader("abc"), breaking{}))
		case "models/large":
			p.Body = io.NopCloser(io.LimitReader(zeros{}, queue.LargestPage+1))
		case "models/just":
			p.Body = io.NopCloser(io.LimitReader(zeros{}, queue.LargestPage))
		}
		return p, nil
	}
	h := start(t, agent.Config{Hosts: []agent.HostConfig{{Name: "gpu", Comfy: paged{newFake(), pages}}}})
	const text = "text/plain; charset=utf-8"
	for route, want := range map[string]struct {
		status int
		kind   string
		says   string
	}{
		"models/vae":    {200, "application/json", `["a"]`},
		"models/none":   {404, "application/json", `["a"]`},
		"models/away":   {502, text, "ComfyUI does not answer: connection refused"},
		"models/breaks": {502, text, "the answer of ComfyUI broke off: the wire is cut"},
		"models/large":  {413, text, "the answer has more than "},
		"models/just":   {200, "application/json", "\x00"},
		"history":       {403, text, "/history is none of the routes that are passed on"},
	} {
		p, err := h.q.HostPage(h.ctx, "gpu", queue.PageRequest{Route: route})
		if err != nil {
			t.Errorf("%s: %v", route, err)
			continue
		}
		if p.Status != want.status || p.ContentType != want.kind || !strings.HasPrefix(string(p.Body), want.says) {
			t.Errorf("%s: %d %s %.100s", route, p.Status, p.ContentType, p.Body)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Which options there are depends on what is installed, so that an agent that is told of a missing one reads them again.
func TestAMissingOptionHasTheCapabilityReadAgain(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{LearnEvery: time.Hour})
	h.online()
	reads := h.reads()
	if e := h.fails("one", saves, &failure.Failure{Kind: failure.Refused, Exception: "value_not_in_list", Message: "not in list"}); e.Kind != failure.Refused {
		t.Errorf("failed is %+v", e)
	}
	await(h, reads, "a reading of the capability")
}

// Two agents of one name would each overwrite the other's state.
func TestAnotherAgentOfTheSameNameIsTold(t *testing.T) {
	t.Parallel()
	log := &lines{more: make(chan struct{}, 1)}
	h := start(t, agent.Config{Logger: slog.New(slog.NewTextHandler(log, nil))})
	h.online()
	mine, _, err := h.q.Host(h.ctx, "gpu")
	if err != nil {
		t.Fatal(err)
	}
	other := mine
	other.Instance, other.URL = "another", "http://elsewhere"
	if err := h.q.Beat(h.ctx, &other); err != nil {
		t.Fatal(err)
	}
	for !log.has("another agent serves a host of this name") {
		await(h, log.more, "a line of the log")
	}
}
