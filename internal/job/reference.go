package job

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/comfyherd/comfyherd/internal/workflow"
)

const (
	fileField = `"workflow_file"`
	maxFile   = 1024 // bytes of the name of a file
)

// File is the name of the file that has the workflow of a job; empty when the job has it itself.
func File(body []byte) string {
	if !bytes.Contains(body, []byte(`_file"`)) { // its end is searched faster than the whole, whose letters are frequent
		return ""
	}
	body = trim(body)
	if len(body) == 0 || body[0] != '{' {
		return ""
	}
	name, found := "", false
	walk := members{body: body, pos: 1}
	for walk.next() {
		switch value := walk.value.of(body); string(walk.key) {
		case fileField:
			found = json.Unmarshal(value, &name) == nil
		case `"workflow"`, `"prompt"`:
			if string(value) != "null" && isContainer(value) {
				return ""
			}
		}
	}
	if !found || !walk.ended {
		return ""
	}
	return name
}

// read reads the message, and the file that it names if that is at hand. Without the file there is no graph.
func (m *Message) read() (Spec, *workflow.Graph, error) {
	name := File(m.Body)
	if name == "" {
		spec, graph, err := read(m.Body)
		if err == nil && spec.WorkflowFile != "" {
			err = invalidf("the job has a workflow and a workflow_file: give one of them")
		}
		return spec, graph, err
	}
	envelope, err := decode(trim(m.Body), fields{}, span{})
	envelope.Workflow, envelope.WorkflowFile = nil, name
	if err != nil || m.File == nil {
		return envelope, nil, err
	}
	spec, graph, err := read(m.File)
	if err == nil && (spec.WorkflowFile != "" || File(m.File) != "") {
		err = invalidf("it names another file, and must have the workflow itself")
	}
	if err == nil && graph == nil {
		graph, err = workflow.Adopt(spec.Workflow)
	}
	if err != nil {
		return Spec{}, nil, invalidf("the file %q is no job: %s", name, err)
	}
	whole := envelope.over(spec)
	whole.ID = envelope.ID // so that programs that do not read the file know the same id
	return whole, graph, nil
}

// over gives the fields of s, and those of another Spec where s has none.
func (s *Spec) over(other Spec) Spec {
	both, fields := reflect.ValueOf(&other).Elem(), reflect.ValueOf(s).Elem()
	for i := range fields.NumField() {
		if field := fields.Field(i); !field.IsZero() {
			both.Field(i).Set(field)
		}
	}
	return other
}

func (s *Spec) checkFile(tenant Tenant) error {
	if s.WorkflowFile == "" {
		return nil
	}
	if prefix := string(tenant) + "/"; len(s.WorkflowFile) > maxFile || !strings.HasPrefix(s.WorkflowFile, prefix) {
		return invalidf("workflow_file %.200q must be the name of a file in COMFY_INPUTS, which begins with your tenant's name: %q", s.WorkflowFile, prefix+"…")
	}
	return nil
}

// NoFile says what to do about a job whose file is not there.
func NoFile(name string) string {
	return fmt.Sprintf("workflow_file names %q, which COMFY_INPUTS does not have: put the file there before the job, and again when it has expired", name)
}
