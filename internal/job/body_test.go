package job_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/job"
)

func TestTheThreeBodiesAreToldApart(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		body string
		id   job.ID
	}{
		"Bare":                   {bare, "j-tlpwu8-42"},
		"Prompt":                 {`{"prompt":` + bare + `,"extra_data":{"a":1},"client_id":"x"}`, "j-tlpwu8-42"},
		"Envelope":               {`{"id":"mine","workflow":` + bare + `,"max_attempts":2,"unknown":1}`, "mine"},
		"NodeCalledWorkflow":     {strings.Replace(bare, `"1":{`, `"workflow":{`, 1), ""},
		"ByteOrderMarkAndSpaces": {"\ufeff \n" + bare, "j-tlpwu8-42"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j, err := job.Parse(message(c.body))
			if c.id == "" { // the link to node 1 is broken by the renaming, so this one must be refused as a workflow
				if err == nil || !strings.Contains(err.Error(), `"1"`) {
					t.Fatalf("err = %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if j.ID != c.id || j.Graph.Len() != 2 {
				t.Errorf("id %q with %d nodes, want %q with 2", j.ID, j.Graph.Len(), c.id)
			}
		})
	}
}

func TestTheWorkflowInABodyIsFound(t *testing.T) {
	t.Parallel()
	const ui = `{"nodes":[],"links":[]}`
	for body, want := range map[string]string{
		"\ufeff \n" + bare:        bare,
		`{"workflow":` + ui + `}`: ui,
		`{"workflow":` + ui + `,"prompt":{"class_type":"A","inputs":{}}}`:   ui,
		`{"prompt":{"class_type":"A","inputs":{}}}`:                         `{"prompt":{"class_type":"A","inputs":{}}}`,
		`{"workflow":{"class_type":"A","inputs":{}},"prompt":` + bare + `}`: bare,
	} {
		if spec, err := job.ParseSpec([]byte(body)); err != nil || string(spec.Workflow) != want {
			t.Errorf("%s: %s, %v", body, spec.Workflow, err)
		}
	}
}

func TestAnEnvelopeIsReadAsTheLibraryDoes(t *testing.T) {
	t.Parallel()
	other := strings.Replace(bare, "EmptyImage", "LoadImage", 1)
	for _, body := range []string{
		`{"max_attempts":2, "workflow" : ` + bare + ` , "metadata":{"workflow":1}}`,
		`{"metadata":"","workflow":` + bare + `}`,
		`{"metadata":"a\\","workflow":` + bare + `}`,
		`{"metadata":"a\\\"b","workflow":` + bare + `}`,
		`{"metadata":5 ,"workflow":` + bare + `}`,
		`{"workflow":` + other + `,"workflow":` + bare + `}`,
		`{"workflow":` + other + `,"WorkFlow":` + bare + `}`,
		`{"WORKFLOW":` + other + `,"workflow":` + bare + `}`,
		`{"workflow":` + strings.Replace(bare, "EmptyImage", "OtherImage", 1) + `,"WorkFlow":` + bare + `}`,
		`{"work\u0066low":` + other + `,"workflow":` + bare + `}`,
		`{"prompt":` + other + `,"workflow":` + bare + `}`,
		`{"workflow":{"class_type":"A","inputs":{}},"prompt":` + bare + `}`,
		`{"client_id":"x","prompt":` + bare + `,"extra_data":{"a":1}}`,
		`{"prompt":` + bare + `,"max_attempts":2}`,
	} {
		j, err := job.Parse(message(body))
		if err != nil {
			t.Errorf("%s: %v", body, err)
			continue
		}
		spec, err := job.ParseSpec([]byte(body))
		if diff := cmp.Diff(spec, j.Spec); err != nil || diff != "" || string(j.Workflow) != bare || string(j.Graph.Raw()) != bare {
			t.Errorf("%s: %s (%v), graph %s", body, diff, err, j.Graph.Raw())
		}
	}
}

