package job

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// misplaced is for a body in which the value that was taken as the workflow is none. It says where else in the body a workflow in
// API format is, and what to do. It is "" when there is none, or when the value that was taken is a workflow with a fault.
func misplaced(body, taken []byte) string {
	var whole, chosen any
	if unmarshal(trim(body), &whole) != nil || unmarshal(taken, &chosen) != nil || isGraph(chosen) {
		return ""
	}
	path, asText := findGraph(whole, "", 4)
	if path == "" {
		return ""
	}
	if asText {
		return fmt.Sprintf(`the workflow is in field %q as text: publish {"workflow":{…}} with that text as an object, or that object alone`, path)
	}
	return fmt.Sprintf(`the workflow is in field %q, where none is looked for: publish {"workflow":{…}} with what is there, or that alone`, path)
}

// isGraph reports whether a value consists of nodes.
func isGraph(v any) bool {
	nodes, _ := v.(map[string]any)
	for _, v := range nodes {
		node, _ := v.(map[string]any)
		if _, is := node["class_type"].(string); is {
			return true
		}
	}
	return false
}

// findGraph looks for a workflow in the fields of v, those on top first.
func findGraph(v any, at string, depth int) (path string, asText bool) {
	members, _ := v.(map[string]any)
	names := slices.Sorted(maps.Keys(members))
	for _, name := range names {
		path := strings.TrimPrefix(at+"."+name, ".")
		if isGraph(members[name]) {
			return path, false
		}
		var inside any
		if text, _ := members[name].(string); unmarshal([]byte(text), &inside) == nil && isGraph(inside) {
			return path, true
		}
	}
	for _, name := range names {
		if depth > 1 {
			if path, asText := findGraph(members[name], strings.TrimPrefix(at+"."+name, "."), depth-1); path != "" {
				return path, asText
			}
		}
	}
	return "", false
}

// UnknownFields lists the fields of an envelope or of ComfyUI's own body that are ignored, each with the known name that
// was probably meant. A bare workflow has none, since each of its fields is a node.
func UnknownFields(body []byte) []string {
	body = trim(body)
	if len(body) == 0 {
		return nil
	}
	top, _ := topLevel(body)
	if top.graph(body) == (span{}) {
		return nil
	}
	var members map[string]any
	if unmarshal(body, &members) != nil {
		return nil
	}
	own := []string{"prompt", "partial_execution_targets"}
	if top.graph(body) == top.prompt {
		own = append(own, "workflow", "client_id", "prompt_id")
	}
	unknown := unknownIn("", members, append(fieldsOf(reflect.TypeFor[Spec]()), own...))
	inputs, _ := members["inputs"].([]any)
	for i, in := range inputs {
		unknown = append(unknown, unknownIn(fmt.Sprintf("inputs[%d].", i), in, fieldsOf(reflect.TypeFor[Input]()))...)
	}
	return append(unknown, unknownIn("timeouts.", members["timeouts"], fieldsOf(reflect.TypeFor[Timeouts]()))...)
}

func fieldsOf(t reflect.Type) []string {
	names := make([]string, t.NumField())
	for i := range names {
		names[i], _, _ = strings.Cut(t.Field(i).Tag.Get("json"), ",")
	}
	return names
}

// unknownIn compares the names of an object as encoding/json does.
func unknownIn(path string, object any, known []string) []string {
	var unknown []string
	members, _ := object.(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if slices.ContainsFunc(known, func(k string) bool { return strings.EqualFold(k, name) }) {
			continue
		}
		text := path + name
		switch meant := Nearest(name, known); {
		case meant != "":
			text += " (did you mean " + meant + "?)"
		case path == "" && (name == "priority" || name == "front" || name == "number"):
			text += " (the priority is the last part of the subject)"
		case path == "" && name == "tenant":
			text += " (the tenant is a part of the subject)"
		}
		unknown = append(unknown, text)
	}
	return unknown
}

// Nearest is the known name that takes the fewest changes of a letter, if these are at most a third of it.
func Nearest(name string, known []string) string {
	best := slices.MinFunc(known, func(a, b string) int { return cmp.Compare(distance(name, a), distance(name, b)) })
	if distance(name, best) > max(len(best)/3, 1) {
		return ""
	}
	return best
}

// distance is how many letters must be inserted, removed or replaced to turn a into b, ignoring case and the characters
// between words.
func distance(a, b string) int {
	plain := func(s string) string {
		return strings.NewReplacer("_", "", "-", "", " ", "").Replace(strings.ToLower(s))
	}
	a, b = plain(a), plain(b)
	if len(a) > 64 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := corner
			if a[i] != b[j] {
				change++
			}
			corner = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
