package agent_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
)

const loads = `{"10":{"class_type":"LoadImage","inputs":{"image":"x.png"}},"2":{"class_type":"SaveImage","inputs":{"images":["10",0],"filename_prefix":"a"}}}`

func TestAnInputThatIsNotThereEndsTheJobAndTroubleOnTheWayIsTriedLater(t *testing.T) {
	t.Parallel()
	answers := map[string]int{
		"/missing": 404, "/gone": 410, "/forbidden": 403, "/moved": 304, "/broken": 500, "/busy": 503, "/slower": 429, "/slow": 408,
	}
	files := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/huge":
			w.Header().Set("Content-Length", fmt.Sprint(4<<30+1))
		case "/long":
			for range 100 { // too many for net/http to say their length
				_, _ = w.Write(make([]byte, 100)) // whoever reads has gone
			}
		case "/short":
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("less"))
		default:
			w.WriteHeader(answers[r.URL.Path])
		}
	}))
	t.Cleanup(files.Close)
	const image, unfetched = "input image of node 10: ", "the input's url could not be fetched; the log of the host's agent says why"
	for name, c := range map[string]struct {
		input job.Input
		kind  failure.Kind
		says  string
		most  int64
	}{
		"AnObjectThatIsNotThere": {job.Input{Object: "acme/none.png"}, failure.InvalidWorkflow, `COMFY_INPUTS has no object "acme/none.png"`, 0},
		"Missing":                {job.Input{URL: files.URL + "/missing?token=s3cret"}, failure.InvalidWorkflow, unfetched, 0},
		"Gone":                   {job.Input{URL: files.URL + "/gone"}, failure.InvalidWorkflow, unfetched, 0},
		"Forbidden":              {job.Input{URL: files.URL + "/forbidden"}, failure.InvalidWorkflow, unfetched, 0},
		"NotAFile":               {job.Input{URL: files.URL + "/moved"}, failure.InvalidWorkflow, unfetched, 0},
		"Broken":                 {job.Input{URL: files.URL + "/broken"}, failure.Transient, unfetched, 0},
		"Busy":                   {job.Input{URL: files.URL + "/busy"}, failure.Transient, unfetched, 0},
		"AskedTooOften":          {job.Input{URL: files.URL + "/slower"}, failure.Transient, unfetched, 0},
		"Slow":                   {job.Input{URL: files.URL + "/slow"}, failure.Transient, unfetched, 0},
		"BrokenOff":              {job.Input{URL: files.URL + "/short"}, failure.Transient, unfetched, 0},
		"NobodyListens":          {job.Input{URL: "http://127.0.0.1:1/a.png?token=s3cret"}, failure.Transient, unfetched, 0},
		"LargerThan4GiB":         {job.Input{URL: files.URL + "/huge"}, failure.InvalidWorkflow, "more than 4294967296 bytes", 0},
		"LargerThanItSaid":       {job.Input{URL: files.URL + "/long"}, failure.InvalidWorkflow, "more than 1999 bytes", 1999},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, agent.Config{MaxInput: c.most, InputURLs: "127.0.0.0/8"})
			c.input.Node, c.input.Input = "10", "image"
			o := h.queued(job.Spec{ID: "one", Workflow: json.RawMessage(loads), Inputs: []job.Input{c.input}})
			h.accepted(o)
			e := h.event(o, job.Failed)
			if e.Kind != c.kind || !strings.HasPrefix(e.Message, image) || !strings.Contains(e.Message, c.says) || strings.Contains(e.Message, "s3cret") || c.says == unfetched && e.Message != image+unfetched {
				t.Errorf("failed is %s: %s", e.Kind, e.Message)
			}
			if n := len(h.fake.posted); n != 0 {
				t.Errorf("%d prompts were posted", n)
			}
		})
	}
}

func TestAnInputMayHaveAsManyBytesAsAreTaken(t *testing.T) {
	t.Parallel()
	files := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" { // without its length
			_ = http.NewResponseController(w).Flush()
		}
		_, _ = w.Write([]byte("miau"))
	}))
	t.Cleanup(files.Close)
	h := start(t, agent.Config{MaxInput: 4, InputURLs: "127.0.0.0/8"})
	h.fake.returns(now(), &comfy.Result{}, nil)
	h.storedInput("acme/cat.png", "miau")
	h.storedInput("acme/dog.png", "wuffs")
	for id, input := range map[job.ID]job.Input{"said": {URL: files.URL + "/a"}, "unsaid": {URL: files.URL + "/long"}, "stored": {Object: "acme/cat.png"}} {
		input.Node, input.Input, input.Filename = "10", "image", "cat.png"
		o := h.queued(job.Spec{ID: id, Workflow: json.RawMessage(loads), Inputs: []job.Input{input}})
		h.accepted(o)
		if got := await(h, h.fake.uploaded, "the cat"); !strings.HasSuffix(got, "/0-cat.png: miau") {
			t.Errorf("%s: uploaded %q", id, got)
		}
		h.event(o, job.Completed)
	}
	o := h.queued(job.Spec{ID: "more", Workflow: json.RawMessage(loads), Inputs: []job.Input{{Node: "10", Input: "image", Object: "acme/dog.png"}}})
	h.accepted(o)
	if e := h.event(o, job.Failed); e.Kind != failure.InvalidWorkflow || e.Message != "input image of node 10: the file has more than 4 bytes" {
		t.Errorf("failed is %s: %s", e.Kind, e.Message)
	}
}

