package workflow_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/workflow"
)

func TestBrokenJSONIsRefusedWithThePlace(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		`{"1" {}}`:             "line 1, column 6: a colon is expected",
		`{"1":1.}`:             "a number is malformed",
		`{"1":1e}`:             "a number is malformed",
		`{"1":-}`:              "a value is expected",
		`{"1":1e+}`:            "a number is malformed",
		`{"1":trux}`:           "a value is expected",
		`{"1":tru`:             "a value is expected",
		`{"1":nul}`:            "a value is expected",
		`{"1":fals0}`:          "a value is expected",
		`{"1`:                  "line 1, column 4",
		"{\"1\":\"a\x01\"}":    `a control character is in a string; write it as \u0001`,
		`{"1":"\x"}`:           `\x is no escape sequence`,
		`{"1":"\u12"}`:         `four hex digits are expected`,
		`{"1":"\u00g0"}`:       `four hex digits are expected`,
		`{"1":"\ud83d..de00"}`: `\ud83d is half a character`,
		`{"1":"\u00/0"}`:       `four hex digits are expected`,
		`{"1":"\u12`:           `four hex digits are expected`,
		`{"1":"\`:              `it ends in the middle`,
		"{\"1\":\"ab\x80\"}":   "line 1, column 6: a string is not valid UTF-8",
		`1e`:                   "it ends in the middle",
		"{\"1\":\"\x80\"}":     `a string is not valid UTF-8`,
		`{"1":- }`:             "a number is malformed",
		`-`:                    "it ends in the middle",
	} {
		if _, err := workflow.Parse([]byte(raw)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", raw, err, want)
		}
	}
}

func TestARefusalNamesTheKindOfValue(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		`{"1":true}`:                              "node \"1\" is a boolean, not an object",
		`{"1":null}`:                              "node \"1\" is null, not an object",
		`{"1":1}`:                                 "node \"1\" is a number, not an object",
		`{"1":" "}`:                               "node \"1\" is a string, not an object",
		`{"1":"x"}`:                               "node \"1\" is a string, not an object",
		`{"1":[]}`:                                "node \"1\" is an array, not an object",
		`{"1":{"class_type":{},"inputs":{}}}`:     "has a class_type that is an object, not a string",
		`{"1":{"class_type":"A","inputs":[]}}`:    `node "1" (A) has inputs that are an array, not an object`,
		`{"nodes":{"class_type":"A"}}`:            `node "nodes" (A) has no inputs`,
		`{"nodes":[{"id":1}]}`:                    "the workflow is in ComfyUI's UI format",
		`{"nodes":[{"id":1}],"links":[]}`:         "the workflow is in ComfyUI's UI format",
		`{"` + strings.Repeat("é", 30) + `":{}}`:  `node "` + strings.Repeat("é", 30) + `" has no class_type`,
		`{"x` + strings.Repeat("é", 30) + `":{}}`: `node "x` + strings.Repeat("é", 29) + `…" has no class_type`,
		`{"` + strings.Repeat("x", 61) + `":{}}`:  `node "` + strings.Repeat("x", 60) + `…" has no class_type`,
	} {
		if _, err := workflow.Parse([]byte(raw)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", raw, err, want)
		}
	}
}

func TestInputsOfANodeAreListed(t *testing.T) {
	t.Parallel()
	g := parse(t, `{"1":{"class_type":"A","inputs":{"b":1,"a":["2",0]}},"2":{"class_type":"B","inputs":{}}}`)
	if diff := cmp.Diff([]string{"a", "b"}, g.Inputs("1")); diff != "" {
		t.Error(diff)
	}
	if got := g.Inputs("2"); len(got) != 0 {
		t.Errorf("a node without inputs has %v", got)
	}
	if got := g.Inputs("3"); len(got) != 0 {
		t.Errorf("no node has %v", got)
	}
}

func TestAHashHas64DigitsOfSixteen(t *testing.T) {
	t.Parallel()
	zeros := strings.Repeat("0", 63)
	for digit, want := range map[string]bool{"0": true, "9": true, "a": true, "f": true, "g": false, "F": false, "/": false, ":": false, "`": false, "": false, "00": false} {
		if got := workflow.Hash(zeros + digit).Valid(); got != want {
			t.Errorf("with %q: %t", digit, got)
		}
	}
}

