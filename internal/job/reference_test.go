package job_test

import (
	"strings"
	"testing"

	"github.com/comfyherd/comfyherd/internal/job"
)

const inFile = `{"1":{"class_type":"SaveImage","inputs":{}}}`

func TestAJobWhoseWorkflowIsInAFileIsReadWithIt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ body, file, want string }{
		"Bare":          {`{"workflow_file":"acme/a","record":true}`, inFile, ""},
		"Prompt":        {`{"workflow":null,"workflow_file":"acme/a","max_attempts":2}`, `{"prompt":` + inFile + `,"extra_data":{"x":1},"max_attempts":9}`, ""},
		"Missing":       {`{"workflow_file":"acme/a"}`, "", "no graph"},
		"OfAnother":     {`{"workflow_file":"bolt/a"}`, inFile, `begins with your tenant's name: "acme/…"`},
		"Both":          {`{"workflow_file":"acme/a","workflow":` + inFile + `}`, "", "give one of them"},
		"NoJob":         {`{"workflow_file":"acme/a"}`, `[1]`, `the file "acme/a" is no job`},
		"Chain":         {`{"workflow_file":"acme/a"}`, `{"workflow_file":"acme/b"}`, "names another file"},
		"ChainBeside":   {`{"workflow_file":"acme/a"}`, `{"workflow_file":"acme/b","workflow":` + inFile + `}`, "names another file"},
		"NoSuchOutputs": {`{"workflow_file":"acme/a","include_outputs":["7"]}`, inFile, `names node "7"`},
		"Malformed":     {`{"workflow_file":"acme/a"`, inFile, "the message is no valid JSON"},
		"NoText":        {`{"workflow_file":7}`, "", `node "workflow_file" is a number`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := job.Message{Tenant: "acme", Priority: 5, Body: []byte(c.body)}
			if c.file != "" {
				m.File = []byte(c.file)
			}
			j, err := job.Parse(m)
			switch {
			case c.want == "no graph":
				if err != nil || j.Graph != nil || j.WorkflowFile != "acme/a" {
					t.Errorf("%+v, %v", j, err)
				}
			case c.want != "":
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %q in it", err, c.want)
				}
			case err != nil || j.Graph.ClassOf("1") != "SaveImage":
				t.Errorf("%+v, %v", j, err)
			case name == "Bare" && !j.Record, name == "Prompt" && (j.MaxAttempts != 2 || string(j.ExtraData) != `{"x":1}`):
				t.Errorf("the fields are %+v", j.Spec)
			}
		})
	}
}

// A job is looked up by its id in several places that do not read the file.
func TestTheIDOfAJobDoesNotDependOnItsFile(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]job.ID{`{"workflow_file":"acme/a"}`: "", `{"workflow_file":"acme/a","id":"one"}`: "one"} {
		m := job.Message{Tenant: "acme", Priority: 5, Sequence: 7, Body: []byte(body)}
		without, err := job.Parse(m)
		if err != nil {
			t.Fatal(err)
		}
		if want == "" {
			want = m.GeneratedID()
		}
		m.File = []byte(`{"id":"two","workflow":` + inFile + `}`)
		with, err := job.Parse(m)
		if err != nil || with.ID != want || without.ID != want {
			t.Errorf("%s has the ids %s without its file and %s with it, want %s (%v)", body, without.ID, with.ID, want, err)
		}
	}
}
