package workflow_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/comfyherd/comfyherd/internal/workflow"
)

func TestANodeSaysItsSize(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, inputs string
		want         int64
	}{
		{"None", `"x":1`, 0},
		{"Picture", `"width":1024,"height":512`, 524288},
		{"Batch", `"width":1024,"height":512,"batch_size":4`, 2097152},
		{"Video", `"width":832,"height":480,"length":81,"batch_size":2`, 64696320},
		{"FrameNames", `"width":10,"height":10,"frames":2,"num_frames":3,"frame_count":5,"video_frames":4`, 500},
		{"WidthAlone", `"width":1024,"length":5`, 0},
		{"WidthAsText", `"width":"1024","height":512`, 524288},
		{"WidthAsWords", `"width":"wide","height":512`, 0},
		{"WidthOfANodeThatTellsNothing", `"width":["2",0],"height":512`, 0},
		{"WidthOfANodeThatHoldsIt", `"width":["3",0],"height":512`, 327680},
		{"WidthOfANodeThatHoldsTwo", `"width":["4",0],"height":512`, 0},
		{"WidthOfANodeThatCalculates", `"width":["5",0],"height":512`, 0},
		{"PresetOfAnAspect", `"aspect_ratio":"4x3 or 16x9"`, 0},
		{"FramesOfANodeThatTellsNothing", `"width":640,"height":512,"length":["2",0]`, 0},
		{"Floats", `"width":10.9,"height":1e1`, 100},
		{"NotANumber", `"width":NaN,"height":10`, 0},
		{"Negative", `"width":-10,"height":-10`, 0},
		{"NoBatch", `"width":10,"height":10,"batch_size":0`, 100},
		{"NoFrames", `"width":10,"height":10,"length":0`, 100},
		{"LastOfTwo", `"width":10,"height":10,"width":20`, 200},
		{"Preset", `"resolution":"SDXL 1344 x 768 (16:9)","batch_size":2`, 2064384},
		{"PresetWithoutSpaces", `"resolution":"64x64"`, 4096},
		{"PresetWithACapital", `"dimensions":"64X64"`, 4096},
		{"PresetWithAStar", `"aspect":"64*64"`, 4096},
		{"Proportions", `"aspect":"64:64"`, 0},
		{"PresetTooWide", `"resolution":"70000x64"`, 0},
		{"PresetTooHigh", `"resolution":"64x70000"`, 0},
		{"PresetOfLowWidth", `"resolution":"8x64"`, 0},
		{"PresetOfLowHeight", `"resolution":"64x8"`, 0},
		{"LeastPresets", `"resolution":"16x16"`, 256},
		{"PresetBehindAWord", `"resolution":"max64 or 64x64"`, 4096},
		{"FirstOfTwoPresets", `"resolution":"64x64 or 128x128"`, 4096},
		{"LargerFramesLast", `"width":10,"height":10,"frames":2,"length":3`, 300},
		{"OneOfTwoBatchesIsComputed", `"width":10,"height":10,"batch":2,"batch_size":["2",0]`, 0},
		{"BatchOfANodeThatTellsNothing", `"width":640,"height":512,"batch_size":["2",0]`, 0},
		{"BatchIsNotANumber", `"width":10,"height":10,"batch_size":NaN`, 0},
		{"ASizeInATitle", `"title":"64x64"`, 0},
		{"PresetWithoutNumbers", `"resolution":"square 1:1, max x"`, 0},
		{"Tiny", `"width":0.5,"height":1e-300`, 1},
		{"Saturates", `"width":18446744073709551615,"height":18446744073709551615`, math.MaxInt64},
		{"SaturatesAtTheLimit", `"width":4294967296,"height":2147483648`, math.MaxInt64},
		{"SaturatesProduct", `"width":4294967296,"height":4294967296`, math.MaxInt64},
		{"Infinite", `"width":1e999,"height":0.5,"batch_size":Infinity`, math.MaxInt64},
	}
	for _, c := range cases {
		g := parse(t, fmt.Sprintf(`{"1":{"class_type":"A","inputs":{%s}},"2":{"class_type":"B","inputs":{}},"3":{"class_type":"PrimitiveInt","inputs":{"value":640}},"4":{"class_type":"Two","inputs":{"a":64,"b":32}},"5":{"class_type":"Math","inputs":{"a":["2",0],"b":64}}}`, c.inputs))
		if got := g.Size(); got != c.want {
			t.Errorf("%s: size %d, want %d", c.name, got, c.want)
		}
	}
	if got := parse(t, string(realistic(t))).Size(); got != 2<<20 {
		t.Errorf("two pictures of 1024 × 1024 have size %d", got)
	}
}