func TestEveryExtensionOfAModelCounts(t *testing.T) {
	t.Parallel()
	for _, extension := range []string{"safetensors", "sft", "ckpt", "pt", "pth", "bin", "gguf", "onnx", "pkl", "npz", "vae", "yaml", "yml", "PTH", "Zft"} {
		if got, want := workflow.NamesModel("a."+extension), extension != "Zft"; got != want {
			t.Errorf("a.%s: %t", extension, got)
		}
	}
	for text, want := range map[string]bool{
		"bin": false, ".bin": true, "a.bin\n": false, "a\n.bin": false, "a.bi\xee": false, "a.b[n": false,
		strings.Repeat("x", 251) + ".bin": true, strings.Repeat("x", 252) + ".bin": false,
	} {
		if got := workflow.NamesModel(text); got != want {
			t.Errorf("%.20q: %t", text, got)
		}
	}
}

// What agents have stored is read by dispatchers of later versions: the keys must not change unless capabilityMagic does.
func TestTheStoredFormOfACapabilityStaysAsItIs(t *testing.T) {
	t.Parallel()
	c := capability(func(b *workflow.CapabilityBuilder) {
		b.AddClass("KSampler")
		b.AddChoices("KSampler", "scheduler", []string{`sub\karras`, "a.safetensors"}, 1, 0)
	})
	data, err := c.MarshalBinary()
	const want = "63617001" + // "cap", version 1
		"e3e1387fa6bec4089a45d7a1a10d961e645018a7c5f30125c2ba093c8fc94b9877dc9d5a32602ab0a41bbb8da18852e40962879612b3c3f0"
	if got := hex.EncodeToString(data); err != nil || got != want {
		t.Errorf("%v, %s", err, got)
	}
}

func TestPicturesAreReadOnlyWhereTheirHeadIsWhole(t *testing.T) {
	t.Parallel()
	lossy := unhex(t, "52494646a6000000574542505650 38209a0000007010009d012a2c01c800")
	for name, c := range map[string]struct {
		picture       string
		width, height int
	}{
		"Cut":                 {lossy[:29], 0, 0},
		"LosslessWithoutMark": {unhex(t, "5249464622000000574542505650384c160000002e2bc13100071011fd0f"), 0, 0},
		"GIF":                 {"GIF89a\x01\x00\x01\x00\x00\x00\x00", 1, 1},
		"GIFWithoutWidth":     {"GIF89a\x00\x00\x05\x00\x00\x00\x00", 0, 5},
		"GIFWithoutHeight":    {"GIF89a\x05\x00\x00\x00\x00\x00\x00", 5, 0},
		"WithoutRIFF":         {"riff" + lossy[4:], 0, 0},
		"NotOfWEBP":           {lossy[:8] + "WAVE" + lossy[12:], 0, 0},
		"WithoutTheMark":      {lossy[:23] + "\x00\x01\x2a" + lossy[26:], 0, 0},
		"ScaledFrame":         {lossy[:26] + "\x2c\x41\xc8\x80", 300, 200}, // two bits of scaling above the size
		"NoWidth":             {lossy[:26] + "\x00\x00\xc8\x00", 0, 200},
		"NoHeight":            {lossy[:26] + "\x2c\x01\x00\x00", 300, 0},
		"OnePixel":            {lossy[:26] + "\x01\x00\x01\x00", 1, 1},
		"TheLargest":          {lossy[:26] + "\xff\x3f\xff\x3f", 16383, 16383},
		"WiderThanSixteenBit": {unhex(t, "5249464616010000574542505650 38580a00000002000000 000001 c70000"), 65537, 200},
	} {
		w, h, ok := workflow.PictureSize(strings.NewReader(c.picture))
		if w != c.width || h != c.height || ok != (w > 0 && h > 0) {
			t.Errorf("%s: %d × %d, %t; want %d × %d", name, w, h, ok, c.width, c.height)
		}
	}
}

