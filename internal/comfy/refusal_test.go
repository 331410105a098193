package comfy_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
)

// linked has a link to a node that is not in it.
const linked = `{"2":{"class_type":"SaveImage","inputs":{"images":["77",0],"filename_prefix":"probe"}}}`

func TestEveryRecordedRefusalHasItsKind(t *testing.T) {
	t.Parallel()
	type refusal struct {
		Label  string
		Status int
		Body   string
		Kind   failure.Kind
	}
	for _, c := range recorded[refusal](t, "refusals.jsonl") {
		t.Run(c.Label, func(t *testing.T) {
			t.Parallel()
			host := serve(t, routes{
				"POST /prompt":             says(c.Status, c.Body),
				"GET /prompt":              says(http.StatusOK, `{"exec_info": {"queue_remaining": 0}}`),
				"GET /queue":               says(http.StatusOK, emptyQueue),
				"GET /history/" + promptID: says(http.StatusOK, `{}`),
				"GET /history/1591d20b-ec41-400d-ac88-1b5c18025624": says(http.StatusOK, `{}`),
			})
			_, err := host.Run(within(t), comfy.Prompt{ID: promptID, Workflow: []byte(linked)}, comfy.Watch{})
			f := failure.As(err)
			if f == nil || f.Kind != c.Kind {
				t.Fatalf("%s ends as %v, want %s", c.Body, err, c.Kind)
			}
			if f.Message == "" || len(f.Message) > 1000 {
				t.Errorf("its message has %d bytes: %q", len(f.Message), f.Message)
			}
			t.Log(f.Message)
		})
	}
}

func TestMissingClassAndModelAreNamed(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		body string
		want failure.Failure
	}{
		"Class": {
			`{"error": {"type": "missing_node_type", "message": "Node 'My Node' not found.", "details": "Node ID '#1'", "extra_info": {"node_id": "1", "class_type": "NoSuchNode", "node_title": "My Node"}}, "node_errors": {}}`,
			failure.Failure{Kind: failure.Incapable, Message: "node class NoSuchNode (node 1) is not installed on this host", Node: "1", Class: "NoSuchNode", Exception: "missing_node_type"},
		},
		"ClassOnAnOldServer": {
			`{"error": {"type": "invalid_prompt", "message": "Cannot execute because node NoSuchNode does not exist.", "details": "Node ID '#1'", "extra_info": {}}, "node_errors": {}}`,
			failure.Failure{Kind: failure.Incapable, Message: "node class NoSuchNode (node 1) is not installed on this host", Node: "1", Class: "NoSuchNode", Exception: "missing_node_type"},
		},
		"Models": {
			`{"error": {"type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed validation", "details": "", "extra_info": {}}, "node_errors": {
			"10": {"errors": [{"type": "value_not_in_list", "message": "Value not in list", "details": "vae_name: 'b.pth' not in []", "extra_info": {"input_name": "vae_name", "input_config": [[], {}], "received_value": "b.pth"}}], "class_type": "VAELoader"},
			"9": {"errors": [{"type": "value_not_in_list", "message": "Value not in list", "details": "ckpt_name: 'a.ckpt' not in (list of length 31)", "extra_info": {"input_name": "ckpt_name", "input_config": null, "received_value": "a.ckpt"}}], "class_type": "CheckpointLoaderSimple"}}}`,
			failure.Failure{
				Kind:    failure.Incapable,
				Message: `model "a.ckpt" (ckpt_name of node 9, CheckpointLoaderSimple) is not on this host; model "b.pth" (vae_name of node 10, VAELoader) is not on this host`,
				Node:    "9", Class: "CheckpointLoaderSimple", Exception: "value_not_in_list",
			},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := serve(t, routes{"POST /prompt": says(http.StatusBadRequest, c.body)})
			_, err := host.Run(within(t), comfy.Prompt{ID: promptID, Workflow: []byte(graph)}, comfy.Watch{})
			if diff := cmp.Diff(c.want, *failure.As(err)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWhatWouldHarmTheHostIsRefusedBeforeThePost(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		prompt comfy.Prompt
		want   failure.Kind
	}{
		"ExtraDataNull":     {comfy.Prompt{ID: promptID, Workflow: []byte(graph), ExtraData: []byte(`null`)}, failure.InvalidWorkflow},
		"ExtraDataList":     {comfy.Prompt{ID: promptID, Workflow: []byte(graph), ExtraData: []byte(`[]`)}, failure.InvalidWorkflow},
		"WorkflowList":      {comfy.Prompt{ID: promptID, Workflow: []byte(`[]`)}, failure.InvalidWorkflow},
		"WorkflowCutOff":    {comfy.Prompt{ID: promptID, Workflow: []byte(graph[:40])}, failure.InvalidWorkflow},
		"WorkflowEmpty":     {comfy.Prompt{ID: promptID}, failure.InvalidWorkflow},
		"UpperCaseID":       {comfy.Prompt{ID: "EB0AEB70-E679-4C66-BE39-872007C19294", Workflow: []byte(graph)}, failure.Lost},
		"IDWithoutHyphens":  {comfy.Prompt{ID: "eb0aeb70e6794c66be39872007c19294", Workflow: []byte(graph)}, failure.Lost},
		"IDThatIsNoUUID":    {comfy.Prompt{ID: "../../interrupt", Workflow: []byte(graph)}, failure.Lost},
		"ResumeNeedsAnIDTo": {comfy.Prompt{Resume: true}, failure.Lost},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("%s was asked", r.URL) }))
			_, err := host.Run(within(t), c.prompt, comfy.Watch{})
			if got := failure.KindOf(err); got != c.want {
				t.Errorf("ends as %v, want %s", err, c.want)
			}
		})
	}
}

func TestThePostCarriesTheWorkflowByteForByte(t *testing.T) {
	t.Parallel()
	const workflow = `{"3":{"class_type":"KSampler","inputs":{"seed":18446744073709551615,"cfg":7.10,"text":"<b> é \u00e9 & 1e400"}}}`
	bodies := make(chan string, 1)
	host := serve(t, routes{
		"POST /prompt": func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			if origin, coded := r.Header.Get("Origin"), r.ContentLength; origin != "" || coded != int64(len(body)) {
				t.Errorf("Origin %q, Content-Length %d", origin, coded)
			}
			bodies <- string(body)
			says(http.StatusBadRequest, `{"error": {"type": "prompt_no_outputs", "message": "Prompt has no outputs"}, "node_errors": {}}`)(w, r)
		},
	})
	_, err := host.Run(within(t), comfy.Prompt{
		ID: promptID, Workflow: []byte(workflow), Targets: []string{"9"},
		ExtraData: []byte(`{"client_id": {"a": 1}, "extra_pnginfo": null, "seed": 18446744073709551615}`),
	}, comfy.Watch{})
	if got := failure.KindOf(err); got != failure.InvalidWorkflow {
		t.Errorf("ends as %v", err)
	}
	got := <-bodies
	const head = `{"prompt":` + workflow + `,"prompt_id":"` + promptID + `","client_id":"`
	const tail = `","extra_data":{"seed":18446744073709551615},"partial_execution_targets":["9"]}`
	if len(got) != len(head)+32+len(tail) || got[:len(head)] != head || got[len(got)-len(tail):] != tail {
		t.Errorf("posted %s", got)
	}
}
