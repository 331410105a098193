package workflow_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/comfyherd/comfyherd/internal/workflow"
)

func seedCorpus(f *testing.F) {
	f.Helper()
	for _, v := range readVectors(f, "testdata/hash-vectors.json") {
		f.Add([]byte(v.Workflow))
	}
	f.Add(realistic(f))
	for _, raw := range []string{
		"", "null", "{", `{"a":[[{"b":{}}]]}`, `{"nodes":[],"links":[]}`, `{"\ud83d\ude00":"\ud83d"}`,
		`{"1":{"class_type":"A","inputs":{"x":["1",0],"seed":-1,"filename_prefix":"a\/b"}}}`,
		`{"1":{"class_type":"A","inputs":{"x":[NaN,-Infinity]},"is_changed":[Infinity]}}`,
		`{"1":{"class_type":"A","inputs":{"x":["b\\c.ckpt",-0.0e+1],"y":["z",1e21]}},"2":{"inputs":{"a":true,"b":null}}}`,
	} {
		f.Add([]byte(raw))
	}
}

// FuzzParse: nothing panics; what is accepted is JSON to encoding/json as well,
// and stays the same workflow when it is prepared.
func FuzzParse(f *testing.F) {
	seedCorpus(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		g, err := workflow.Parse(raw)
		if err != nil {
			if err.Error() == "" || !utf8.ValidString(err.Error()) || len(err.Error()) > 2000 {
				t.Fatalf("message %q", err)
			}
			return
		}
		if object, ok := decode(t, g.JSON()).(map[string]any); !ok || len(object) != g.Len() {
			t.Fatalf("encoding/json sees %d nodes, not %d", len(object), g.Len())
		}
		if hash, err := workflow.HashOf(raw); err != nil || hash != g.Hash() {
			t.Fatalf("HashOf = %s, %v; Hash %s", hash, err, g.Hash())
		}
		prepareAll(t, g, raw)
		size, sized := g.Size(), g.SizeWith(func(string) (int, int, bool) { return 64, 64, true })
		if size < 0 || sized < 0 || size > 0 && sized == 0 {
			t.Fatalf("size %d, with pictures %d", size, sized)
		}
		_ = g.Requirements().Missing(workflow.Capability{})
		if missing := (workflow.Capability{}).Lacks(g.Options()); missing != nil {
			t.Fatalf("a host that lists nothing lacks %v", missing)
		}
	})
}

// FuzzCapability: nothing panics; what is read is written again as it was, and
// says of each workflow the same by all its ways.
func FuzzCapability(f *testing.F) {
	c := capability(func(b *workflow.CapabilityBuilder) {
		b.AddClass("Sampler")
		b.AddChoices("Sampler", "scheduler", []string{"simple"}, 8)
	})
	raw, err := c.MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw, wishes)
	f.Add([]byte("cap\x01\x00\x00\x00\x00\x00\x00\x00\x00"), `{"1":{"class_type":"A","inputs":{"x":"a.ckpt","y":-0.0}}}`)
	f.Fuzz(func(t *testing.T, raw []byte, text string) {
		var c workflow.Capability
		if err := c.UnmarshalBinary(raw); err != nil {
			return
		}
		if again, err := c.MarshalBinary(); err != nil || !bytes.Equal(again, raw) {
			t.Fatalf("%x becomes %x, %v", raw, again, err)
		}
		g, err := workflow.Parse([]byte(text))
		if err != nil {
			return
		}
		needs, options := g.Requirements(), g.Options()
		if met := needs.Compile().MetBy(c); met != (needs.Missing(c) == nil) {
			t.Fatalf("MetBy = %t, Missing = %v", met, needs.Missing(c))
		}
		if met := options.MetBy(c); met != (c.Lacks(options) == nil) {
			t.Fatalf("MetBy = %t, Lacks = %v", met, c.Lacks(options))
		}
	})
}

