package workflow_test

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/workflow"
)

func node(inputs string) string { return `{"1":{"class_type":"A","inputs":{` + inputs + `}}}` }

func TestPrepareChangesOnlyWhatItIsTold(t *testing.T) {
	t.Parallel()
	const untouched = "\n" + `{ "2":{"_meta":{"seed":-1}, "inputs":{"seed": 18446744073709551615,"cfg":7.0,"x":1E2,"s":"\u00e9é\/","noise":-1,"filename":"a",` +
		`"seed_2":-1,"n":{"seed":-1,"filename_prefix":"p"}},"class_type":"K"}  ,"1":{"class_type":"A","inputs":{"seed":["2",0]}}} `
	p := workflow.Preparation{
		Seed:   func() uint64 { t.Error("a seed is drawn"); return 0 },
		Prefix: "comfyherd/u",
		Spell: func(_, input, text string) string {
			if input != "s" || text != "éé/" {
				t.Errorf("a spelling of %q is asked for", text)
			}
			return ""
		},
		Has:       func(string) bool { t.Error("a class is asked for"); return true },
		SeedLimit: func(_, _ string) (uint64, bool) { t.Error("a limit is asked for"); return 1, true },
	}
	for _, p := range []workflow.Preparation{p, {}} {
		got, err := parse(t, untouched).Prepare(p)
		if err != nil || string(got.Body) != untouched || got.Seeds != nil {
			t.Fatalf("Prepare = %s, %v, %v", got.Body, got.Seeds, err)
		}
	}
}

func TestALinkedFileNameStaysWithoutAPrefix(t *testing.T) {
	t.Parallel()
	seeded := strings.Replace(linked, `"images":`, `"seed":-1,"images":`, 1)
	got, err := parse(t, seeded).Prepare(workflow.Preparation{Has: func(string) bool { return true }})
	if err != nil || string(got.Body) != seeded {
		t.Errorf("%s, %v", got.Body, err)
	}
}

func TestPrepareDrawsSeeds(t *testing.T) {
	t.Parallel()
	const form = `{"10":{"class_type":"K","inputs":{"noise_seed": -1,"steps":-1}},"9":{"class_type":"K","inputs":{"seed":-1.0}},` +
		`"8":{"class_type":"K","inputs":{"seed":"-1"}},"7":{"class_type":"K","inputs":{"seed":-1,"seed":5}}}`
	next := uint64(18446744073709551613)
	got, err := parse(t, form).Prepare(workflow.Preparation{Seed: func() uint64 { next++; return next }})
	if err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer(`"noise_seed": -1`, `"noise_seed": 18446744073709551615`, `-1.0`, `18446744073709551614`).Replace(form)
	if diff := cmp.Diff(want, string(got.Body)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]uint64{"9": 18446744073709551614, "10": 18446744073709551615}, got.Seeds); diff != "" {
		t.Error(diff)
	}
}

func TestPreparePrefixesFileNames(t *testing.T) {
	t.Parallel()
	cases := map[string]string{
		`"ComfyUI"`:      `"comfyherd/u/ComfyUI"`,
		`"sub/dir/x"`:    `"comfyherd/u/sub/dir/x"`,
		`"%date:yyyy%"`:  `"comfyherd/u/%date:yyyy%"`,
		`""`:             `"comfyherd/u/"`,
		`"a..b/...x"`:    `"comfyherd/u/a..b/...x"`,
		`"\u00e9\"\\x"`:  `"comfyherd/u/é\"\\x"`,
		`"/etc/x"`:       `"/etc/x"`,
		`"\\\\host\\x"`:  `"\\\\host\\x"`,
		`"C:\\x"`:        `"C:\\x"`,
		`"../x"`:         `"../x"`,
		`"a/../../x"`:    `"a/../../x"`,
		`"a\\..\\..\\x"`: `"a\\..\\..\\x"`,
		`".."`:           `".."`,
		`"a//../x"`:      `"a//../x"`,
		`"x"`:            `"comfyherd/u/x"`,
		`"C:"`:           `"C:"`,
		`7`:              `7`,
	}
	for value, want := range cases {
		got, err := parse(t, node(`"filename_prefix":`+value)).Prepare(workflow.Preparation{Prefix: "comfyherd/u"})
		if err != nil || string(got.Body) != node(`"filename_prefix":`+want) {
			t.Errorf("%s becomes %s, %v; want %s", value, got.Body, err, want)
		}
	}
}