// graph makes a workflow of nodes such as "VAEDecode samples=1 vae=2 x=0.5",
// numbered from 1: a number with a colon is a plain one, one without a link.
func graph(nodes ...string) string {
	texts := make([]string, len(nodes))
	for i, node := range nodes {
		fields := strings.Fields(node)
		inputs := make([]string, 0, len(fields))
		for _, field := range fields[1:] {
			if name, value, plain := strings.Cut(field, ":"); plain {
				inputs = append(inputs, fmt.Sprintf("%q:%s", name, value))
			} else {
				name, source, _ := strings.Cut(field, "=")
				inputs = append(inputs, fmt.Sprintf("%q:[%q,0]", name, source))
			}
		}
		texts[i] = fmt.Sprintf(`"%d":{"class_type":%q,"inputs":{%s}}`, i+1, fields[0], strings.Join(inputs, ","))
	}
	return "{" + strings.Join(texts, ",") + "}"
}

func TestSizesGoWithThePictures(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		nodes []string
		want  int64
		given int64 // with pictures of 200 × 100
	}{
		{"ALoadedPictureIsSaved", []string{"LoadImage", "SaveImage images=1"}, 0, 20_000},
		{"ALoadedPictureIsSampled", []string{"LoadImage", "VAEEncode pixels=1", "KSampler latent_image=2", "VAEDecode samples=3", "EmptyImage width:64 height:64"}, 0, 20_000},
		{"AReroute", []string{"LoadImage", "Reroute =1", "VAEEncode pixels=2"}, 0, 20_000},
		{"AReferenceLeavesTheSizeAlone",
			[]string{"LoadImage", "IPAdapter image=1", "EmptyLatentImage width:512 height:512", "KSampler latent_image=3 model=2", "PreviewImage images=1"}, 262_144, 262_144},
		{"APictureIsScaledFirst", []string{"LoadImage", "ImageScale image=1 width:512 height:512", "VAEEncode pixels=2", "KSampler latent_image=3"}, 262_144, 262_144},
		{"AVideoIsScaledFirst", []string{"LoadVideo", "ImageScale image=1 width:512 height:512", "VAEEncode pixels=2"}, 0, 262_144},
		{"AVideoIsCut", []string{"VHS_LoadVideo frame_load_cap:16", "ImageScale image=1 width:512 height:512", "VAEEncode pixels=2"}, 4_194_304, 4_194_304},
		{"AVideoIsNotCut", []string{"VHS_LoadVideo frame_load_cap:0 custom_width:0", "ImageScale image=1 width:512 height:512", "VAEEncode pixels=2"}, 0, 0},
		{"OneSideIsGiven", []string{"LoadImage", "ImageScale image=1 width:400 height:0", "VAEEncode pixels=2"}, 0, 80_000},
		{"TheOtherSideIsGiven", []string{"LoadImage", "ImageScale image=1 width:0 height:200", "VAEEncode pixels=2"}, 0, 80_000},
		{"APictureIsScaledToPixels", []string{"LoadImage", "ImageScaleToTotalPixels image=1 megapixels:0.5", "VAEEncode pixels=2"}, 524_176, 524_176},
		{"PixelsAreComputed", []string{"EmptyImage width:64 height:64", "Math a=1", "ImageScaleToTotalPixels image=1 megapixels=2", "SaveImage images=3"}, 0, 0},
		{"PixelsOfWhateverIsGiven", []string{"EmptyImage width:64 height:64", "Scale any=1 megapixels:1"}, 1_048_576, 1_048_576},
		{"WidthOfANumberWithAWord", []string{"PrimitiveInt control:\"fixed\" value:640 zoom:\"no\"", "EmptyImage width=1 height:10"}, 6400, 6400},
		{"WidthFromTheFirstNode", []string{"EmptyImage width:16 height:16", "Math a=1 b:64", "EmptyLatentImage width=2 height=2"}, 256, 256},
		{"TheSizeOfAPictureBeforePixels", []string{"LoadImage", "GetImageSize image=1", "Scale image=1 width=2 height=2 megapixels:1", "SaveImage images=3"}, 0, 20_000},
		{"ALoadedPictureAlone", []string{"LoadImage"}, 0, 20_000},
		{"TheOtherSideOfAPictureIsTaken", []string{"LoadImage", "GetImageSize image=1", "EmptyLatentImage width:300 height=2", "KSampler latent_image=3"}, 0, 30_000},
		{"OneSideOfAPictureBesideANumber", []string{"LoadImage", "GetImageSize image=1", "PrimitiveInt value:300", "EmptyLatentImage width=2 height=3", "KSampler latent_image=4"}, 0, 60_000},
		{"TheSizeOfTheFirstNodeIsTaken", []string{"EmptyImage width:16 height:16", "A width=1 height=1 scale_by:2"}, 1024, 1024},
		{"SidesOfTwoPictures", []string{"EmptyImage width:64 height:64", "GetImageSize image=1", "EmptyImage width:16 height:16", "GetImageSize image=3", "A width=4 height=2 scale_by:2"}, 16_384, 16_384},
		{"KnownLatentsFirst", []string{"EmptyLatentImage width:64 height:64", "KSampler latent_image=1", "EmptyLatentAudio seconds:30", "KSampler latent_image=3"}, 0, 0},
		{"KnownLatentsLast", []string{"EmptyLatentAudio seconds:30", "KSampler latent_image=1", "EmptyLatentImage width:64 height:64", "KSampler latent_image=3"}, 0, 0},
		{"AModelForALargeSize", []string{"EmptyLatentImage width:512 height:512", "ModelSamplingFlux width:4096 height:4096", "KSampler latent_image=1 model=2"}, 262_144, 262_144},
		{"TheLargerFirst", []string{"EmptyImage width:64 height:64", "EmptyImage width:16 height:16", "ImageBatch image1=1 image2=2", "Scale image=3 scale_by:2"}, 16_384, 16_384},
		{"TheLargerLast", []string{"EmptyImage width:16 height:16", "EmptyImage width:64 height:64", "ImageBatch image1=1 image2=2", "Scale image=3 scale_by:2"}, 16_384, 16_384},
		{"AVideoBesideAPicture", []string{"PlayVideo", "EmptyImage width:64 height:64", "Switch image1=1 image2=2", "Scale image=3 width:64 height:64", "VAEEncode pixels=4", "KSampler latent_image=5"}, 0, 0},
		{"ALoadedPictureBesideAnother", []string{"LoadImage", "EmptyImage width:64 height:64", "ImageBatch image1=1 image2=2", "Scale image=3 scale_by:2", "VAEEncode pixels=4", "KSampler latent_image=5"}, 0, 80_000},
		{"LatentsBeforePictures", []string{"EmptyLatentImage width:64 height:64", "EmptyImage width:512 height:512", "Sample init_latents=1 image=2 multiply_by:100"}, 409_600, 409_600},
		{"PicturesBeforeOthers", []string{"EmptyImage width:64 height:64", "EmptyLatentImage width:512 height:512", "Sample start_image=1 any=2 multiply_by:100"}, 409_600, 409_600},
		{"RepeatedAsComputed", []string{"EmptyLatentImage width:512 height:512", "Math a=1", "RepeatLatentBatch samples=1 amount=2", "KSampler latent_image=3"}, 0, 0},
		{"PixelsOfNoPicture", []string{"Settings megapixels:1"}, 0, 0},
		{"ASwitch", []string{"EmptyImage width:64 height:64", "Settings", "Switch a=1 b=2", "SaveImage images=3"}, 4096, 4096},
		{"Kontext", []string{"LoadImage", "FluxKontextImageScale image=1", "VAEEncode pixels=2", "ReferenceLatent latent=3 conditioning=2"}, 1_048_576, 1_048_576},
		{"TheSizeOfAPictureIsTaken", []string{"LoadImage", "GetImageSize image=1", "EmptyLatentImage width=2 height=2 batch_size:3", "KSampler latent_image=3"}, 0, 60_000},
		{"OneSideOfAPictureIsTaken", []string{"LoadImage", "GetImageSize image=1", "EmptyLatentImage width=2 height:200", "KSampler latent_image=3"}, 0, 40_000},
		{"Upscaled", []string{"EmptyLatentImage width:512 height:512", "LatentUpscaleBy samples=1 scale_by:1.5", "KSampler latent_image=2"}, 589_824, 589_824},
		{"UpscaledByWhatIsComputed", []string{"EmptyLatentImage width:512 height:512", "Math a=1", "LatentUpscaleBy samples=1 scale_by=2"}, 0, 0},
		{"Repeated", []string{"EmptyLatentImage width:512 height:512", "RepeatLatentBatch samples=1 amount:6", "KSampler latent_image=2"}, 1_572_864, 1_572_864},
		{"CutIntoBatches", []string{"EmptyLatentImage width:512 height:512 batch_size:8", "RebatchLatents latents=1 batch_size:64", "KSampler latent_image=2"}, 2_097_152, 2_097_152},
		{"AVideoIsMade", []string{"LoadImage", "WanImageToVideo start_image=1 width:832 height:480 length:81", "KSampler latent_image=2"}, 32_348_160, 32_348_160},
		{"APromptOfALargeSize", []string{"EmptyLatentImage width:512 height:512", "CLIPTextEncodeSDXL width:4096 height:4096 clip=1", "KSampler latent_image=1 positive=2"}, 262_144, 262_144},
		{"WhatIsSampledTellsNoSize", []string{"EmptyLatentAudio seconds:30", "KSampler latent_image=1", "EmptyImage width:64 height:64"}, 0, 0},
		{"APictureOfAnUnknownNodeIsSaved", []string{"PaintByService prompt:\"x\"", "SaveImage images=1", "EmptyImage width:64 height:64"}, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := parse(t, graph(c.nodes...))
			if got := g.Size(); got != c.want {
				t.Errorf("size %d, want %d", got, c.want)
			}
			given := g.SizeWith(func(node string) (int, int, bool) { return 200, 100, strings.HasPrefix(g.ClassOf(node), "Load") })
			if given != c.given {
				t.Errorf("with the picture: size %d, want %d", given, c.given)
			}
		})
	}
}

func TestOnlyNodesThatLoadSomethingAreAskedForTheirPicture(t *testing.T) {
	t.Parallel()
	g := parse(t, graph("LoadImage", "ImageScaleBy image=1 scale_by:2", "SaveImage images=2"))
	size := g.SizeWith(func(node string) (int, int, bool) {
		if node != "1" {
			t.Errorf("node %s is asked", node)
		}
		return 20, 10, true
	})
	if size != 800 {
		t.Errorf("size %d, want 800", size)
	}
}

func TestALongChainHasASize(t *testing.T) {
	t.Parallel()
	nodes := []string{"EmptyImage width:16 height:16"}
	for i := 1; i < 900; i++ {
		nodes = append(nodes, fmt.Sprintf("ImageScaleBy image=%d scale_by:16", i))
	}
	if got := parse(t, graph(nodes...)).Size(); got != math.MaxInt64 {
		t.Errorf("size %d", got)
	}
}

func BenchmarkSize(b *testing.B) {
	raw := realistic(b)
	g, err := workflow.Parse(raw)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		_ = g.SizeWith(nil)
	}
}
