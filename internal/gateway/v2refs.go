package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
)

// assetTag is the __type of a reference to an asset in a workflow, in place of a file's name.
const assetTag = "core/ASSET"

// inputValue is a value of a node's input, and where it is in the workflow's bytes.
type inputValue struct {
	node, input string
	raw         json.RawMessage
	from, to    int
}

// valuesOf lists the values of all inputs of a workflow, in its order. What has not the form of a workflow is left out, since
// workflow.Parse refuses it.
func valuesOf(workflow []byte) ([]inputValue, error) {
	var found []inputValue
	err := eachMember(workflow, 0, func(node string, raw json.RawMessage, at int) error {
		return eachMember(raw, at, func(name string, inputs json.RawMessage, at int) error {
			if name != "inputs" {
				return nil
			}
			return eachMember(inputs, at, func(input string, raw json.RawMessage, at int) error {
				found = append(found, inputValue{node: node, input: input, raw: raw, from: at, to: at + len(raw)})
				return nil
			})
		})
	})
	return found, err
}

// eachMember calls visit with the members of a JSON object that begins at an offset of the whole; of another value with none.
func eachMember(object json.RawMessage, at int, visit func(name string, value json.RawMessage, at int) error) error {
	decoder := json.NewDecoder(bytes.NewReader(object))
	if open, err := decoder.Token(); err != nil || open != json.Delim('{') {
		return err
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return err
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return err
		}
		text, _ := name.(string) // a name in an object is always a string
		if err := visit(text, value, at+int(decoder.InputOffset())-len(value)); err != nil {
			return err
		}
	}
	return nil
}

// referenceOf reads a reference to an asset; tagged says that the value has the tag of a reference, also when it is malformed and
// id is empty.
func referenceOf(raw json.RawMessage) (id string, tagged bool) {
	if !bytes.Contains(raw, []byte(assetTag)) && !bytes.Contains(raw, []byte(`core\/ASSET`)) {
		return "", false
	}
	var value any
	if json.Unmarshal(raw, &value) != nil || !isTagged(value) {
		return "", false
	}
	var reference struct {
		Type string `json:"__type"`
		Info struct {
			ID string `json:"id"`
		} `json:"info"`
	}
	if json.Unmarshal(raw, &reference) != nil || reference.Type != assetTag {
		return "", true // it is inside of another value, where no file can be put
	}
	return reference.Info.ID, true
}

// isTagged looks for the tag in a value and in what it contains.
func isTagged(value any) bool {
	switch v := value.(type) {
	case map[string]any:
		if v["__type"] == assetTag {
			return true
		}
		for _, inner := range v {
			if isTagged(inner) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, isTagged)
	}
	return false
}

// fileNameOf reads a value as the name of a file that may have been uploaded, or as a hash.
func fileNameOf(v inputValue) (text string, is bool) {
	if len(v.raw) == 0 || v.raw[0] != '"' || v.input == "filename_prefix" || json.Unmarshal(v.raw, &text) != nil {
		return "", false
	}
	if _, hash := hashOf(text); hash {
		return text, true
	}
	return text, namesFile(text)
}

// replaced is a workflow in which texts replace the values at some places, which are in the workflow's order.
func replaced(workflow []byte, values []inputValue, texts []string) ([]byte, error) {
	var out []byte
	from := 0
	for i, v := range values {
		text, err := json.Marshal(texts[i])
		if err != nil {
			return nil, fmt.Errorf("write %q into the workflow: %w", texts[i], err)
		}
		out = append(append(out, workflow[from:v.from]...), text...)
		from = v.to
	}
	return append(out, workflow[from:]...), nil
}

// inUIFormat reports whether a workflow is one that ComfyUI's page saves, which is no graph of API format.
func inUIFormat(workflow json.RawMessage) bool {
	var saved struct {
		Nodes []json.RawMessage `json:"nodes"`
		Links json.RawMessage   `json:"links"`
	}
	return json.Unmarshal(workflow, &saved) == nil && saved.Nodes != nil && saved.Links != nil
}
