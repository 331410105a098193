package workflow_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/workflow"
)

func TestRequirementsOfARealWorkflow(t *testing.T) {
	t.Parallel()
	want := workflow.Requirements{
		Classes: []string{
			"CLIPTextEncode", "CheckpointLoaderSimple", "EmptyLatentImage", "ImageUpscaleWithModel", "KSampler",
			"LoraLoader", "SaveImage", "UpscaleModelLoader", "VAEDecode", "VAELoader",
		},
		Models: []workflow.ModelRef{
			{Class: "CheckpointLoaderSimple", Input: "ckpt_name", File: "sd_xl_base_1.0.safetensors"},
			{Class: "LoraLoader", Input: "lora_name", File: "style/watercolour-v2.safetensors"},
			{Class: "UpscaleModelLoader", Input: "model_name", File: "RealESRGAN_x4plus.pth"},
			{Class: "VAELoader", Input: "vae_name", File: "sdxl_vae.safetensors"},
		},
	}
	if diff := cmp.Diff(want, parse(t, string(realistic(t))).Requirements()); diff != "" {
		t.Fatal(diff)
	}
}

func TestNestedModelsAreRequiredByTheirPath(t *testing.T) {
	t.Parallel()
	g := parse(t, `{"1":{"class_type":"Power","inputs":{
		"lora_1":{"on":true,"lora":"b.pt","lora":"a\\a.pt"},
		"stack":[{"name":"s.ckpt"},["no.ckpt",0],["yes.ckpt",-1]],
		"direct":["2",0],"text":"line\nx.bin"}},
		"2":{"class_type":"Power","inputs":{"lora_1":{"lora":"a/a.pt"}}}}`)
	want := workflow.Requirements{Classes: []string{"Power"}, Models: []workflow.ModelRef{
		{Class: "Power", Input: "lora_1.lora", File: "a/a.pt"},
		{Class: "Power", Input: "stack.0.name", File: "s.ckpt"},
		{Class: "Power", Input: "stack.2.0", File: "yes.ckpt"},
	}}
	if diff := cmp.Diff(want, g.Requirements()); diff != "" {
		t.Fatal(diff)
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, inputs string
		want         int64
	}{
		{"None", `"x":1`, 0},
		{"Picture", `"width":1024,"height":512`, 524288},
		{"Batch", `"width":1024,"height":512,"batch_size":4`, 2097152},
		{"Video", `"width":832,"height":480,"length":81,"batch_size":2`, 64696320},
		{"FrameNames", `"width":10,"height":10,"frames":2,"num_frames":3,"frame_count":5,"video_length":4`, 500},
		{"WidthAlone", `"width":1024,"length":5`, 0},
		{"WidthAsText", `"width":"1024","height":512`, 0},
		{"WidthLinked", `"width":["2",0],"height":512`, 0},
		{"Floats", `"width":10.9,"height":1e1`, 100},
		{"Negative", `"width":-10,"height":-10`, 0},
		{"NoBatch", `"width":10,"height":10,"batch_size":0`, 0},
		{"NoFrames", `"width":10,"height":10,"length":0`, 100},
		{"LastOfTwo", `"width":10,"height":10,"width":20`, 200},
		{"Saturates", `"width":18446744073709551615,"height":18446744073709551615`, math.MaxInt64},
		{"SaturatesProduct", `"width":4294967296,"height":4294967296`, math.MaxInt64},
		{"Infinite", `"width":1e999,"height":1`, math.MaxInt64},
	}
	for _, c := range cases {
		g := parse(t, fmt.Sprintf(`{"1":{"class_type":"A","inputs":{%s}},"2":{"class_type":"B","inputs":{}}}`, c.inputs))
		if got := g.Size(); got != c.want {
			t.Errorf("%s: size %d, want %d", c.name, got, c.want)
		}
	}
	if got := parse(t, string(realistic(t))).Size(); got != 2<<20 {
		t.Errorf("two pictures of 1024 × 1024 have size %d", got)
	}
}
