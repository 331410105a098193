package comfy

import (
	"encoding/json"
	"strings"
)

// list is the list of an input in /object_info.
type list struct {
	texts   []string
	numbers []float64 // and booleans: to Python true is 1 and false 0
	open    bool      // the input takes more than it lists
}

// readList reads the list of an input in both shapes of /object_info:
// [[choices], {…}] and ["COMBO", {"options": [choices], …}]. enumerated is false
// for inputs that have none. What is neither text, number nor boolean is left
// out. An input whose files can be uploaded lists those that were there when it
// was asked, and takes others.
func readList(config json.RawMessage) (l list, enumerated bool) {
	var parts []json.RawMessage
	if decode(config, &parts) != nil || len(parts) == 0 {
		return list{}, false
	}
	var settings map[string]json.RawMessage
	if len(parts) > 1 {
		_ = decode(parts[1], &settings) // it is JSON, and one of another form sets nothing
	}
	for name, value := range settings {
		if (strings.HasSuffix(name, "_upload") || name == "upload") && string(value) == "true" {
			l.open = true
		}
	}
	if l.read(parts[0]) {
		return l, true
	}
	var kind string
	if json.Unmarshal(parts[0], &kind) != nil || kind != "COMBO" {
		return list{}, false
	}
	enumerated = l.read(settings["options"]) // before the return, which may copy l first
	return l, enumerated
}

// read says whether raw is an array, and takes its values.
func (l *list) read(raw json.RawMessage) bool {
	var entries []any
	if json.Unmarshal(raw, &entries) != nil || entries == nil {
		return false
	}
	for _, entry := range entries {
		switch value := entry.(type) {
		case string:
			l.texts = append(l.texts, value)
		case float64:
			l.numbers = append(l.numbers, value)
		case bool:
			number := 0.0
			if value {
				number = 1
			}
			l.numbers = append(l.numbers, number)
		}
	}
	return true
}