func TestPrepareReplacesAndAddsInputs(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, inputs, want string
		given              map[string]string
	}{
		{"Replaces", `"image":"cat.png","x":1`, `"image":"in/a \"b\".png","x":1`, map[string]string{"image": `in/a "b".png`}},
		{"ReplacesAnyValue", `"image":["1x",{"a":[]}],"x":1`, `"image":"b","x":1`, map[string]string{"image": "b"}},
		{"ReplacesToItsBracket", `"image":[ {"a":[ [ ] , "]" ] , "b":{ } } ] ,"x":1`, `"image":"b" ,"x":1`, map[string]string{"image": "b"}},
		{"AddsAfterABracket", `"x":[{"y":"}"} ]`, `"x":[{"y":"}"} ],"image":"a"`, map[string]string{"image": "a"}},
		{"Adds", `"x":1 `, `"x":1 ,"image":"a"`, map[string]string{"image": "a"}},
		{"AddsToNothing", ``, `"a":"1","b":"2"`, map[string]string{"b": "2", "a": "1"}},
		{"AddsBehindTheSecond", `"x":1,"a":"0"`, `"x":1,"a":"1","b":"2"`, map[string]string{"a": "1", "b": "2"}},
		{"AddsAndReplaces", `"a":"0"`, `"a":"1","b":"2","c":"3"`, map[string]string{"a": "1", "b": "2", "c": "3"}},
		{"WinsOverThePrefixAndTheSeed", `"filename_prefix":"x","seed":-1`, `"filename_prefix":"y","seed":"z"`,
			map[string]string{"filename_prefix": "y", "seed": "z"}},
		{"ReplacesTheLastOfTwo", `"a":"0","a":"0"`, `"a":"0","a":"1"`, map[string]string{"a": "1"}},
		{"MendsWhatIsNoText", `"a":"0"`, `"a":"x` + "\ufffd" + `"`, map[string]string{"a": "x\xff"}},
		{"None", `"a":"0"`, `"a":"0"`, nil},
	}
	for _, c := range cases {
		got, err := parse(t, node(c.inputs)).Prepare(workflow.Preparation{
			Seed: func() uint64 { return 7 }, Prefix: "p", Inputs: map[string]map[string]string{"1": c.given},
		})
		if err != nil || string(got.Body) != node(c.want) || got.Seeds != nil {
			t.Errorf("%s: %s, %v; want %s", c.name, got.Body, err, node(c.want))
		}
	}
}

func TestPrepareRefusesUnknownNodes(t *testing.T) {
	t.Parallel()
	_, err := parse(t, node(``)).Prepare(workflow.Preparation{Inputs: map[string]map[string]string{"01": {"image": "a"}}})
	var refusal *workflow.Error
	if !errors.As(err, &refusal) || refusal.Node != "01" || refusal.Message != `the workflow has no node "01"; its nodes are "1"` {
		t.Fatalf("Prepare = %v", err)
	}
}

