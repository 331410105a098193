package workflow_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/comfyherd/comfyherd/internal/workflow"
)

type vector struct {
	Name     string `json:"name"`
	Workflow string `json:"workflow_json"`
	SHA256   string `json:"sha256"`
}

func readVectors(t testing.TB, file string) []vector {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var v struct{ Vectors []vector }
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatalf("read %s: %v", file, err)
	}
	if len(v.Vectors) == 0 {
		t.Fatalf("%s has no vectors", file)
	}
	return v.Vectors
}

func TestHashEqualsTheReference(t *testing.T) {
	t.Parallel()
	for _, v := range readVectors(t, "testdata/hash-vectors.json") {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			got, err := workflow.HashOf([]byte(v.Workflow))
			if err != nil || string(got) != v.SHA256 {
				t.Fatalf("HashOf = %s, %v; want %s", got, err, v.SHA256)
			}
		})
	}
}

// The canonical form is written by hand from the rules on Hash.
func TestHashOfWhatTheReferenceDoesNotCover(t *testing.T) {
	t.Parallel()
	input := func(v string) string { return `{"1":{"class_type":"X","inputs":{"x":` + v + `}}}` }
	long := strings.Repeat("m", 250)
	cases := []struct{ name, raw, canonical string }{
		// A link is only [string, non-negative integer].
		{"LinkByIntegralFloat", input(`["1", 2.0]`), input(`["1",2]`)},
		{"LinkByExponent", input(`["1",1e1]`), input(`["1",10]`)},
		{"LinkByMinusZero", input(`["1",-0]`), input(`["1",0]`)},
		{"LinkByHugeSlot", input(`["1",9007199254740993]`), input(`["1",9007199254740992]`)},
		{"LinkByShortestDigits", input(`["1",9223372036854775808]`), input(`["1",9223372036854776000]`)},
		{"LinkByHugestSlot", input(`["1",1.5e300]`), input(`["1",1.5e+300]`)},
		{"LinkByHugerSlot", input(`["1",1e21]`), input(`["1",1e+21]`)},
		{"NoLinkByNegativeSlot", input(`["1",-1]`), input(`["","number"]`)},
		{"NoLinkByFraction", input(`["1",0.5]`), input(`["","number"]`)},
		{"NoLinkByInfinity", input(`["1",1e999]`), input(`["","number"]`)},
		{"NoLinkByBoolean", input(`["1",true]`), input(`["","boolean"]`)},
		{"NoLinkByNumbers", input(`[1,0]`), input(`["number","number"]`)},
		{"NoLinkByThree", input(`["1",0,0]`), input(`["","number","number"]`)},
		{"ArrayOfPrompts", input(`["a","b.ckpt",null,{"z":1,"a":"t"},["2",0],[]]`), input(`["","b.ckpt",null,{"a":"","z":"number"},["2",0],[]]`)},
		{"LinkInsideObject", input(`{"b":["1",0],"a":{}}`), input(`{"a":{},"b":["1",0]}`)},
		// A string with a line break or over 255 bytes is never a model name.
		{"PromptWithLineBreak", input(`"load\nthis.ckpt"`), input(`""`)},
		{"PromptWithCarriageReturn", input(`"load\rthis.ckpt"`), input(`""`)},
		{"Name255Bytes", input(`"` + long + `.ckpt"`), input(`"` + long + `.ckpt"`)},
		{"Name256Bytes", input(`"m` + long + `.ckpt"`), input(`""`)},
		{"Name256BytesIn254Characters", input(`"éé` + long[2:] + `x.pt"`), input(`""`)},
		// A backslash in a model name counts as a slash.
		{"Name255BytesEscaped", input(`"\u006d` + long[1:] + `.ckpt"`), input(`"` + long + `.ckpt"`)},
		{"NamesBeyondArrayIndices", `{"18446744073709551617":null,"9999999999":null,"4294967295":null,"4294967294":null}`,
			`{"4294967294":{"class_type":null,"inputs":{}},"18446744073709551617":{"class_type":null,"inputs":{}},"4294967295":{"class_type":null,"inputs":{}},"9999999999":{"class_type":null,"inputs":{}}}`},
		{"WindowsSeparators", input(`"SDXL\\a\\b.safetensors"`), input(`"SDXL/a/b.safetensors"`)},
		{"EveryExtension",
			input(`["a.safetensors","a.sft","a.ckpt","a.pt","a.PTH","a.bin","a.gguf","a.onnx","a.pkl","a.npz","a.vae","a.yaml","a.Yml"]`),
			input(`["a.safetensors","a.sft","a.ckpt","a.pt","a.PTH","a.bin","a.gguf","a.onnx","a.pkl","a.npz","a.vae","a.yaml","a.Yml"]`)},
		{"NoModels", input(`["a.png","ckpt","a.ckpt ","a.safetensorsx","a.safetensors.","a.xsafetensors",".","a.ckpt/"]`), input(`["","","","","","","",""]`)},
		// What has another type than it should counts as null or empty.
		{"OddNodesBehindANode", `{"a":{"class_type":"X","inputs":{"x":1}},"b":null,"c":{"class_type":"Y","inputs":["p","q"]}}`,
			`{"a":{"class_type":"X","inputs":{"x":"number"}},"b":{"class_type":null,"inputs":{}},"c":{"class_type":"Y","inputs":{}}}`},
		{"OddNodes", `{"b":null,"a":{"class_type":7,"inputs":"x"},"c":["x"]}`,
			`{"a":{"class_type":null,"inputs":{}},"b":{"class_type":null,"inputs":{}},"c":{"class_type":null,"inputs":{}}}`},
		// Escapes are those of JSON.stringify.
		{"EscapedPair", input(`"\ud83d\ude00"`), input(`""`)},
		{"HexDigits", input(`"\u00aA\u00Ff\u00f0\u009f.ckpt"`), input("\"\u00aa\u00ff\u00f0\u009f.ckpt\"")},
		{"Escapes", input(`"\u0041\/\ud83d\ude00.ckpt"`), input(`"A/😀.ckpt"`)},
		{"EscapedNames", `{"\"\\\b\f\n\r\t\u0001\u001f\u007f\u2028":{"class_type":"\u003c\u0000","inputs":{}}}`,
			"{\"\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u001f\u007f\u2028\":{\"class_type\":\"<\\u0000\",\"inputs\":{}}}"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := workflow.HashOf([]byte(c.raw))
			if want := sha(c.canonical); err != nil || got != want {
				t.Fatalf("HashOf(%s) = %s, %v; want %s", c.raw, got, err, want)
			}
		})
	}
}

