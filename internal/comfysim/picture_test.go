package comfysim_test

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	_ "image/gif"
	_ "image/png"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/comfysim"
)

func txt2img(checkpoint, seed, positive, prefix string) string {
	return fmt.Sprintf(`{"4":{"class_type":"CheckpointLoaderSimple","inputs":{"ckpt_name":%q}},
		"5":{"class_type":"EmptyLatentImage","inputs":{"width":64,"height":32,"batch_size":1}},
		"6":{"class_type":"CLIPTextEncode","inputs":{"text":%q,"clip":["4",1]}},
		"7":{"class_type":"CLIPTextEncode","inputs":{"text":"bad","clip":["4",1]}},
		"3":{"class_type":"KSampler","inputs":{"model":["4",0],"seed":%s,"steps":4,"cfg":8,"sampler_name":"euler","scheduler":"normal",
			"positive":["6",0],"negative":["7",0],"latent_image":["5",0],"denoise":1}},
		"8":{"class_type":"VAEDecode","inputs":{"samples":["3",0],"vae":["4",2]}},
		"9":{"class_type":"SaveImage","inputs":{"images":["8",0],"filename_prefix":%q}}}`, checkpoint, positive, seed, prefix)
}

// view fetches an output file and its content type.
func (h *host) view(ref map[string]any) (data []byte, kind string) {
	h.t.Helper()
	q := url.Values{}
	for _, key := range []string{"filename", "subfolder", "type"} {
		q.Set(key, fmt.Sprint(ref[key]))
	}
	res, err := h.client.Get(h.URL() + "/view?" + q.Encode())
	if err != nil {
		h.t.Fatal(err)
	}
	defer res.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(res.Body); err != nil || res.StatusCode != http.StatusOK {
		h.t.Fatalf("GET /view %v = %d %v", ref, res.StatusCode, err)
	}
	return b.Bytes(), res.Header.Get("Content-Type")
}

func pixel(t *testing.T, data []byte) (color.RGBA, image.Rectangle) {
	t.Helper()
	img, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	c, _ := color.RGBAModel.Convert(img.At(1, 1)).(color.RGBA)
	return c, img.Bounds()
}

func TestPicturesTellWhoseTheyAre(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{Models: map[string][]string{"checkpoints": {"a.safetensors"}}})
	id := h.submit(txt2img("a.safetensors", "18446744073709551615", "a cat", "cats/tom"), "")
	runs := h.ended(1)
	if d := cmp.Diff([]string{"18446744073709551615"}, runs[0].Seeds); d != "" {
		t.Errorf("seeds:\n%s", d)
	}
	if !strings.Contains(string(h.Prompts()[0]), `"seed":18446744073709551615`) {
		t.Error("the posted body is not kept verbatim")
	}
	ref := h.history(id).Outputs["9"]["images"][0]
	if d := cmp.Diff(map[string]any{"filename": "tom_00001_.png", "subfolder": "cats", "type": "output"}, ref); d != "" {
		t.Errorf("reference:\n%s", d)
	}
	data, kind := h.view(ref)
	got, bounds := pixel(t, data)
	if want := comfysim.Picture(18446744073709551615, "a cat"); got != want || kind != "image/png" || bounds.Dx() != 64 || bounds.Dy() != 32 {
		t.Errorf("picture %v %v %s, want %v 64x32 image/png", got, bounds, kind, want)
	}
	if !bytes.Contains(data, []byte("tEXtprompt\x00{")) {
		t.Error("the PNG does not carry its prompt")
	}
	if comfysim.Picture(1, "a") == comfysim.Picture(2, "a") || comfysim.Picture(1, "a") == comfysim.Picture(1, "b") {
		t.Error("different jobs make the same picture")
	}
}

// The colours are what ComfyUI 0.33.0 with torch 2.6 saves.
func TestInvertRoundsAsComfyUIDoes(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{})
	id := h.submit(`{"1":{"class_type":"EmptyImage","inputs":{"width":8,"height":8,"batch_size":2,"color":1102807}},
		"2":{"class_type":"ImageInvert","inputs":{"image":["1",0]}},
		"3":{"class_type":"SaveImage","inputs":{"images":["2",0],"filename_prefix":"x"}}}`, "")
	h.ended(1)
	images := h.history(id).Outputs["3"]["images"]
	if len(images) != 2 || images[1]["filename"] != "x_00002_.png" {
		t.Fatalf("images = %v, want two", images)
	}
	data, _ := h.view(images[1])
	if got, _ := pixel(t, data); got != (color.RGBA{239, 43, 39, 255}) {
		t.Errorf("colour %v of the inverse of 16, 211, 215; want 239, 43, 39", got)
	}
}