func TestABodyThatOnlyPythonCallsJSONIsAJob(t *testing.T) {
	t.Parallel()
	w := strings.Replace(bare, `"filename_prefix":"x"}`, `"filename_prefix":"NaN"},"is_changed":[NaN, -Infinity]`, 1)
	for name, body := range map[string]string{
		"bare":     w,
		"envelope": `{"metadata":{"a":NaN,"b":"NaN -Infinity","c":-Infinity},"workflow":` + w + `,"extra_data":{"x":[Infinity,-1]}}`,
		"prompt":   `{"prompt":` + w + `,"metadata":{"a":NaN,"b":"NaN -Infinity","c":-Infinity},"extra_data":{"x":[Infinity,-1]}}`,
	} {
		j, err := job.Parse(message(body))
		if err != nil || string(j.Workflow) != w || string(j.Graph.Raw()) != w {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if name != "bare" && (string(j.Metadata) != `{"a":null,"b":"NaN -Infinity","c":null}` || string(j.ExtraData) != `{"x":[null,-1]}`) {
			t.Errorf("%s: metadata %s, extra_data %s", name, j.Metadata, j.ExtraData)
		}
		e := j.NewEvent(job.Completed, j.Received)
		if _, err := e.Encode(); err != nil {
			t.Errorf("%s: its event: %v", name, err)
		}
		again, err := j.Encode()
		if err != nil {
			t.Errorf("%s: it cannot be published again: %v", name, err)
		}
		if back, err := job.Parse(message(string(again))); err != nil || cmp.Diff(back.Spec, j.Spec) != "" {
			t.Errorf("%s: published again as %s: %v", name, again, err)
		}
	}
}

func TestWhatComfyUITakesIsTaken(t *testing.T) {
	t.Parallel()
	const ui = `{"nodes":[{"id":1}],"links":[]}`
	for name, body := range map[string]string{
		"targets":           `{"prompt":` + bare + `,"client_id":"x","partial_execution_targets":["2"]}`,
		"both graphs":       `{"prompt":` + bare + `,"include_outputs":["2"],"extra_data":{"extra_pnginfo":{"workflow":` + ui + `}}}`,
		"picture metadata":  `{"workflow":` + ui + `,"prompt":` + bare + `,"partial_execution_targets":["2"]}`,
		"metadata reversed": `{"prompt":` + bare + `,"workflow":` + ui + `,"partial_execution_targets":["2"]}`,
	} {
		j, err := job.Parse(message(body))
		if err != nil || string(j.Workflow) != bare || len(j.IncludeOutputs) != 1 || j.IncludeOutputs[0] != "2" {
			t.Errorf("%s: %v, %v", name, j, err)
		}
	}
	j, err := job.Parse(message(`{"prompt":` + bare + `,"partial_execution_targets":null,"max_attempts":null,"run_at":null}`))
	if err != nil || j.IncludeOutputs != nil || j.MaxAttempts != 0 || j.RunAt != nil {
		t.Errorf("null is absent: %v, %v", j, err)
	}
}

func TestADataURIIsReadInAllItsForms(t *testing.T) {
	t.Parallel()
	for uri, want := range map[string]string{
		"data:image/png;base64,aGk_":          "hi?",
		"data:image/png;base64,aGk/":          "hi?",
		"data:;base64,aGk=":                   "hi",
		"data:;base64,aGk":                    "hi",
		"data:;BASE64,aA==":                   "h",
		"data:;base64,a A\r\n==":              "h",
		"data:;base64,aGk%2F":                 "hi?",
		"data:;base64,aGk-":                   "hi>",
		"data:text/plain;charset=utf-8,a%20b": "a b",
		"data:,":                              "",
		"data:;base64,":                       "",
	} {
		got, err := job.DataURI(uri)
		if err != nil || string(got) != want {
			t.Errorf("%s is %q, %v; want %q", uri, got, err, want)
		}
		body := `{"workflow":` + bare + `,"inputs":[{"node":"1","input":"i","url":` + string(job.AppendText(nil, uri)) + `}]}`
		if _, err := job.Parse(message(body)); err != nil {
			t.Errorf("%s: %v", uri, err)
		}
	}
}

func TestFieldsThatNobodyKnowsAreNamed(t *testing.T) {
	t.Parallel()
	for body, want := range map[string][]string{
		`{"workflow":` + bare + `,"max_attempt":2,"prefer_host":[],"Max_Attempts":1,"colour":1,"priority":9}`: {
			"colour", "max_attempt (did you mean max_attempts?)", "prefer_host (did you mean prefer_hosts?)", "priority (the priority is the last part of the subject)"},
		`{"workflow":` + bare + `,"inputs":[{"node":"1","inputs":"x"},{"nod":"1"}],"timeouts":{"totals":"1s"},"expires-in":"1s"}`: {
			"expires-in (did you mean expires_in?)", "inputs[0].inputs (did you mean input?)", "inputs[1].nod (did you mean node?)", "timeouts.totals (did you mean total?)"},
		`{"prompt":` + bare + `,"client_id":"x","prompt_id":"y","front":true,"extra_data":{"max_attempt":1}}`: {"front (the priority is the last part of the subject)"},
		`{"workflow":` + bare + `,"client_id":NaN}`:                                                           {"client_id"},
		"\ufeff " + `{"workflow":` + bare + `,"colour":1}`:                                                    {"colour"},
		`{"workflow":` + bare + `,"timeouts":{"priority":1}}`:                                                 {"timeouts.priority"},
		bare: nil, `{"workflow":` + bare + `}`: nil, "": nil, "[": nil, `{"workflow":`: nil,
	} {
		if diff := cmp.Diff(want, job.UnknownFields([]byte(body))); diff != "" {
			t.Errorf("%s: %s", body, diff)
		}
	}
}