func sha(canonical string) workflow.Hash {
	return workflow.Hash(fmt.Sprintf("%x", sha256.Sum256([]byte(canonical))))
}

func TestHashIgnoresWhatIsNotStructure(t *testing.T) {
	t.Parallel()
	raw := string(realistic(t))
	want := parse(t, raw).Hash()
	for _, change := range []struct{ name, old, new string }{
		{"Seed", `156680208700286`, `18446744073709551615`},
		{"Prompt", `beautiful scenery`, `a fox`},
		{"Size", `"width":1024`, `"width":640`},
		{"Steps", `"steps":20`, `"steps":4`},
		{"Sampler", `dpmpp_2m`, `euler`},
		{"Title", `"_meta":{"title":"KSampler"}`, `"_meta":{"title":"K","x":["99",0]}`},
		{"NoMeta", `,"_meta":{"title":"KSampler"}`, ``},
		{"Space", `{"inputs":`, " {\n\"inputs\" : "},
		{"Separators", `style\\watercolour`, `style/watercolour`},
	} {
		if got := parse(t, strings.ReplaceAll(raw, change.old, change.new)).Hash(); got != want || !strings.Contains(raw, change.old) {
			t.Errorf("%s changes the hash", change.name)
		}
	}
	for seed := range uint64(50) {
		if got := parse(t, shuffled(t, raw, seed)).Hash(); got != want {
			t.Fatalf("order of keys with seed %d changes the hash", seed)
		}
	}
}

// shuffled writes every object of raw in a random order.
func shuffled(t *testing.T, raw string, seed uint64) string {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 1))
	var write func(v any) string
	write = func(v any) string {
		object, ok := v.(map[string]any)
		if !ok {
			scalar, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			return string(scalar)
		}
		names := slices.Sorted(maps.Keys(object))
		random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		members := make([]string, len(names))
		for i, name := range names {
			members[i] = strconv.Quote(name) + ":" + write(object[name])
		}
		return "{" + strings.Join(members, ", ") + "}"
	}
	return write(decode(t, []byte(raw)))
}

