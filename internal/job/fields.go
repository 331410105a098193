package job

import "bytes"

// fields are the values that tell the three bodies apart.
type fields struct {
	workflow, prompt span
}

// span is where a value stands in a body; it is empty when there is none.
type span struct{ from, to int }

func (s span) of(body []byte) []byte { return body[s.from:s.to] }

// seemsBare guesses by the first field of a JSON object whether it is a workflow.
func seemsBare(body []byte) bool {
	key, rest, _ := cutString(bytes.TrimLeft(body[1:], " \t\r\n"))
	rest = bytes.TrimLeft(rest, " \t\r\n:")
	return len(rest) > 0 && rest[0] == '{' && string(key) != "workflow" && string(key) != "prompt"
}

// topLevel finds the two fields among the keys of a JSON object without decoding the rest, which is most of what a
// body holds and is parsed once, as a workflow. It is lenient: false means that the body is malformed, but true does
// not mean that it is well-formed. The last of several equal keys wins.
func topLevel(body []byte) (fields, bool) {
	var f fields
	rest := bytes.TrimLeft(body[1:], " \t\r\n")
	if len(rest) > 0 && rest[0] == '}' {
		return f, true
	}
	for {
		key, after, ok := cutString(rest)
		if !ok {
			return f, false
		}
		after = bytes.TrimLeft(after, " \t\r\n")
		if len(after) == 0 || after[0] != ':' {
			return f, false
		}
		after = bytes.TrimLeft(after[1:], " \t\r\n")
		n := valueLen(after)
		if n == 0 {
			return f, false
		}
		from := len(body) - len(after)
		switch string(key) {
		case "workflow":
			f.workflow = span{from, from + n}
		case "prompt":
			f.prompt = span{from, from + n}
		}
		rest = bytes.TrimLeft(after[n:], " \t\r\n")
		if len(rest) == 0 || rest[0] != ',' {
			return f, len(rest) > 0 && rest[0] == '}'
		}
		rest = bytes.TrimLeft(rest[1:], " \t\r\n")
	}
}

// cutString takes a JSON string off the front; the key comes without quotes and with its escapes.
func cutString(b []byte) (inside, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != '"' {
		return nil, nil, false
	}
	n := stringLen(b)
	if n == 0 {
		return nil, nil, false
	}
	return b[1 : n-1], b[n:], true
}

// stringLen is the length of the string at the front with its quotes, 0 when it does not end.
func stringLen(b []byte) int {
	for i := 1; i < len(b); {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return 0
		}
		i += n + 1
		escapes := 0
		for k := i - 2; k > 0 && b[k] == '\\'; k-- {
			escapes++
		}
		if escapes%2 == 0 {
			return i
		}
	}
	return 0
}

// valueLen is the length of the JSON value at the front, 0 when it does not end.
func valueLen(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			n := stringLen(b[i:])
			if n == 0 {
				return 0
			}
			i += n - 1
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth <= 0 {
				return i + 1 + depth // below zero, the bracket belongs to what stands around the value
			}
		case ',':
			if depth == 0 {
				return i
			}
		}
	}
	return 0
}
