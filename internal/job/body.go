package job

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// read is ParseSpec and reads the workflow too. The graph is nil when the workflow is faulty: other faults of the body are
// reported first. Trying to read the body as a workflow is the cheapest way to find out whether it is one.
func read(body []byte) (Spec, *workflow.Graph, error) {
	body = trim(body)
	if len(body) > 0 && body[0] == '{' {
		if seemsBare(body) {
			graph, err := workflow.Adopt(body)
			if err == nil && graph.ClassOf("workflow") == "" && graph.ClassOf("prompt") == "" {
				return Spec{Workflow: body}, graph, nil
			}
		} else if spec, graph := readWrapped(body); graph != nil {
			return spec, graph, nil
		}
	}
	spec, err := ParseSpec(body)
	return spec, nil, err
}

// readWrapped reads an envelope or a prompt body where nothing is odd.
func readWrapped(body []byte) (Spec, *workflow.Graph) {
	top, ok := topLevel(body)
	inner := top.workflow
	if inner == (span{}) {
		inner = top.prompt
	}
	if !ok || inner == (span{}) {
		return Spec{}, nil
	}
	graph, err := workflow.Adopt(inner.of(body))
	if err != nil {
		return Spec{}, nil
	}
	spec, err := decode(body, top, inner)
	if err != nil || &spec.Workflow[0] != &body[inner.from] {
		return Spec{}, nil
	}
	return spec, graph
}

// ParseSpec tells the three bodies apart: the envelope, ComfyUI's own POST /prompt body, and a bare workflow.
// The workflow in it is not looked into.
func ParseSpec(body []byte) (Spec, error) {
	body = trim(body)
	if len(body) == 0 {
		return Spec{}, invalidf("the message is empty: publish an API-format workflow, a POST /prompt body or an envelope {\"workflow\":{…}}")
	}
	if body[0] != '{' {
		return Spec{}, invalidf("the message is no JSON object: publish an API-format workflow (in ComfyUI: Workflow → Export (API))")
	}
	top, ok := topLevel(body)
	if !ok {
		return Spec{}, malformed(body)
	}
	inner := top.graph(body)
	if inner == (span{}) {
		return Spec{Workflow: body}, nil
	}
	return decode(body, top, inner)
}

// graph is where the workflow is in an envelope or a prompt body; it is empty when the body is none of both. A
// picture's metadata has both graphs: the UI's as workflow and ComfyUI's as prompt.
func (f fields) graph(body []byte) span {
	workflow, prompt := f.workflow.of(body), f.prompt.of(body)
	switch {
	case isContainer(prompt) && inUIFormat(workflow):
		return f.prompt
	case isContainer(workflow):
		return f.workflow
	case isContainer(prompt):
		return f.prompt
	}
	return span{}
}

// trim removes the byte order mark and the space that a file may have around its JSON.
func trim(body []byte) []byte {
	return bytes.TrimSpace(bytes.TrimPrefix(bytes.TrimSpace(body), []byte("\xef\xbb\xbf")))
}

// malformed says where a body stops being JSON.
func malformed(body []byte) error {
	var whole json.RawMessage
	err := json.Unmarshal(body, &whole)
	if err == nil {
		return invalidf("the message is no JSON object")
	}
	return invalidf("the message is no valid JSON: %s", jsonError(err))
}

// isContainer tells an envelope's field from a node that happens to have that id.
func isContainer(value json.RawMessage) bool {
	if len(value) == 0 {
		return false
	}
	var node struct {
		Class *string `json:"class_type"`
	}
	return json.Unmarshal(value, &node) != nil || node.Class == nil
}

// inUIFormat says whether this is the file that ComfyUI's plain "Save" writes.
func inUIFormat(value json.RawMessage) bool {
	var ui struct {
		Nodes []json.RawMessage `json:"nodes"`
	}
	return unmarshal(value, &ui) == nil && ui.Nodes != nil
}

// wire is an envelope or a prompt body where it differs from a Spec.
type wire struct {
	Spec
	MaxAttempts *int            `json:"max_attempts"`
	RunAt       json.RawMessage `json:"run_at"`
	Prompt      json.RawMessage `json:"prompt"`
	Targets     []string        `json:"partial_execution_targets"`
}