func TestPrepareSpellsModelsAsTheHostDoes(t *testing.T) {
	t.Parallel()
	spell := func(class, input, file string) string {
		switch class + " " + input + " " + file {
		case "A ckpt sd/x.ckpt", "A ckpt sd/y.ckpt", "A lora.name sd/y.ckpt":
			return strings.ReplaceAll(file, "/", `\`)
		case "A vae sd/z.vae", "A z.vae sd/z.vae":
			return file
		}
		return ""
	}
	g := parse(t, node(`"ckpt":"sd/x.ckpt","lora":{"name":"sd/y.ckpt"},"vae":"sd\\z.vae","text":"about C:\\x.bin","z":{"vae":"sd\/z.vae"}`))
	got, err := g.Prepare(workflow.Preparation{Spell: spell})
	want := node(`"ckpt":"sd\\x.ckpt","lora":{"name":"sd\\y.ckpt"},"vae":"sd/z.vae","text":"about C:\\x.bin","z":{"vae":"sd\/z.vae"}`)
	if err != nil || string(got.Body) != want {
		t.Fatalf("Prepare = %s, %v; want %s", got.Body, err, want)
	}
	if parse(t, want).Hash() != g.Hash() {
		t.Error("another spelling changes the hash")
	}
}

func TestSetInput(t *testing.T) {
	t.Parallel()
	cases := []struct{ name, input, value, want, message string }{
		{"Replaces", "text", `"é"`, `"seed":18446744073709551615,"text":"é"`, ""},
		{"KeepsNumbers", "seed", `18446744073709551614`, `"seed":18446744073709551614,"text":"a"`, ""},
		{"Adds", "b\"c", `{"d":1.0}`, `"seed":18446744073709551615,"text":"a","b\"c":{"d":1.0}`, ""},
		{"RefusesText", "text", `a fox`, "", `the value for input "text" of node "1" is not valid JSON: "a fox"; text is written in double quotes`},
		{"RefusesMore", "text", `1,"x":2`, "", `the value for input "text" of node "1" is not valid JSON: "1,\"x\":2"; text is written in double quotes`},
		{"RefusesNothing", "text", ``, "", `the value for input "text" of node "1" is not valid JSON: ""; text is written in double quotes`},
		{"RefusesDanglingLinks", "text", `["9",0]`, "", `node "1" (A): input "text" links to node "9", which does not exist and would stop a ComfyUI host for good; connect the input or remove it, then ` + advice},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := parse(t, node(`"seed":18446744073709551615,"text":"a"`))
			before := string(g.Raw())
			got, err := g.SetInput("1", c.input, json.RawMessage(c.value))
			switch {
			case c.message != "":
				if err == nil || err.Error() != c.message {
					t.Errorf("SetInput = %v; want %s", err, c.message)
				}
			case err != nil || string(got.Raw()) != node(c.want):
				t.Errorf("SetInput = %v; want %s", err, node(c.want))
			}
			if string(g.Raw()) != before {
				t.Errorf("the graph itself became %s", g.Raw())
			}
		})
	}
}

func TestSetInputNamesTheNodesThereAre(t *testing.T) {
	t.Parallel()
	_, err := parse(t, string(realistic(t))).SetInput("66", "text", json.RawMessage(`1`))
	const want = `the workflow has no node "66"; its nodes are "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13"`
	if err == nil || err.Error() != want {
		t.Fatalf("SetInput = %v; want %s", err, want)
	}
}

func TestASeedStaysWithinItsInput(t *testing.T) {
	t.Parallel()
	limits := map[string]uint64{"K seed": 2147483647, "K noise_seed": 1<<64 - 1, "L seed": 0}
	limit := func(class, input string) (uint64, bool) {
		most, known := limits[class+" "+input]
		return most, known
	}
	for _, c := range []struct {
		class, input string
		drawn, want  uint64
	}{
		{"K", "seed", 2147483647, 2147483647},
		{"K", "seed", 2147483648, 0},
		{"K", "seed", 1<<64 - 1, 2147483647},
		{"K", "noise_seed", 1<<64 - 1, 1<<64 - 1},
		{"L", "seed", 77, 0},
		{"L", "noise_seed", 77, 77},
	} {
		form := `{"1":{"class_type":"` + c.class + `","inputs":{"` + c.input + `":%}}}`
		got, err := parse(t, strings.Replace(form, "%", "-1", 1)).Prepare(workflow.Preparation{Seed: func() uint64 { return c.drawn }, SeedLimit: limit})
		want := strings.Replace(form, "%", strconv.FormatUint(c.want, 10), 1)
		if err != nil || string(got.Body) != want || got.Seeds["1"] != c.want {
			t.Errorf("%d drawn for %s.%s: %s, %v, %v; want %s", c.drawn, c.class, c.input, got.Body, got.Seeds, err, want)
		}
	}
}

// linked has two files whose names other nodes make.
const linked = `{"1":{"class_type":"Name","inputs":{}},"comfyherd-prefix-1":{"class_type":"SaveImage","inputs":{"filename_prefix": ["1", 0] ,"images":["1",1]}},
 "9":{"inputs":{"filename_prefix":["1",2]},"class_type":"SaveImage"}, "10":{"class_type":"PrimitiveString","inputs":{"value":"../x"}},
 "11":{"class_type":"SaveImage","inputs":{"filename_prefix":["10",0]}}} `

func TestALinkedFileNameGetsThePrefixFromANodeThatIsAdded(t *testing.T) {
	t.Parallel()
	got, err := parse(t, linked).Prepare(workflow.Preparation{Prefix: "comfyherd/u", Has: func(class string) bool { return class == "StringConcatenate" }})
	if err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer(
		`["1", 0] ,`, `["comfyherd-prefix-3",0] ,`, `["1",2]`, `["comfyherd-prefix-2",0]`,
		"}}} ", `}},"comfyherd-prefix-2":{"class_type":"StringConcatenate","inputs":{"string_a":"comfyherd/u/","string_b":["1",2],"delimiter":""}},`+
			`"comfyherd-prefix-3":{"class_type":"StringConcatenate","inputs":{"string_a":"comfyherd/u/","string_b":["1", 0],"delimiter":""}}} `,
	).Replace(linked)
	if diff := cmp.Diff(want, string(got.Body)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"comfyherd-prefix-2", "comfyherd-prefix-3"}, got.Added); diff != "" || got.Unlinked != nil {
		t.Error(diff, got.Unlinked)
	}
	if _, err := workflow.Parse(got.Body); err != nil {
		t.Error(err)
	}
}

// A name whose node holds a text that leaves the output folder is left to ComfyUI, which refuses it. Other inputs say nothing.
func TestALinkedFileNameThatStaysInsideGetsThePrefix(t *testing.T) {
	t.Parallel()
	const added = `,"comfyherd-prefix-1":{"class_type":"StringConcatenate","inputs":{"string_a":"p/","string_b":["1",0],"delimiter":""}}`
	for inputs, gets := range map[string]bool{`"value":"in"`: true, `"value":7,"other":"../x"`: true, `"value":"/x"`: false, `"other":1,"value":".."`: false} {
		form := `{"1":{"class_type":"Name","inputs":{` + inputs + `}},"2":{"class_type":"SaveImage","inputs":{"filename_prefix":["1",0]}}}`
		got, err := parse(t, form).Prepare(workflow.Preparation{Prefix: "p", Has: func(string) bool { return true }})
		want := form
		if gets {
			want = strings.Replace(form[:len(form)-1], `"filename_prefix":["1",0]`, `"filename_prefix":["comfyherd-prefix-1",0]`, 1) + added + "}"
		}
		if err != nil || string(got.Body) != want {
			t.Errorf("%s: %s, %v; want %s", inputs, got.Body, err, want)
		}
	}
	const first = `{"comfyherd-prefix-1":{"class_type":"SaveImage","inputs":{"filename_prefix":["name",0]}},"name":{"class_type":"Name","inputs":{}}}`
	got, err := parse(t, first).Prepare(workflow.Preparation{Prefix: "p", Has: func(string) bool { return true }})
	if diff := cmp.Diff([]string{"comfyherd-prefix-2"}, got.Added); err != nil || diff != "" {
		t.Errorf("%v: %s", err, diff)
	}
}

func TestALinkedFileNameIsReplacedWhereNoNodeCanAddThePrefix(t *testing.T) {
	t.Parallel()
	want := strings.NewReplacer(`["1", 0] ,`, `"comfyherd/u/ComfyUI" ,`, `["1",2]`, `"comfyherd/u/ComfyUI"`).Replace(linked)
	for _, has := range []func(string) bool{nil, func(string) bool { return false }} {
		got, err := parse(t, linked).Prepare(workflow.Preparation{Prefix: "comfyherd/u", Has: has})
		if err != nil || got.Added != nil {
			t.Error(err, got.Added)
		}
		if diff := cmp.Diff(want, string(got.Body)); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"9", "comfyherd-prefix-1"}, got.Unlinked); diff != "" {
			t.Error(diff)
		}
	}
}

func TestFoldersAreSpeltAsTheHostDoes(t *testing.T) {
	t.Parallel()
	spell := func(class, input, text string) string {
		if strings.Contains(text, "\n") {
			t.Errorf("a spelling of %q is asked for", text)
		}
		if class == "A" && input == "folder" && text == "hub/sd15" {
			return `hub\sd15`
		}
		return ""
	}
	got, err := parse(t, node(`"folder":"hub/sd15","other":"hub/sd15","long":"hub/sd15\nx","n":{"folder":"hub/sd15"}`)).Prepare(workflow.Preparation{Spell: spell})
	want := node(`"folder":"hub\\sd15","other":"hub/sd15","long":"hub/sd15\nx","n":{"folder":"hub/sd15"}`)
	if err != nil || string(got.Body) != want {
		t.Errorf("%s, %v; want %s", got.Body, err, want)
	}
}