func prepareAll(t *testing.T, g *workflow.Graph, raw []byte) {
	t.Helper()
	same, err := g.Prepare(workflow.Preparation{})
	if err != nil || !bytes.Equal(same.Body, raw) {
		t.Fatalf("Prepare without changes = %q, %v", same.Body, err)
	}
	first := g.Nodes()[0]
	changed, err := g.Prepare(workflow.Preparation{
		Seed: func() uint64 { return math.MaxUint64 }, Prefix: "comfyherd/u", Has: func(string) bool { return len(raw)%2 == 0 },
		SeedLimit: func(_, input string) (uint64, bool) { return 1 << 31, input == "seed" },
		Spell:     func(_, _, file string) string { return strings.ReplaceAll(file, "/", `\`) },
	})
	if err != nil {
		t.Fatal(err)
	}
	// A prefix may look like a model ("a.ckpt"), or be too long for one once it
	// is prefixed; else nothing that Prepare writes is structure.
	again, err := workflow.Parse(changed.Body)
	if err != nil || again.Hash() != g.Hash() && !bytes.Contains(raw, []byte("filename")) && !bytes.Contains(raw, []byte(`\u`)) {
		t.Fatalf("prepared %q: %v", changed.Body, err)
	}
	added, err := g.Prepare(workflow.Preparation{Inputs: map[string]map[string]string{first: {"image": "a\x00", "\"": "b"}}})
	if err != nil || !json.Valid(strict(added.Body)) {
		t.Fatalf("with inputs: %q, %v", added.Body, err)
	}
}

// strict writes 0 for the numbers that only Python reads.
func strict(raw []byte) []byte {
	return stringOrBare.ReplaceAllFunc(raw, func(found []byte) []byte {
		if found[0] == '"' {
			return found
		}
		return []byte("0")
	})
}

var stringOrBare = regexp.MustCompile(`(?s)"(?:[^"\\]|\\.)*"|NaN|-?Infinity`)

var surrogate = regexp.MustCompile(`(?i)\\ud[89a-f]`)

// FuzzHash: HashOf reads the same JSON as encoding/json and hashes it as the
// plain reading of the rules below does.
func FuzzHash(f *testing.F) {
	seedCorpus(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := workflow.HashOf(raw)
		if err != nil {
			object := bytes.HasPrefix(bytes.TrimLeft(raw, " \t\r\n"), []byte("{"))
			plain := utf8.Valid(raw) && !surrogate.Match(raw) && len(raw) < 4300 && bytes.Count(raw, []byte("{"))+bytes.Count(raw, []byte("[")) <= 200
			if object && plain && json.Valid(raw) {
				t.Fatalf("HashOf(%q) = %v, yet it is a JSON object", raw, err)
			}
			return
		}
		workflowObject, ok := decode(t, strict(raw)).(map[string]any)
		if want := sha(canonical(workflowObject)); !ok || got != want {
			t.Fatalf("HashOf(%q) = %s; want %s of %s", raw, got, want, canonical(workflowObject))
		}
	})
}

// canonical is the rule of the hash in its plainest form, without regard to speed.
func canonical(nodes map[string]any) string {
	structure := make(map[string]string)
	for id, v := range nodes {
		n, _ := v.(map[string]any)
		class := "null"
		if c, ok := n["class_type"].(string); ok {
			class = stringify(c)
		}
		inputs, _ := n["inputs"].(map[string]any)
		structure[id] = `{"class_type":` + class + `,"inputs":` + reduce(mapOf(inputs)) + `}`
	}
	return object(structure)
}

func mapOf(m map[string]any) any {
	if m == nil {
		return map[string]any{}
	}
	return m
}

var modelName = regexp.MustCompile(`(?i)^[^\r\n]*\.(safetensors|sft|ckpt|pt|pth|bin|gguf|onnx|pkl|npz|vae|yaml|yml)$`)

func reduce(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return `"boolean"`
	case json.Number:
		return `"number"`
	case string:
		if len(v) <= 255 && modelName.MatchString(v) && !strings.ContainsAny(v, "\u017f\u212a") { // Go folds these two to s and k
			return stringify(strings.ReplaceAll(v, `\`, "/"))
		}
		return `""`
	case map[string]any:
		members := make(map[string]string)
		for name, member := range v {
			members[name] = reduce(member)
		}
		return object(members)
	case []any:
		if slot, ok := slotOf(v); ok {
			return "[" + stringify(v[0].(string)) + "," + slot + "]"
		}
		elements := make([]string, len(v))
		for i, element := range v {
			elements[i] = reduce(element)
		}
		return "[" + strings.Join(elements, ",") + "]"
	}
	panic("no JSON")
}

func slotOf(v []any) (string, bool) {
	if len(v) != 2 {
		return "", false
	}
	_, text := v[0].(string)
	number, ok := v[1].(json.Number)
	if !text || !ok {
		return "", false
	}
	f, _ := number.Float64()
	if math.IsInf(f, 0) || f < 0 || f != math.Floor(f) {
		return "", false
	}
	raw, err := json.Marshal(math.Abs(f)) // encoding/json follows ES6 for numbers
	return string(raw), err == nil
}

func object(members map[string]string) string {
	names := slices.SortedFunc(maps.Keys(members), func(a, b string) int {
		i, j := arrayIndex(a), arrayIndex(b)
		return cmp.Or(cmp.Compare(i, j), slices.Compare(utf16.Encode([]rune(a)), utf16.Encode([]rune(b))))
	})
	for i, name := range names {
		names[i] = stringify(name) + ":" + members[name]
	}
	return "{" + strings.Join(names, ",") + "}"
}

// arrayIndex is the largest number there is for names that are no array index.
func arrayIndex(name string) uint64 {
	n, err := strconv.ParseUint(name, 10, 64)
	if err != nil || n >= math.MaxUint32 || strconv.FormatUint(n, 10) != name {
		return math.MaxUint64
	}
	return n
}

func stringify(s string) string {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(s); err != nil {
		panic(err)
	}
	// encoding/json escapes U+2028 and U+2029, JSON.stringify does not.
	return escape.ReplaceAllStringFunc(strings.TrimSuffix(b.String(), "\n"), func(e string) string {
		switch e {
		case `\u2028`:
			return "\u2028"
		case `\u2029`:
			return "\u2029"
		}
		return e
	})
}

var escape = regexp.MustCompile(`\\(u....|.)`)