func TestAllMediaKindsOccur(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{})
	id := h.submit(`{"1":{"class_type":"EmptyImage","inputs":{"width":16,"height":16,"batch_size":2,"color":255}},
		"2":{"class_type":"SaveAnimatedWEBP","inputs":{"images":["1",0],"filename_prefix":"w","fps":6,"lossless":true,"quality":80,"method":"default"}},
		"3":{"class_type":"VHS_VideoCombine","inputs":{"images":["1",0],"frame_rate":8,"loop_count":0,"filename_prefix":"v","format":"image/gif","pingpong":false,"save_output":true}},
		"4":{"class_type":"EmptyAudio","inputs":{"duration":1,"sample_rate":44100,"channels":2}},
		"5":{"class_type":"SaveAudio","inputs":{"audio":["4",0],"filename_prefix":"audio/a"}},
		"6":{"class_type":"SimText","inputs":{"text":"hello"}},
		"7":{"class_type":"PreviewAny","inputs":{"source":["6",0]}},
		"8":{"class_type":"SimMesh","inputs":{"images":["1",0],"filename_prefix":"m"}},
		"9":{"class_type":"PreviewImage","inputs":{"images":["1",0]}}}`, "")
	h.ended(1)
	code, text := h.do("GET", "/history/"+id, "")
	if code != 200 || !strings.Contains(text, `"text":["hello"]`) || !strings.Contains(text, `"animated":[true]`) {
		t.Errorf("history = %d %s", code, text)
	}
	var all map[string]struct{ Outputs map[string]map[string][]any }
	mustDecode(t, text, &all)
	for node, want := range map[string][3]string{
		"2": {"images", "image/webp", "RIFF"}, "3": {"gifs", "image/gif", "GIF89a"}, "5": {"audio", "audio/flac", "fLaC"},
		"8": {"3d", "model/gltf-binary", "glTF"}, "9": {"images", "image/png", "\x89PNG"},
	} {
		ref, _ := all[id].Outputs[node][want[0]][0].(map[string]any)
		data, kind := h.view(ref)
		if kind != want[1] || !bytes.HasPrefix(data, []byte(want[2])) {
			t.Errorf("node %s: %s %q, want %s %q", node, kind, data[:8], want[1], want[2])
		}
	}
}

func (h *host) upload(name, content string, fields map[string]string) (int, string) {
	h.t.Helper()
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	part, err := form.CreateFormFile("image", name)
	if err != nil {
		h.t.Fatal(err)
	}
	_, _ = part.Write([]byte(content))
	for key, value := range fields {
		_ = form.WriteField(key, value)
	}
	_ = form.Close()
	res, err := h.client.Post(h.URL()+"/upload/image", form.FormDataContentType(), &b)
	if err != nil {
		h.t.Fatal(err)
	}
	defer res.Body.Close()
	var answer bytes.Buffer
	_, _ = answer.ReadFrom(res.Body)
	return res.StatusCode, answer.String()
}

func TestUploadsAreNamedAsComfyUINamesThem(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{})
	for i, step := range []struct {
		name, content string
		fields        map[string]string
		code          int
		want          string
	}{
		{"in.png", "a", nil, 200, `{"name":"in.png","subfolder":"","type":"input"}`},
		{"in.png", "a", nil, 200, `{"name":"in.png","subfolder":"","type":"input"}`},
		{"in.png", "b", nil, 200, `{"name":"in (1).png","subfolder":"","type":"input"}`},
		{"in.png", "c", nil, 200, `{"name":"in (2).png","subfolder":"","type":"input"}`},
		{"in.png", "d", map[string]string{"overwrite": "true"}, 200, `{"name":"in.png","subfolder":"","type":"input"}`},
		{"in.png", "d", map[string]string{"subfolder": "a/b"}, 200, `{"name":"in.png","subfolder":"a/b","type":"input"}`},
		{"in.png", "d", map[string]string{"type": "bogus"}, 500, "500 Internal Server Error\n\nServer got itself in trouble"},
		{"in.png", "d", map[string]string{"subfolder": "../x"}, 400, ""},
		{"../evil.png", "d", nil, 400, ""},
	} {
		if code, text := h.upload(step.name, step.content, step.fields); code != step.code || text != step.want {
			t.Errorf("step %d: %d %s, want %d %s", i, code, text, step.code, step.want)
		}
	}
}

func TestViewRefusesAsRecorded(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{})
	h.upload("in.png", "hello", nil)
	for query, want := range map[string]int{
		"filename=nope.png": 404, "": 404, "filename=": 400, "filename=../x": 400, "filename=/etc/passwd": 400,
		"filename=in.png&type=bogus": 400, "filename=in.png&type=input&subfolder=../..": 403,
		"filename=in.png&type=input": 200, "filename=in.png%20%5Binput%5D": 200, "filename=in.png&type=input&preview=webp": 500,
	} {
		if code, _ := h.do("GET", "/view?"+query, ""); code != want {
			t.Errorf("/view?%s = %d, want %d", query, code, want)
		}
	}
}

func TestLoadImageTakesTheColourOfTheUpload(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{})
	id := h.submit(short(0x102030, "seed"), "")
	h.ended(1)
	data, _ := h.view(h.history(id).Outputs["2"]["images"][0])
	h.upload("cat.png", string(data), map[string]string{"subfolder": "jobs"})
	id = h.submit(`{"1":{"class_type":"LoadImage","inputs":{"image":"jobs/cat.png"}},
		"2":{"class_type":"SaveImage","inputs":{"images":["1",0],"filename_prefix":"copy"}}}`, "")
	h.ended(2)
	data, _ = h.view(h.history(id).Outputs["2"]["images"][0])
	if got, _ := pixel(t, data); got != (color.RGBA{0x10, 0x20, 0x30, 255}) {
		t.Errorf("colour %v, want 0x102030", got)
	}
}

func TestAStaleCacheDeliversAnotherJobsPicture(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{KeepCache: true})
	h.submit(short(0xff0000, "probe"), "")
	h.ended(1)
	h.RemoveFile("output", h.Files("output")[0])
	h.submit(short(0x0000ff, "probe"), "")
	h.ended(2)
	id := h.submit(short(0xff0000, "probe"), "")
	h.ended(3)
	data, _ := h.view(h.history(id).Outputs["2"]["images"][0])
	if got, _ := pixel(t, data); got != (color.RGBA{0, 0, 0xff, 255}) {
		t.Errorf("the red job got %v, want the blue picture, as measured", got)
	}
}
