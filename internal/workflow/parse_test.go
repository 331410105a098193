package workflow_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/workflow"
)

func parse(t testing.TB, raw string) *workflow.Graph {
	t.Helper()
	g, err := workflow.Parse([]byte(raw))
	if err != nil {
		t.Fatalf("parse %.200s: %v", raw, err)
	}
	return g
}

const advice = `export it again with "Workflow → Export (API)" in ComfyUI's menu`

func TestParseReadsTheGraph(t *testing.T) {
	t.Parallel()
	raw := ` {"b":{"class_type":"B","inputs":{"x":["10",0]}}, "10":{"class_type":"Ä\u0021","inputs":{}},"9":{"inputs":{},"class_type":"N"}}` + "\n"
	g := parse(t, raw)
	if diff := cmp.Diff([]string{"9", "10", "b"}, g.Nodes()); diff != "" {
		t.Error(diff)
	}
	if g.Len() != 3 || string(g.Raw()) != raw || !g.Hash().Valid() {
		t.Errorf("Len %d, Raw %q, Hash %q", g.Len(), g.Raw(), g.Hash())
	}
	if g.ClassOf("10") != "Ä!" || g.ClassOf("11") != "" {
		t.Errorf("classes %q, %q", g.ClassOf("10"), g.ClassOf("11"))
	}
}