func TestADataURIIsTakenInEveryFormOfBase64(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	content := "wuff\xff\xfe\xfb" // 7 bytes: with padding
	standard := base64.StdEncoding.EncodeToString([]byte(content))
	for i, data := range []string{
		";base64," + standard, ";base64," + strings.TrimRight(standard, "="), ";base64," + base64.URLEncoding.EncodeToString([]byte(content)),
		";base64," + standard[:4] + "%0A" + standard[4:], ";base64," + strings.ReplaceAll(standard, "/", "%2F"), ",wuff%FF%FE%FB",
	} {
		h.fake.returns(now(), &comfy.Result{}, nil)
		o := h.queued(job.Spec{
			ID: job.ID(fmt.Sprint(i)), Workflow: json.RawMessage(loads), Inputs: []job.Input{{Node: "10", Input: "image", URL: "data:image/png" + data}},
		})
		h.accepted(o)
		if got := await(h, h.fake.uploaded, "the upload"); !strings.HasSuffix(got, "/0-input: "+content) {
			t.Errorf("%s was uploaded as %q", data, got)
		}
		h.event(o, job.Completed)
	}
}

func TestAllInputsOfANodeAreWrittenIntoTheWorkflow(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	h.fake.returns(now(), &comfy.Result{}, nil)
	const two = `{"10":{"class_type":"LoadBoth","inputs":{"image":"x.png","mask":"y.png"}},"2":{"class_type":"SaveImage","inputs":{"images":["10",0],"filename_prefix":"a"}}}`
	o := h.queued(job.Spec{ID: "one", Workflow: json.RawMessage(two), Inputs: []job.Input{
		{Node: "10", Input: "image", URL: "data:,cat", Filename: "cat.png"}, {Node: "10", Input: "mask", URL: "data:,dog", Filename: "dog.png"},
	}})
	h.accepted(o)
	p := await(h, h.fake.posted, "the POST")
	for _, name := range []string{"comfyherd/" + p.ID + "/0-cat.png", "comfyherd/" + p.ID + "/1-dog.png"} {
		if !strings.Contains(string(p.Workflow), `"`+name+`"`) {
			t.Errorf("%s is not in %s", name, p.Workflow)
		}
	}
	h.event(o, job.Completed)
}

// Prompts of other jobs must not find the picture, whose id in the workflow a client has chosen.
func TestAPictureForTheMemoryOfANodePackGetsAnIdOfItsPrompt(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{Outputs: agent.OutputsNone, Slots: 3})
	o := h.queued(job.Spec{
		ID: "one", Workflow: json.RawMessage(`{"1":{"class_type":"ETN_LoadImageCache","inputs":{"id":"0badcafe"}},"9":{"class_type":"SaveImage","inputs":{"images":["1",0]}}}`),
		Inputs: []job.Input{{Node: "1", Input: "id", URL: "data:image/png;base64,eA=="}},
	})
	h.accepted(o)
	id, content, _ := strings.Cut(await(h, h.fake.uploaded, "the picture"), ": ")
	p := await(h, h.fake.posted, "the prompt")
	if content != "x" || id != p.ID+"-0" || !strings.Contains(string(p.Workflow), `"`+id+`"`) || strings.Contains(string(p.Workflow), "0badcafe") {
		t.Errorf("%q was put as %q; the prompt is %s", content, id, p.Workflow)
	}
	for id, node := range map[job.ID]string{
		"class": `{"class_type":"LoadImage","inputs":{"id":"a"}}`, "input": `{"class_type":"ETN_LoadImageCache","inputs":{"image":"a"}}`,
	} {
		input := job.Input{Node: "1", Input: "id", URL: "data:image/png;base64,eA==", Filename: "x.png"}
		if id == "input" {
			input.Input = "image"
		}
		h.fake.returns(now(), &comfy.Result{}, nil)
		o := h.queued(job.Spec{ID: id, Workflow: json.RawMessage(`{"1":` + node + `,"9":{"class_type":"SaveImage","inputs":{"images":["1",0]}}}`), Inputs: []job.Input{input}})
		h.accepted(o)
		if got := await(h, h.fake.uploaded, "the file"); !strings.HasSuffix(got, "/0-x.png: x") {
			t.Errorf("%s: the file was given as %q", id, got)
		}
	}
}
