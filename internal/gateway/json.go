package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
)

// plainJSON replaces the words NaN, Infinity and -Infinity outside of texts by null: Python's json writes them, and JSON has none of
// them. A body without them is given back as it is.
func plainJSON(body []byte) []byte {
	if !bytes.Contains(body, []byte("NaN")) && !bytes.Contains(body, []byte("Infinity")) {
		return body
	}
	out := make([]byte, 0, len(body))
	for i := 0; i < len(body); {
		if body[i] == '"' {
			end := i + textLength(body[i:])
			out = append(out, body[i:end]...)
			i = end
			continue
		}
		if n := wordLength(body[i:]); n > 0 {
			out = append(out, "null"...)
			i += n
			continue
		}
		out = append(out, body[i])
		i++
	}
	return out
}

// textLength is the length of the text in quotes with which b begins; all of b when it does not end.
func textLength(b []byte) int {
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

func wordLength(b []byte) int {
	for _, word := range []string{"NaN", "Infinity", "-Infinity"} {
		if bytes.HasPrefix(b, []byte(word)) {
			return len(word)
		}
	}
	return 0
}

// decode reads JSON as Python writes it.
func decode(body []byte, into any) error { return json.Unmarshal(plainJSON(body), into) }

// present reports whether a member was given and is not null.
func present(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

// members gives the members of a JSON object in their order, each with its value as it was written.
func members(object []byte, tell func(name string, value json.RawMessage) error) error {
	d := json.NewDecoder(bytes.NewReader(object))
	open, err := d.Token()
	if err != nil {
		return err
	}
	if open != json.Delim('{') {
		return errors.New("it is no JSON object")
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return err
		}
		text, _ := name.(string)
		if err := tell(text, value); err != nil {
			return err
		}
	}
	return nil
}

// encode is a value in JSON; HTML in texts stays as it is, as in Python's JSON.
func encode(value any) []byte {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return []byte("null")
	}
	return bytes.TrimSuffix(body.Bytes(), []byte("\n"))
}
