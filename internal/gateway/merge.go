package gateway

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"
)

// source is what a group of hosts that are alike answers to one route.
type source struct {
	body    []byte
	classes []classDef // of an object_info, in place of body
	hosts   int        // how many answer this
	time    time.Time  // when the newest of them was asked
}

// classDef is a class of nodes with its definition.
type classDef struct {
	class string
	def   json.RawMessage
}

// parseClasses reads an object_info. A damaged end leaves the classes before it.
func parseClasses(body []byte) []classDef {
	var all []classDef
	_ = members(plainJSON(body), func(class string, def json.RawMessage) error {
		all = append(all, classDef{class, def})
		return nil
	})
	return all
}

// byWeight orders sources: what most hosts say first, then what is newest.
func byWeight(a, b source) int {
	if a.hosts != b.hosts {
		return b.hosts - a.hosts
	}
	return b.time.Compare(a.time)
}

// classes is an object_info: the definitions by class, and the classes in their order.
type classes struct {
	order []string
	defs  map[string]json.RawMessage
}

// mergeClasses unites the object_info of hosts. Of each class it takes the definition that most hosts share, and unites the choices of
// its inputs, so that a client may choose what any host has.
func mergeClasses(sources []source) classes {
	merged := classes{defs: map[string]json.RawMessage{}}
	slices.SortStableFunc(sources, byWeight)
	variants := map[string][]source{}
	for _, s := range sources {
		for _, c := range s.classes {
			if variants[c.class] == nil {
				merged.order = append(merged.order, c.class)
			}
			variants[c.class] = addVariant(variants[c.class], source{body: c.def, hosts: s.hosts, time: s.time})
		}
	}
	for class, of := range variants {
		slices.SortStableFunc(of, byWeight)
		merged.defs[class] = mergeClass(of)
	}
	return merged
}

func addVariant(variants []source, s source) []source {
	for i := range variants {
		if bytes.Equal(variants[i].body, s.body) {
			variants[i].hosts += s.hosts
			if s.time.After(variants[i].time) {
				variants[i].time = s.time
			}
			return variants
		}
	}
	return append(variants, s)
}

// mergeClass is the first definition with the choices of all.
func mergeClass(variants []source) json.RawMessage {
	base := variants[0].body
	if len(variants) == 1 && !bytes.Contains(base, []byte(`\\`)) {
		return base
	}
	offered := map[string][]string{} // by section and input: what further hosts offer
	for _, v := range variants[1:] {
		eachInput(v.body, func(section, input string, spec json.RawMessage) json.RawMessage {
			if list, _, is := choicesOf(spec); is {
				offered[section+"/"+input] = append(offered[section+"/"+input], list...)
			}
			return spec
		})
	}
	return eachInput(base, func(section, input string, spec json.RawMessage) json.RawMessage {
		list, replace, is := choicesOf(spec)
		if !is {
			return spec
		}
		return replace(unite(list, offered[section+"/"+input]))
	})
}

// eachInput gives a definition with its inputs as change returns them; all else keeps its bytes and order.
func eachInput(def json.RawMessage, change func(section, input string, spec json.RawMessage) json.RawMessage) json.RawMessage {
	return changed(def, func(name string, value json.RawMessage) json.RawMessage {
		if name != "input" {
			return value
		}
		return changed(value, func(section string, inputs json.RawMessage) json.RawMessage {
			if section != "required" && section != "optional" {
				return inputs
			}
			return changed(inputs, func(input string, spec json.RawMessage) json.RawMessage { return change(section, input, spec) })
		})
	})
}

// changed is a JSON object with other values; one that is none is given back as it is.
func changed(object json.RawMessage, change func(name string, value json.RawMessage) json.RawMessage) json.RawMessage {
	out := []byte{'{'}
	err := members(object, func(name string, value json.RawMessage) error {
		if len(out) > 1 {
			out = append(out, ", "...)
		}
		out = append(append(out, encode(name)...), ": "...)
		out = append(out, change(name, value)...)
		return nil
	})
	if err != nil {
		return object
	}
	return append(out, '}')
}

// choicesOf are the choices of an input, in either of ComfyUI's two forms: [["a", "b"], {…}] and ["COMBO", {"options": ["a", "b"]}]. replace
// gives the input with others, in the same form. false when it is no list of texts.
func choicesOf(spec json.RawMessage) (list []string, replace func([]string) json.RawMessage, is bool) {
	var parts []json.RawMessage
	if json.Unmarshal(spec, &parts) != nil || len(parts) == 0 {
		return nil, nil, false
	}
	if texts(parts[0], &list) {
		return list, func(others []string) json.RawMessage {
			return encode(append([]json.RawMessage{encode(others)}, parts[1:]...))
		}, true
	}
	var kind string
	if len(parts) < 2 || json.Unmarshal(parts[0], &kind) != nil || kind != "COMBO" {
		return nil, nil, false
	}
	_ = members(parts[1], func(name string, value json.RawMessage) error {
		is = is || name == "options" && texts(value, &list)
		return nil
	})
	return list, func(others []string) json.RawMessage {
		options := changed(parts[1], func(name string, value json.RawMessage) json.RawMessage {
			if name == "options" {
				return encode(others)
			}
			return value
		})
		return encode(append([]json.RawMessage{parts[0], options}, parts[2:]...))
	}, is
}

// texts reads a list of texts; false for any other value, and null.
func texts(raw json.RawMessage, into *[]string) bool {
	var list []string
	if len(raw) == 0 || raw[0] != '[' || json.Unmarshal(raw, &list) != nil {
		return false
	}
	*into = list
	return true
}

// unite gives the first list as it is, and of the others what is not in it, sorted. A file is one choice however a host writes its
// path; it is written with slashes, since SwarmUI writes all paths with backslashes when one has them.
func unite(first, others []string) []string {
	united := make([]string, 0, len(first))
	seen := map[string]bool{}
	for _, text := range first {
		text = slashed(text)
		if !seen[text] {
			seen[text] = true
			united = append(united, text)
		}
	}
	more := map[string]bool{}
	for _, text := range others {
		if text = slashed(text); !seen[text] {
			more[text] = true
		}
	}
	return append(united, slices.Sorted(maps.Keys(more))...)
}

// slashed writes the path of a file with slashes; a text that is none keeps its backslashes.
func slashed(text string) string {
	if !strings.Contains(text, `\`) || strings.ContainsAny(text, "\n\t") {
		return text
	}
	return strings.ReplaceAll(text, `\`, "/")
}

// mergeLists unites answers that are lists of texts.
func mergeLists(sources []source) []string {
	slices.SortStableFunc(sources, byWeight)
	var first, others []string
	for i, s := range sources {
		var list []string
		if !texts(bytes.TrimSpace(s.body), &list) {
			continue
		}
		if i == 0 {
			first = list
		} else {
			others = append(others, list...)
		}
	}
	return unite(first, others)
}
