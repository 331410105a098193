package workflow_test

import (
	"strings"
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
		"direct":["2",0],"text":"line\nx.bin","texts":["x"],"y.ckpt":1,"many":[0,0,0,0,0,0,0,0,0,0,"k.ckpt"]}},
		"2":{"class_type":"Power","inputs":{"lora_1":{"lora":"a/a.pt"}}}}`)
	want := workflow.Requirements{Classes: []string{"Power"}, Models: []workflow.ModelRef{
		{Class: "Power", Input: "lora_1.lora", File: "a/a.pt"},
		{Class: "Power", Input: "many.10", File: "k.ckpt"},
		{Class: "Power", Input: "stack.0.name", File: "s.ckpt"},
		{Class: "Power", Input: "stack.2.0", File: "yes.ckpt"},
	}}
	if diff := cmp.Diff(want, g.Requirements()); diff != "" {
		t.Fatal(diff)
	}
}

func TestAModelIsKnownByItsName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"sdxl/base.safetensors": true, `sdxl\BASE.CKPT`: true, ".vae": true,
		"safetensors": false, "a.safetensors2": false, "a.png": false, "": false,
		"two\nlines.bin": false, "a.p\u212al": false, // the Kelvin sign, of which k is the lower case
		strings.Repeat("a", 251) + ".bin": true, strings.Repeat("a", 252) + ".bin": false,
	} {
		if got := workflow.NamesModel(name); got != want {
			t.Errorf("%.40q names a model: %v, want %v", name, got, want)
		}
	}
}