func decode(t testing.TB, raw []byte) any {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var v any
	if err := decoder.Decode(&v); err != nil {
		t.Fatalf("encoding/json refuses %q: %v", raw, err)
	}
	return v
}

func TestHashTellsStructuresApart(t *testing.T) {
	t.Parallel()
	raw := string(realistic(t))
	seen := map[workflow.Hash]string{parse(t, raw).Hash(): "the original"}
	for _, change := range []struct{ name, old, new string }{
		{"Model", `sd_xl_base_1.0`, `dreamshaper_8`},
		{"ModelCase", `sd_xl_base`, `SD_xl_base`},
		{"LoRA", `watercolour-v2`, `watercolour-v3`},
		{"Class", `"VAEDecode"`, `"VAEDecodeTiled"`},
		{"Link", `"positive":["6",0]`, `"positive":["7",0]`},
		{"Slot", `"positive":["6",0]`, `"positive":["6",1]`},
		{"InputName", `"denoise":1`, `"denoising":1`},
		{"InputMore", `"denoise":1`, `"denoise":1,"x":1`},
		{"InputType", `"denoise":1`, `"denoise":"1"`},
		{"InputNull", `"denoise":1`, `"denoise":null`},
		{"NodeId", `"9":{`, `"19":{`},
	} {
		hash := parse(t, strings.ReplaceAll(raw, change.old, change.new)).Hash()
		if other, ok := seen[hash]; ok {
			t.Errorf("%s has the hash of %s", change.name, other)
		}
		seen[hash] = change.name
	}
}

func TestHashSortsAllKindsOfNames(t *testing.T) {
	t.Parallel()
	pieces := []string{
		"", "a", "b", "0", "7", "12", "07", "4294967294", "4294967295", "\x00", "\x7f", "é", "\ud7ff", "\ue000", "\uffff", "\U00010000", "\U0010ffff", "prefix7", "prefix78",
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var members []string // names that come twice among them
		for range 1 + random.IntN(60) {
			name := ""
			for range 1 + random.IntN(3) {
				name += pieces[random.IntN(len(pieces))]
			}
			quoted, err := json.Marshal(name)
			if err != nil {
				t.Fatal(err)
			}
			members = append(members, string(quoted)+":1")
		}
		raw := `{"1":{"class_type":"A","inputs":{` + strings.Join(members, ",") + `}}}`
		object, ok := decode(t, []byte(raw)).(map[string]any)
		if got := parse(t, raw).Hash(); !ok || got != sha(canonical(object)) {
			t.Fatalf("%s has the hash %s, want that of %s", raw, got, canonical(object))
		}
	}
}

func TestHashOfAnyLengthIsThatOfTheRules(t *testing.T) {
	t.Parallel()
	for _, length := range []int{1, 100, 1900, 2000, 2048, 2049, 5000, 70_000} {
		raw := []byte(`{"` + strings.Repeat("n", length) + `":{"class_type":"A","inputs":{"x":"a.ckpt"}}`)
		for i := range length / 50 {
			raw = fmt.Appendf(raw, `,"%d":{"inputs":{"b":[[%d],{"c":null,"a":true}]},"class_type":"\u0042"}`, i, i)
		}
		raw = append(raw, '}')
		object, ok := decode(t, raw).(map[string]any)
		if got := parse(t, string(raw)).Hash(); !ok || got != sha(canonical(object)) {
			t.Errorf("length %d: %s, want %s", length, got, sha(canonical(object)))
		}
	}
}

func TestHashForm(t *testing.T) {
	t.Parallel()
	h := sha("x")
	if !h.Valid() || h.Short() != string(h[:8]) {
		t.Errorf("%s: valid %t, short %s", h, h.Valid(), h.Short())
	}
	for _, bad := range []workflow.Hash{"", "abc", h + "0", h[1:], "X" + h[1:], "A" + h[1:], "/" + h[1:], ":" + h[1:]} {
		if bad.Valid() {
			t.Errorf("%q passes for a hash", bad)
		}
	}
	if got := workflow.Hash("abc").Short(); got != "abc" {
		t.Errorf("Short of a short one is %q", got)
	}
}