func TestAnUnknownNodeIsAnsweredWithTheNodesThereAre(t *testing.T) {
	t.Parallel()
	nodes := func(n int) string {
		var list []string
		for i := range n {
			list = append(list, `"`+string(rune('a'+i))+`":{"class_type":"A","inputs":{}}`)
		}
		return "{" + strings.Join(list, ",") + "}"
	}
	for n, want := range map[int]string{
		2:  `its nodes are "a", "b"`,
		12: `its nodes are "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"`,
		13: `its nodes are "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", …`,
	} {
		_, err := parse(t, nodes(n)).SetInput("z", "x", []byte("1"))
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%d nodes: %v", n, err)
		}
	}
}

// What an input of this name brings decides whether the next node has the size of what is linked there.
func TestInputsBringWhatTheirNamesSay(t *testing.T) {
	t.Parallel()
	const picture, nothing = 512 * 256 * 2, 0
	for input, want := range map[string]int64{
		"samples": picture, "latent_image": picture, "init_latents": picture, "image": picture, "images": picture, "pixels": picture,
		"start_image": picture, "driving_video": picture, "any": picture,
		"model": nothing, "clip": nothing, "vae": nothing, "positive": nothing, "negative": nothing, "conditioning": nothing, "sampler": nothing,
		"sigmas": nothing, "noise": nothing, "guider": nothing, "text": nothing, "prompt": nothing, "seed": nothing, "filename_prefix": nothing,
		"control_net": nothing, "mask": nothing, "audio": nothing, "lora_stack": nothing,
	} {
		raw := `{"1":{"class_type":"A","inputs":{"width":512,"height":256,"batch_size":2}},"2":{"class_type":"Twice","inputs":{"` + input + `":["1",0],"multiply_by":3}}}`
		want := max(want*3, picture)
		if got := parse(t, raw).Size(); got != want {
			t.Errorf("%s: %d, want %d", input, got, want)
		}
	}
}

func TestSizesHaveManyNames(t *testing.T) {
	t.Parallel()
	for inputs, want := range map[string]int64{
		`"custom_width":100,"custom_height":10`: 1000,
		`"width":100,"height":10,"batch":2`:     2000, `"width":100,"height":10,"batch_count":2`: 2000, `"width":100,"height":10,"count":2`: 2000,
		`"width":100,"height":10,"length":2`: 2000, `"width":100,"height":10,"num_video_frames":2`: 2000, `"width":100,"height":10,"video_length":2`: 2000,
		`"width":100,"height":10,"frame_load_cap":2`: 2000, `"width":100,"height":10,"frames":2`: 2000, `"width":100,"height":10,"num_frames":2`: 2000,
		`"width":100,"height":10,"frame_count":2`: 2000, `"width":100,"height":10,"video_frames":2`: 2000,
		`"width":100,"height":10,"batch_size":2,"count":"99999999999"`: 2000, // a text that is no number of 32 bits
	} {
		if got := parse(t, `{"1":{"class_type":"A","inputs":{`+inputs+`}}}`).Size(); got != want {
			t.Errorf("%s: %d, want %d", inputs, got, want)
		}
	}
	for input, want := range map[string]int64{
		"scale_by": 4000, "upscale_by": 4000, "scale_factor": 4000, "upscale_factor": 4000, "rescale_factor": 4000, "multiply_by": 2000, "amount": 1000,
	} {
		raw := `{"1":{"class_type":"A","inputs":{"width":100,"height":10}},"2":{"class_type":"B","inputs":{"image":["1",0],"` + input + `":2}}}`
		if got := parse(t, raw).Size(); got != want {
			t.Errorf("%s: %d, want %d", input, got, want)
		}
	}
}
