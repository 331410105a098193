package job

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

const extraDataField = "extra_data"

// mentioned finds the field's name in any case. It searches the bytes themselves: bytes.ToLower makes three bytes of one that is not UTF-8.
var mentioned = regexp.MustCompile("(?i)" + extraDataField)

// public are the members of extra_data that hold no secret: ComfyUI writes the first into every picture.
var public = map[string]bool{"extra_pnginfo": true, "client_id": true, "create_time": true, "preview_method": true}

// PublicExtraData reports whether a member of extra_data holds no secret, so that a job may run again without it.
func PublicExtraData(member string) bool { return public[member] }

// WithoutExtraData is a job's body as a dead letter keeps it: without its extra_data, which may hold keys, and with the
// names of the members that extra_data had. All other bytes stay as they are. A body that is no JSON object is cut before
// the first mention of extra_data, since its end cannot be found; then the only name is "extra_data".
func WithoutExtraData(body []byte) (rest []byte, members []string) {
	from, to, value := findExtraData(body)
	if from == to {
		return body, nil
	}
	rest = append(append(make([]byte, 0, len(body)), body[:from]...), body[to:]...)
	further, more := WithoutExtraData(rest) // a field may be there twice
	return further, append(membersOf(value), more...)
}

// HasExtraData reports whether a job's body has extra_data.
func HasExtraData(body []byte) bool {
	from, to, _ := findExtraData(body)
	return from != to
}

// WithExtraData is a job's body with an extra_data, which must be a JSON object. The body must have none, and be one that
// ParseSpec takes.
func WithExtraData(body []byte, extra json.RawMessage) []byte {
	body = trim(body)
	top, ok := topLevel(body)
	if !ok {
		return body
	}
	field := append(append([]byte(`{"`+extraDataField+`":`), extra...), ',')
	if top.graph(body) == (span{}) { // a bare workflow
		return append(append(append(field, `"workflow":`...), body...), '}')
	}
	return append(field, body[1:]...)
}

// hostFields say which hosts a job may have.
var hostFields = map[string]bool{`"prefer_hosts"`: true, `"only_hosts"`: true, `"exclude_hosts"`: true}

// WithOnlyHosts is a job's body that may run on these hosts only, whatever it said of hosts. All other bytes stay as they are. The body
// must be one that ParseSpec takes.
func WithOnlyHosts(body []byte, only []string) []byte {
	body = trim(body)
	top, ok := topLevel(body)
	if !ok {
		return body
	}
	names, _ := json.Marshal(only) // strings can always be encoded
	field := append(append([]byte(`{"only_hosts":`), names...), ',')
	if top.graph(body) == (span{}) { // a bare workflow
		return append(append(append(field, `"workflow":`...), body...), '}')
	}
	for again := true; again; {
		again = false
		for walk := (members{body: body, pos: 1}); !again && walk.next(); {
			if again = hostFields[string(walk.key)]; again {
				from, to := walk.without()
				body = append(append(make([]byte, 0, len(body)), body[:from]...), body[to:]...)
			}
		}
	}
	return append(field, body[1:]...)
}

// Secrets are the texts in an extra_data that only ComfyUI may see, the longest first: every string that is long
// enough to be a key.
func Secrets(extra json.RawMessage) []string {
	var members map[string]any
	if json.Unmarshal(extra, &members) != nil {
		return nil
	}
	var found []string
	for name, value := range members {
		if !public[name] {
			found = appendTexts(found, value)
		}
	}
	slices.SortFunc(found, func(a, b string) int { return len(b) - len(a) })
	return found
}

// shortestSecret is how many bytes a key has at least; shorter texts may be common words, which are in other texts too.
const shortestSecret = 8

func appendTexts(found []string, value any) []string {
	switch v := value.(type) {
	case string:
		if len(v) >= shortestSecret {
			found = append(found, v)
		}
	case []any:
		for _, inner := range v {
			found = appendTexts(found, inner)
		}
	case map[string]any:
		for _, inner := range v {
			found = appendTexts(found, inner)
		}
	}
	return found
}

// findExtraData finds the bytes to leave out: a member of the object with its comma, and its value; of what is no object all
// from the first mention on, without a value.
func findExtraData(body []byte) (from, to int, value []byte) {
	start := len(body) - len(bytes.TrimLeft(bytes.TrimPrefix(bytes.TrimLeft(body, space), []byte("\xef\xbb\xbf")), space))
	if start == len(body) || body[start] != '{' {
		return mention(body)
	}
	from, to, value, end := findMember(body, start)
	if from == to { // what comes after the object is no part of it
		from, to, _ = mention(body[end:])
		return end + from, end + to, nil
	}
	return from, to, value
}

// findMember finds it in the object that begins at start, and in one that was put into its workflow or prompt by mistake.
// end is where the object ends, 0 when it cannot be read that far.
func findMember(body []byte, start int) (from, to int, value []byte, end int) {
	walk := members{body: body, pos: start + 1}
	var inner []span
	for walk.next() {
		v := walk.value.of(body)
		if isExtraData(walk.key) && isContainer(v) {
			from, to = walk.without()
			return from, to, v, to
		}
		if key := string(walk.key); key == `"workflow"` || key == `"prompt"` {
			inner = append(inner, walk.value)
		}
	}
	if !walk.ended {
		return 0, 0, nil, 0
	}
	for _, one := range inner {
		if from, to, value, _ = findMember(body[:one.to], one.from); from != to {
			return from, to, value, to
		}
	}
	return 0, 0, nil, walk.pos
}

func mention(body []byte) (from, to int, value []byte) {
	at := mentioned.FindIndex(body)
	if at == nil {
		return 0, 0, nil
	}
	return at[0], len(body), nil
}

// isExtraData reads a key as encoding/json does, to which "Extra_Data" is the same field.
func isExtraData(quoted []byte) bool {
	if len(quoted) != len(extraDataField)+2 && !bytes.ContainsRune(quoted, '\\') {
		return false
	}
	var key string
	return json.Unmarshal(quoted, &key) == nil && strings.EqualFold(key, extraDataField)
}

func membersOf(value []byte) []string {
	var inner map[string]json.RawMessage
	if json.Unmarshal(value, &inner) != nil {
		return []string{extraDataField}
	}
	names := make([]string, 0, len(inner))
	for name := range inner {
		names = append(names, name)
	}
	return names
}

// HasAPIKeys reports whether keys were given to the fleet for a job, by its body.
func HasAPIKeys(body []byte) bool {
	const field = `"api_keys"`
	if !bytes.Contains(body, []byte(`_keys"`)) { // as File does
		return false
	}
	body = trim(body)
	if len(body) == 0 || body[0] != '{' {
		return false
	}
	walk := members{body: body, pos: 1}
	for walk.next() {
		if string(walk.key) == field && string(walk.value.of(body)) == "true" {
			return true
		}
	}
	return false
}

// Members is an extra_data with further members before its own. Both are JSON objects, and either may be empty.
func Members(extra, further json.RawMessage) json.RawMessage {
	inner := func(object json.RawMessage) []byte {
		object = bytes.TrimSpace(object)
		return bytes.TrimSpace(object[min(1, len(object)):max(len(object)-1, min(1, len(object)))])
	}
	first, second := inner(further), inner(extra)
	if len(first) == 0 || len(second) == 0 {
		return slices.Concat([]byte("{"), first, second, []byte("}"))
	}
	return slices.Concat([]byte("{"), first, []byte(","), second, []byte("}"))
}
