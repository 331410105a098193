package comfysim

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"slices"
)

// node is one node of a submitted graph. A class_type that is no string is nil here.
type node struct {
	id        string
	class     any // string, nil or absent (see hasClass)
	hasClass  bool
	title     string
	inputs    map[string]any // numbers are json.Number, links are []any
	hasInputs bool
	order     []string // names of inputs in the order of the document
}

func (n *node) className() string {
	name, _ := n.class.(string)
	return name
}

// graph is a prompt in the order of its document, as Python's dict keeps it.
type graph struct {
	raw   json.RawMessage
	order []string
	nodes map[string]*node
}

// errMalformed is a request that makes the real server answer 500.
var errMalformed = errors.New("malformed prompt")

// parseGraph reads a prompt. It fails with errMalformed where the real server raises before it validates anything.
func parseGraph(raw json.RawMessage) (*graph, error) {
	keys, fields, err := orderedObject(raw)
	if err != nil {
		return nil, errMalformed
	}
	g := &graph{raw: raw, nodes: make(map[string]*node, len(keys))}
	for _, id := range keys {
		n, err := parseNode(id, fields[id])
		if err != nil {
			return nil, err
		}
		g.nodes[id] = n
		g.order = append(g.order, id)
	}
	return g, nil
}

func parseNode(id string, raw json.RawMessage) (*node, error) {
	_, fields, err := orderedObject(raw)
	if err != nil {
		return nil, errMalformed
	}
	n := &node{id: id}
	if class, ok := fields["class_type"]; ok {
		n.hasClass = true
		if n.class, err = decode(class); err != nil {
			return nil, errMalformed
		}
	}
	var meta struct{ Title string }
	if m, ok := fields["_meta"]; ok && json.Unmarshal(m, &meta) == nil {
		n.title = meta.Title
	}
	inputs, ok := fields["inputs"]
	if !ok {
		return n, nil
	}
	names, values, err := orderedObject(inputs)
	if err != nil {
		return nil, errMalformed
	}
	n.hasInputs, n.order, n.inputs = true, names, make(map[string]any, len(names))
	for _, name := range names {
		if n.inputs[name], err = decode(values[name]); err != nil {
			return nil, errMalformed
		}
	}
	return n, nil
}

// link returns the source of an input that has the shape of a link: [string, number].
func link(value any) (id string, slot int, ok bool) {
	list, isList := value.([]any)
	if !isList || len(list) != 2 {
		return "", 0, false
	}
	id, isString := list[0].(string)
	number, isNumber := list[1].(json.Number)
	if !isString || !isNumber {
		return "", 0, false
	}
	at, err := number.Int64()
	return id, int(at), err == nil
}

// orderedObject splits a JSON object into its keys, in order, and their raw values. The last of equal keys counts.
func orderedObject(raw json.RawMessage) ([]string, map[string]json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	open, err := dec.Token()
	if err != nil || open != json.Delim('{') {
		return nil, nil, errors.New("not an object")
	}
	var keys []string
	fields := map[string]json.RawMessage{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return nil, nil, err
		}
		key, _ := token.(string)
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, nil, err
		}
		if _, twice := fields[key]; twice {
			keys = slices.DeleteFunc(keys, func(k string) bool { return k == key })
		}
		keys, fields[key] = append(keys, key), value
	}
	_, err = dec.Token()
	return keys, fields, err
}

// strict writes 0 for the numbers that Python reads and JSON lacks. No node here can tell them from 0.
func strict(body []byte) []byte {
	if json.Valid(body) {
		return body
	}
	return stringOrWord.ReplaceAllFunc(body, func(found []byte) []byte {
		if found[0] == '"' {
			return found
		}
		return []byte("0")
	})
}

var stringOrWord = regexp.MustCompile(`(?s)"(?:[^"\\]|\\.)*"|NaN|-?Infinity`)

// decode reads one JSON value with exact numbers.
func decode(raw []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("more than one value")
	}
	return v, nil
}