func TestParsedGraphKeepsNothingOfItsInput(t *testing.T) {
	t.Parallel()
	raw := []byte(`{"1":{"class_type":"A","inputs":{}}}`)
	g := parse(t, string(raw))
	g.Raw()[2] = 'x'
	if string(g.Raw()) != string(raw) || g.Nodes()[0] != "1" {
		t.Fatalf("writing to Raw changed the graph to %s", g.Raw())
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	notJSON := func(where, what string) string {
		return "the workflow is not valid JSON: " + where + ": " + what + "; " + advice
	}
	cases := []struct{ name, raw, node, message string }{
		{"Empty", "", "", "the workflow is empty; send the JSON of a workflow: " + advice},
		{"OnlySpace", " \n", "", "the workflow is empty; send the JSON of a workflow: " + advice},
		{"ListWithoutComma", `{"1":[1 2]}`, "", notJSON("line 1, column 9", "a comma or ] is expected")},
		{"NoSpace", "\x00", "", notJSON("line 1, column 1", "a value is expected")},
		{"Junk", "hello", "", notJSON("line 1, column 1", "a value is expected")},
		{"CutOff", "{\"1\":\n {\"cl", "", notJSON("line 2, column 6", "it ends in the middle")},
		{"TrailingText", "{} x", "", notJSON("line 1, column 4", "there is more after the end of the workflow")},
		{"TrailingComma", `{"1":{},}`, "", notJSON("line 1, column 9", "a name in double quotes is expected")},
		{"ByteOrderMark", "\ufeff{}", "", notJSON("line 1, column 1", "it begins with a byte order mark; save it as UTF-8 without BOM")},
		{"InvalidUTF8", "{\"\xff\":1}", "", notJSON("line 1, column 2", "a string is not valid UTF-8")},
		{"EncodedSurrogate", "{\"\xed\xa0\x80\":1}", "", notJSON("line 1, column 2", "a string is not valid UTF-8")},
		{"LoneHighSurrogate", `{"\ud83d":1}`, "", notJSON("line 1, column 8", `\ud83d is half a character (a lone surrogate)`)},
		{"LoneLowSurrogate", `{"\uDE00 ":1}`, "", notJSON("line 1, column 8", `\ude00 is half a character (a lone surrogate)`)},
		{"TwoHighSurrogates", `{"\ud83d\ud83d":1}`, "", notJSON("line 1, column 8", `\ud83d is half a character (a lone surrogate)`)},
		{"LineBreakInString", "{\"a\nb\":1}", "", notJSON("line 1, column 4", `a control character is in a string; write it as \u000a`)},
		{"WindowsPath", `{"a":"C:\models"}`, "", notJSON("line 1, column 10", `\m is no escape sequence; write a backslash as \\`)},
		{"HalfOfNaN", `{"a":Na}`, "", notJSON("line 1, column 6", "a value is expected")},
		{"MinusNaN", `{"a":-NaN}`, "", notJSON("line 1, column 6", "a value is expected")},
		{"LongInfinity", `{"a":Infinitys}`, "", notJSON("line 1, column 14", "a comma or } is expected")},
		{"NodeIsNaN", `{"4":NaN}`, "4", `node "4" is a number, not an object with class_type and inputs; ` + advice},
		{"Subgraph", `{"4":{"class_type":"6ba7b810-9dad-11d1-80b4-00C04fd430c8","inputs":{}}}`, "4",
			`node "4" is a subgraph that was not expanded (its class is the id 6ba7b810-9dad-11d1-80b4-00C04fd430c8), which no host knows; ` +
				`open the workflow in ComfyUI, right-click that node, choose "Unpack Subgraph", and ` + advice},
		{"LeadingZero", `{"a":01}`, "", notJSON("line 1, column 8", "a number is malformed")},
		{"HugeNumber", `{"a":` + strings.Repeat("1", 4301) + `}`, "", notJSON("line 1, column 4307", "a number has more than 4300 digits")},
		{"Array", "[]", "", "the workflow is an array, not an object of nodes; " + advice},
		{"Null", "null", "", "the workflow is null, not an object of nodes; " + advice},
		{"String", `"x"`, "", "the workflow is a string, not an object of nodes; " + advice},
		{"NoNodes", "{}", "", "the workflow has no nodes; " + advice},
		{"UIFormat", `{"last_node_id":9,"nodes":[{"id":9}],"links":[],"version":0.4}`, "",
			"the workflow is in ComfyUI's UI format (nodes and links), which hosts cannot run; " + advice},
		{"NodeIsString", `{"4":"x"}`, "4", `node "4" is a string, not an object with class_type and inputs; ` + advice},
		{"NoClass", `{"4":{"inputs":{}}}`, "4", `node "4" has no class_type; ` + advice},
		{"ClassIsNull", `{"4":{"class_type":null,"inputs":{}}}`, "4", `node "4" has a class_type that is null, not a string; ` + advice},
		{"ClassIsEmpty", `{"4":{"class_type":"","inputs":{}}}`, "4", `node "4" has an empty class_type; ` + advice},
		{"NoInputs", `{"4":{"class_type":"A"}}`, "4",
			`node "4" (A) has no inputs, which would stop a ComfyUI host for good; give it "inputs": {} at least`},
		{"InputsIsArray", `{"4":{"class_type":"A","inputs":[]}}`, "4",
			`node "4" (A) has inputs that are an array, not an object; give it "inputs": {} at least`},
		{"DanglingLink", `{"4":{"class_type":"A","inputs":{"zzz":["77",0]}}}`, "4",
			`node "4" (A): input "zzz" links to node "77", which does not exist and would stop a ComfyUI host for good; connect the input or remove it, then ` + advice},
		{"SelfLink", `{"4":{"class_type":"A","inputs":{"x":["4",0]}}}`, "4",
			`the workflow's links form a cycle of 1: node "4" → "4"; remove one of these links, then ` + advice},
		{"Cycle", `{"1":{"class_type":"A","inputs":{"x":["2",0]}},"2":{"class_type":"A","inputs":{"x":["3",0]}},"3":{"class_type":"A","inputs":{"y":1,"x":["2",1]}}}`, "2",
			`the workflow's links form a cycle of 2: node "3" → "2" → "3"; remove one of these links, then ` + advice},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g, err := workflow.Parse([]byte(c.raw))
			var refusal *workflow.Error
			if g != nil || !errors.As(err, &refusal) {
				t.Fatalf("Parse = %v, %v; want a refusal", g, err)
			}
			if diff := cmp.Diff(workflow.Error{Node: c.node, Message: c.message}, *refusal); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Python's is_link takes any int or float, and a bool is an int.
func TestLinksAreFollowedAsComfyUIDoes(t *testing.T) {
	t.Parallel()
	const form = `{"1":{"class_type":"A","inputs":{"x":%s}}}`
	for _, dangling := range []string{`["7",0]`, `["7",-1]`, `["7",0.5]`, `["7",true]`} {
		if _, err := workflow.Parse(fmt.Appendf(nil, form, dangling)); err == nil {
			t.Errorf("%s would stop a host, yet it is let through", dangling)
		}
	}
	for _, harmless := range []string{`["7"]`, `["7","0"]`, `["7",0,0]`, `[7,0]`, `["7",null]`, `["7",[0]]`, `{"__value__":["7",0]}`, `[["7",0]]`} {
		parse(t, fmt.Sprintf(form, harmless))
	}
}

func chain(nodes int) []byte {
	raw := []byte(`{"0":{"class_type":"A","inputs":{}}`)
	for i := 1; i < nodes; i++ {
		raw = fmt.Appendf(raw, `,"%d":{"class_type":"A","inputs":{"a":["%d",0],"b":["%d",0]}}`, i, i-1, i/2)
	}
	return append(raw, '}')
}

func TestChainsAreLetThroughUpToComfyUIsRecursion(t *testing.T) {
	t.Parallel()
	parse(t, string(chain(900)))
	_, err := workflow.Parse(chain(901))
	var refusal *workflow.Error
	if !errors.As(err, &refusal) || refusal.Node != "900" || !strings.Contains(refusal.Message, "a chain of more than 900 linked nodes") {
		t.Fatalf("Parse = %v", err)
	}
	if _, err := workflow.Parse(chain(10_000)); err == nil {
		t.Fatal("a chain of 10 000 is let through")
	}
}

func TestWideGraphsHaveNoLimit(t *testing.T) {
	t.Parallel()
	raw := []byte(`{"x":{"class_type":"A","inputs":{}}`)
	for i := range 20_000 {
		raw = fmt.Appendf(raw, `,"%d":{"class_type":"B","inputs":{"a":["x",0]}}`, i)
	}
	if g := parse(t, string(append(raw, '}'))); g.Len() != 20_001 {
		t.Fatalf("Len = %d", g.Len())
	}
}

func TestNestingIsBounded(t *testing.T) {
	t.Parallel()
	nested := func(levels int) string { // the three objects around count as well
		return `{"1":{"class_type":"A","inputs":{"x":` + strings.Repeat("[", levels-3) + strings.Repeat("]", levels-3) + `}}}`
	}
	parse(t, nested(200))
	if _, err := workflow.Parse([]byte(strings.Repeat(`{"1":`, 201))); err == nil || !strings.Contains(err.Error(), "more than 200 levels deep") {
		t.Errorf("201 objects: %v", err)
	}
	for _, levels := range []int{201, 1_000_000} {
		_, err := workflow.Parse([]byte(nested(levels)))
		if err == nil || !strings.Contains(err.Error(), "it is nested more than 200 levels deep") {
			t.Errorf("%d levels: %v", levels, err)
		}
	}
}

func TestOfDuplicateNamesTheLastCounts(t *testing.T) {
	t.Parallel()
	g := parse(t, `{"1":{"class_type":"A"},"2":5,"1":{"class_type":"A","class_type":"B","inputs":3,"inputs":{}},"2":{"class_type":"C","inputs":{"x":["77",0],"x":1}}}`)
	if diff := cmp.Diff([]string{"1", "2"}, g.Nodes()); diff != "" || g.ClassOf("1") != "B" {
		t.Fatalf("class %q, nodes %s", g.ClassOf("1"), diff)
	}
}

func TestLongNamesAreCutInMessages(t *testing.T) {
	t.Parallel()
	_, err := workflow.Parse([]byte(`{"` + strings.Repeat("ä", 100_000) + `":1}`))
	if want := `node "` + strings.Repeat("ä", 30) + `…" is a number`; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Fatalf("%.300v", err)
	}
}

func TestWhatPythonCallsANumberIsTaken(t *testing.T) {
	t.Parallel()
	const raw = `{"1":{"class_type":"B","inputs":{}},"5":{"class_type":"SlowNode","inputs":{"image":["1",0],"x":NaN,"z":1.5,"y":[ Infinity,-Infinity],"t":"NaN"},"is_changed":[NaN]}}`
	g := parse(t, raw)
	plain := strings.NewReplacer(`"t":"NaN"`, `"t":"NaN"`, "NaN", "0", "-Infinity", "0", "Infinity", "0").Replace(raw)
	if string(g.Raw()) != raw || string(g.JSON()) != plain {
		t.Errorf("Raw %s, JSON %s", g.Raw(), g.JSON())
	}
	if numbers := parse(t, plain); numbers.Hash() != g.Hash() || string(numbers.JSON()) != plain {
		t.Errorf("hash %s, with other numbers %s", g.Hash(), numbers.Hash())
	}
	prepared, err := g.Prepare(workflow.Preparation{Prefix: "p", Seed: func() uint64 { return 1 }})
	if err != nil || string(prepared.Body) != raw {
		t.Errorf("prepared: %s, %v", prepared.Body, err)
	}
	if got := g.Options().Len(); got != 2 { // the text and the number; a list cannot hold a NaN that is equal to this one
		t.Errorf("%d options", got)
	}
	_, err = workflow.Parse([]byte(strings.Replace(raw, `["1",0]`, `["2",NaN]`, 1)))
	if err == nil || !strings.Contains(err.Error(), `links to node "2", which does not exist`) {
		t.Errorf("a link whose slot is NaN, which ComfyUI follows: %v", err)
	}
}

func TestAClassThatIsNoUUIDIsTaken(t *testing.T) {
	t.Parallel()
	for _, class := range []string{"6ba7b810-9dad-11d1-80b4-00c04fd430cZ", "6ba7b810-9dad-11d1-80b4-00c04fd430c", "6ba7b810+9dad-11d1-80b4-00c04fd430c8", "6ba7b810-9dad-11d1-80b4-00c04fd430c."} {
		parse(t, `{"1":{"class_type":"`+class+`","inputs":{}}}`)
	}
}

func TestAWorkflowNeedsAtMost4096ClassesAndModels(t *testing.T) {
	t.Parallel()
	form := func(files int) []byte {
		var b strings.Builder
		for i := range files {
			fmt.Fprintf(&b, `,"f%d":"%d.ckpt"`, i, i)
		}
		return []byte(`{"1":{"class_type":"A","inputs":{` + b.String()[1:] + `}}}`)
	}
	if _, err := workflow.Parse(form(4095)); err != nil {
		t.Error(err)
	}
	_, err := workflow.Parse(form(4096))
	if err == nil || err.Error() != "the workflow needs 4097 node classes and model files, more than the 4096 that hosts are compared with; split the workflow" {
		t.Error(err)
	}
}

func TestACycleIsNamedUpToTenNodes(t *testing.T) {
	t.Parallel()
	cycle := func(nodes int) []byte {
		var b strings.Builder
		for i := range nodes { // each takes from the next, and the last from the first
			fmt.Fprintf(&b, `,"%d":{"class_type":"A","inputs":{"x":["%d",0]}}`, i+1, (i+1)%nodes+1)
		}
		return []byte("{" + b.String()[1:] + "}")
	}
	for nodes, want := range map[int]string{
		2:  `form a cycle of 2: node "2" → "1" → "2"; remove`,
		10: `form a cycle of 10: node "10" → "9" → "8" → "7" → "6" → "5" → "4" → "3" → "2" → "1" → "10"; remove`,
		11: `form a cycle of 11: node "11" → "10" → "9" → "8" → "7" → "6" → "5" → "4" → "3" → "2" → … → "11"; remove`,
	} {
		if _, err := workflow.Parse(cycle(nodes)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v", err)
		}
	}
}

func TestANumberHasAtMost4300Bytes(t *testing.T) {
	t.Parallel()
	for n, fits := range map[int]bool{4300: true, 4301: false} {
		_, err := workflow.Parse([]byte(`{"1":{"class_type":"A","inputs":{"x":` + strings.Repeat("1", n) + `}}}`))
		if (err == nil) != fits {
			t.Errorf("%d digits: %v", n, err)
		}
	}
}

// A name that is no number stands behind those that are, whatever it begins with.
func TestANodeIsFoundByAnyName(t *testing.T) {
	t.Parallel()
	g := parse(t, `{"1":{"class_type":"A","inputs":{}},"2":{"class_type":"B","inputs":{}},"#x":{"class_type":"C","inputs":{}}}`)
	for id, class := range map[string]string{"1": "A", "2": "B", "#x": "C", "3": "", "#": "", "x": ""} {
		if got := g.ClassOf(id); got != class {
			t.Errorf("node %s is of class %q, want %q", id, got, class)
		}
	}
}