// decode reads what is around the workflow, which is kept as it is.
func decode(body []byte, top fields, inner span) (Spec, error) {
	const stub = `"the workflow"`
	first, second := top.workflow, top.prompt
	if second.from < first.from {
		first, second = second, first
	}
	around := make([]byte, 0, len(body)-len(first.of(body))-len(second.of(body))+2*len(stub))
	from := 0
	for _, graph := range [2]span{first, second} {
		if graph != (span{}) {
			around = append(append(around, body[from:graph.from]...), stub...)
			from = graph.to
		}
	}
	around = append(around, body[from:]...)
	var w wire
	if err := unmarshal(around, &w); err != nil {
		return Spec{}, invalidf("the envelope does not fit: %s", jsonError(err))
	}
	spec := w.Spec
	if inner == top.prompt {
		spec.Workflow = w.Prompt
	}
	if string(spec.Workflow) == stub { // "WORKFLOW" is the same field to encoding/json
		spec.Workflow = inner.of(body)
	}
	if err := w.targets(&spec); err != nil {
		return Spec{}, err
	}
	if w.MaxAttempts != nil {
		if spec.MaxAttempts = *w.MaxAttempts; spec.MaxAttempts == 0 {
			return Spec{}, badAttempts(0)
		}
	}
	at, err := moment(w.RunAt)
	spec.RunAt = at
	return spec, err
}

// targets takes ComfyUI's own name of include_outputs.
func (w *wire) targets(spec *Spec) error {
	switch {
	case w.Targets == nil:
		return nil
	case len(w.Targets) == 0:
		return invalidf("partial_execution_targets is empty, and nothing would run: name output nodes, or leave it out")
	case len(spec.IncludeOutputs) > 0 && !slices.Equal(spec.IncludeOutputs, w.Targets):
		return invalidf("partial_execution_targets and include_outputs are the same and disagree: give one of them")
	}
	spec.IncludeOutputs = w.Targets
	return nil
}

// moment reads run_at.
func moment(raw json.RawMessage) (*time.Time, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil //nolint:nilnil // at once
	}
	const form = `write it with a zone, like "2026-12-01T08:00:00Z" or "2026-12-01T08:00:00+01:00"`
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return nil, invalidf("run_at is %.40s, which is no time: %s", raw, form)
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		if _, local := time.Parse("2006-01-02T15:04:05", strings.ReplaceAll(text, " ", "T")); local == nil {
			return nil, invalidf("run_at is %q, which does not say in what time zone: %s", text, form)
		}
		return nil, invalidf("run_at is %.80q, which is no time: %s", text, form)
	}
	return &at, nil
}

// unmarshal is json.Unmarshal that takes NaN and Infinity, which Python writes, for null.
func unmarshal(data []byte, into any) error {
	if json.Unmarshal(data, into) == nil {
		return nil
	}
	return json.Unmarshal(withoutBareWords(data), into)
}

// withoutBareWords writes null for each NaN, Infinity and -Infinity outside of strings.
func withoutBareWords(data []byte) []byte {
	var plain []byte
	from := 0
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			i += max(stringLen(data[i:]), 1) - 1
		case 'N', 'I', '-':
			if n := bareWord(data[i:]); n > 0 {
				plain = append(append(plain, data[from:i]...), "null"...)
				from = i + n
				i = from - 1
			}
		}
	}
	return append(plain, data[from:]...)
}

// bareWord is the length of the bare word that data begins with; 0 when it begins with none.
func bareWord(data []byte) int {
	for _, word := range []string{"NaN", "Infinity", "-Infinity"} {
		if bytes.HasPrefix(data, []byte(word)) {
			return len(word)
		}
	}
	return 0
}

func jsonError(err error) string {
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) {
		return "field " + strings.TrimPrefix(wrongType.Field, "Spec.") + " must be " + expected(wrongType.Type) + ", not a " + wrongType.Value
	}
	return strings.TrimPrefix(err.Error(), "json: ")
}

// expected says what a field of a type takes.
func expected(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[Duration]():
		return `a duration such as "90s"`
	case t.Kind() == reflect.String:
		return "a string"
	case t.Kind() == reflect.Slice:
		return "a list"
	case t.Kind() == reflect.Struct:
		return "an object"
	}
	return "a whole number"
}

func badAttempts(n int) error {
	return invalidf("max_attempts is %d: use 1 to %d, or leave it out for %d", n, maxAttempts, failure.DefaultMaxAttempts)
}
