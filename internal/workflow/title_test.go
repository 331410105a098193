package workflow_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/comfyherd/comfyherd/internal/workflow"
)

func TestATitleNamesTheMainModelAndWhatIsMade(t *testing.T) {
	t.Parallel()
	node := func(id, class, inputs string) string {
		return `"` + id + `":{"class_type":"` + class + `","inputs":{` + inputs + `}}`
	}
	for name, c := range map[string]struct {
		nodes []string
		want  string
	}{
		"Checkpoint":       {[]string{node("4", "CheckpointLoaderSimple", `"ckpt_name":"xl/sd_xl_base_1.0.safetensors"`), node("9", "SaveImage", "")}, "sd_xl_base_1.0, image"},
		"BackslashInAPath": {[]string{node("4", "CheckpointLoaderSimple", `"ckpt_name":"xl\\base.safetensors"`), node("9", "SaveImage", "")}, "base, image"},
		"LoraComesLater": {[]string{
			node("1", "LoraLoader", `"lora_name":"add.safetensors"`), node("4", "UNETLoader", `"unet_name":"flux.safetensors"`), node("9", "PreviewImage", ""),
		}, "flux, image"},
		"CheckpointBeforeUNET": {[]string{
			node("1", "UNETLoader", `"unet_name":"second.safetensors"`), node("4", "CheckpointLoaderSimple", `"ckpt_name":"first.safetensors"`), node("9", "SaveImage", ""),
		}, "first, image"},
		"VideoBeforeImage": {[]string{
			node("1", "LoadImage", `"image":"a.png"`), node("4", "UNETLoader", `"unet_name":"wan.gguf"`), node("8", "PreviewImage", ""), node("9", "VHS_VideoCombine", ""),
		}, "wan, image to video"},
		"Audio":            {[]string{node("4", "CheckpointLoaderSimple", `"ckpt_name":"a.safetensors"`), node("9", "SaveAudioMP3", "")}, "a, audio"},
		"NoModel":          {[]string{node("1", "LoadImage", `"image":"a.png"`), node("9", "SaveImage", "")}, "image to image"},
		"OnlyAModel":       {[]string{node("1", "UpscaleModelLoader", `"model_name":"4x.pth"`)}, "4x"},
		"AnyOtherModel":    {[]string{node("1", "X", `"thing":{"a":"deep.onnx"}`), node("9", "SaveGLB", "")}, "deep, 3d"},
		"Nothing":          {[]string{node("1", "Note", "")}, ""},
		"NothingPrintable": {[]string{node("4", "CheckpointLoaderSimple", `"ckpt_name":"a\u0007b.ckpt"`), node("9", "SaveImage", "")}, "ab, image"},
	} {
		g, err := workflow.Parse([]byte("{" + strings.Join(c.nodes, ",") + "}"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := g.Title(); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestATitleIsAtMost80CharactersLong(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ü", 100)
	g, err := workflow.Parse([]byte(`{"1":{"class_type":"LoadImage","inputs":{}},"4":{"class_type":"C","inputs":{"ckpt_name":"` + long + `.ckpt"}},"9":{"class_type":"SaveVideo","inputs":{}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := g.Title(); utf8.RuneCountInString(got) != 80 || !strings.HasSuffix(got, "ü…, image to video") {
		t.Errorf("%d characters: %q", utf8.RuneCountInString(got), got)
	}
}
