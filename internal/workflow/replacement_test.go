package workflow_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/workflow"
)

// What ComfyUI answers to GET /node_replacements, shortened.
const replacements = `{
"Longer": [{"new_node_id": "Largest", "old_node_id": "Longer", "old_widget_ids": ["edge"], "input_mapping": [
	{"new_id": "image", "old_id": "images"}, {"new_id": "size", "old_id": "edge"}, {"new_id": "method", "set_value": "lanczos"},
	{"new_id": "crop", "old_id": "absent"}], "output_mapping": [{"new_idx": 2, "old_idx": 1}, {"new_idx": 0, "old_idx": 0}]}],
"Typo": [{"new_node_id": "Right", "old_node_id": "Typo", "old_widget_ids": null, "input_mapping": null, "output_mapping": null},
	{"new_node_id": "Second", "old_node_id": "Typo"}],
"Known": [{"new_node_id": "Never", "old_node_id": "Known"}]}`

func TestNodesAreReplacedAsComfyUIDoes(t *testing.T) {
	t.Parallel()
	var listed map[string][]workflow.Replacement
	if err := json.Unmarshal([]byte(replacements), &listed); err != nil {
		t.Fatal(err)
	}
	lacks := func(class string) (workflow.Replacement, bool) {
		if list := listed[class]; len(list) > 0 && class != "Known" {
			return list[0], true
		}
		return workflow.Replacement{}, false
	}
	for name, tc := range map[string]struct {
		graph, want string
		inputs      map[string]map[string]string
	}{
		"NothingToReplace": {`{"1":{"class_type":"Known","inputs":{}}}`, "", nil},
		"InputsGetNewNamesAndValues": {
			`{"1":{"class_type":"Known","inputs":{}}, "2" : {"inputs": {"edge":  512,"images":["1",0],"other":1}, "class_type": "Longer","_meta":{"title":"x"}}}`,
			`{"1":{"class_type":"Known","inputs":{}}, "2" : {"inputs": {"image":["1",0],"size":512,"method":"lanczos"}, "class_type": "Largest","_meta":{"title":"x"}}}`,
			map[string]map[string]string{"2": {"images": "image", "edge": "size"}},
		},
		"WithoutAMappingInputsStay": {
			`{"1":{"class_type":"Typo","inputs":{"seed":18446744073709551615,"more":[1,2]}}}`,
			`{"1":{"class_type":"Right","inputs":{"seed":18446744073709551615,"more":[1,2]}}}`, map[string]map[string]string{},
		},
		"LinksLeadToTheNewOutputs": {
			`{"a\"":{"class_type":"Longer","inputs":{}},"2":{"class_type":"Known","inputs":{"x":["a\"",1],"y":["a\"",0],"z":["a\"",3],"u":["2x",1]}},"2x":{"class_type":"Longer","inputs":{"images":["a\"",1.0]}}}`,
			`{"a\"":{"class_type":"Largest","inputs":{"method":"lanczos"}},"2":{"class_type":"Known","inputs":{"x":["a\"",2],"y":["a\"",0],"z":["a\"",3],"u":["2x",2]}},"2x":{"class_type":"Largest","inputs":{"image":["a\"",2],"method":"lanczos"}}}`,
			map[string]map[string]string{`a"`: {}, "2x": {"images": "image"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			graph, err := workflow.Parse([]byte(tc.graph))
			if err != nil {
				t.Fatal(err)
			}
			replaced, err := graph.Replace(lacks)
			if err != nil {
				t.Fatal(err)
			}
			if tc.want == "" {
				if replaced != nil {
					t.Errorf("replaced: %s", replaced.Graph.Raw())
				}
				return
			}
			if diff := cmp.Diff(tc.want, string(replaced.Graph.Raw())); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tc.inputs, replaced.Inputs); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAReplacementThatMakesNoWorkflowIsAnError(t *testing.T) {
	t.Parallel()
	graph, err := workflow.Parse([]byte(`{"1":{"class_type":"Old","inputs":{"a":1}}}`))
	if err != nil {
		t.Fatal(err)
	}
	toItself := workflow.Replacement{Class: "New", Inputs: []workflow.InputMapping{{New: "b", Value: json.RawMessage(`["1",0]`)}}}
	if _, err := graph.Replace(func(string) (workflow.Replacement, bool) { return toItself, true }); err == nil {
		t.Error("a node that links to itself was taken")
	}
}
