package gateway_test

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// upload sends a file as ComfyUI's page does.
func (f *face) upload(path, name string, content []byte, fields ...string) *answer {
	f.t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("image", name)
	if err == nil {
		_, err = part.Write(content)
	}
	for i := 0; i+1 < len(fields) && err == nil; i += 2 {
		err = form.WriteField(fields[i], fields[i+1])
	}
	if err == nil {
		err = form.Close()
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return f.do(http.MethodPost, path, body.Bytes(), "Content-Type", form.FormDataContentType())
}

func painted(t *testing.T, c color.Color) []byte {
	t.Helper()
	m := image.NewNRGBA(image.Rect(0, 0, 8, 8))
	for i := range 64 {
		m.Set(i%8, i/8, c)
	}
	var out bytes.Buffer
	if err := png.Encode(&out, m); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// saved is the first picture that a prompt saved, as the query of /view.
func saved(t *testing.T, entry map[string]any, node string) url.Values {
	t.Helper()
	outputs, _ := entry["outputs"].(map[string]any)
	of, _ := outputs[node].(map[string]any)
	images, _ := of["images"].([]any)
	if len(images) == 0 {
		t.Fatalf("node %s has left nothing: %v", node, entry)
	}
	image, _ := images[0].(map[string]any)
	query := url.Values{}
	for name, value := range image {
		if text, is := value.(string); is {
			query.Set(name, text)
		}
	}
	return query
}

func TestAPictureIsViewedWholeAndInParts(t *testing.T) {
	t.Parallel()
	other := tenantOf(t) + "-other"
	f := open(t, tenantOf(t), other)
	query := saved(t, f.ended(f.prompt(map[string]any{"prompt": picture(10)})), "2")
	whole := f.do(http.MethodGet, "/api/view?"+query.Encode(), nil)
	if whole.status != http.StatusOK || !bytes.HasPrefix(whole.body, []byte("\x89PNG")) || whole.header.Get("Content-Type") != "image/png" ||
		whole.header.Get("X-Content-Type-Options") != "nosniff" || whole.header.Get("ETag") == "" {
		t.Fatalf("%d %v %.20q", whole.status, whole.header, whole.body)
	}
	part := f.do(http.MethodGet, "/view?"+query.Encode(), nil, "Range", "bytes=1-3")
	if part.status != http.StatusPartialContent || string(part.body) != "PNG" {
		t.Errorf("the range is %d %q", part.status, part.body)
	}
	if head := f.do(http.MethodHead, "/view?"+query.Encode(), nil); head.status != http.StatusOK || head.header.Get("Content-Length") == "" || len(head.body) != 0 {
		t.Errorf("HEAD: %d %v", head.status, head.header)
	}
	if same := f.do(http.MethodGet, "/view?"+query.Encode(), nil, "If-None-Match", whole.header.Get("ETag")); same.status != http.StatusNotModified {
		t.Errorf("with its ETag: %d", same.status)
	}
	if theirs := f.as(other).do(http.MethodGet, "/view?"+query.Encode(), nil); theirs.status != http.StatusNotFound {
		t.Errorf("another tenant got %d", theirs.status)
	}
	query.Del("subfolder") // some clients drop it
	if got := f.do(http.MethodGet, "/view?"+query.Encode(), nil); got.status != http.StatusOK || !bytes.Equal(got.body, whole.body) {
		t.Errorf("without the subfolder: %d", got.status)
	}
}

func TestAnUploadReachesTheHostThatRunsThePrompt(t *testing.T) {
	t.Parallel()
	f := open(t)
	red := painted(t, color.NRGBA{R: 255, A: 255})
	for i, want := range []string{"in.png", "in.png", "in (1).png"} {
		content := red
		if i == 2 {
			content = painted(t, color.NRGBA{B: 255, A: 255})
		}
		var got struct{ Name, Subfolder, Type string }
		a := f.upload("/upload/image", "in.png", content, "subfolder", "mine")
		a.into(t, &got)
		if a.status != http.StatusOK || got.Name != want || got.Subfolder != "mine" || got.Type != "input" {
			t.Fatalf("upload %d: %d %s, want %s", i, a.status, a.body, want)
		}
	}
	if view := f.do(http.MethodGet, "/view?filename=in.png&subfolder=mine&type=input", nil); !bytes.Equal(view.body, red) {
		t.Errorf("the upload is not what was uploaded: %d", view.status)
	}
	g := graph{
		"1": node("LoadImage", map[string]any{"image": "mine/in.png"}),
		"2": node("SaveImage", map[string]any{"images": []any{"1", 0}, "filename_prefix": "out"}),
	}
	id := f.prompt(map[string]any{"prompt": g})
	entry := f.ended(id)
	query := saved(t, entry, "2")
	tuple, _ := entry["prompt"].([]any)
	shown, _ := tuple[2].(map[string]any)["1"].(map[string]any)
	if inputs, _ := shown["inputs"].(map[string]any); inputs["image"] != "mine/in.png" {
		t.Errorf("the history shows the input as %v", inputs["image"])
	}
	again := graph{ // the output of one prompt is the input of the next
		"1": node("LoadImage", map[string]any{"image": id + "/" + query.Get("filename") + " [output]"}),
		"2": node("SaveImage", map[string]any{"images": []any{"1", 0}, "filename_prefix": "out"}),
	}
	saved(t, f.ended(f.prompt(map[string]any{"prompt": again})), "2")
}

func TestAMaskBecomesTheAlphaOfAPicture(t *testing.T) {
	t.Parallel()
	f := open(t)
	f.upload("/upload/image", "face.png", painted(t, color.NRGBA{R: 200, A: 255}))
	mask := painted(t, color.NRGBA{A: 64})
	a := f.upload("/upload/mask", "masked.png", mask, "original_ref", `{"filename":"face.png","type":"input"}`, "overwrite", "true")
	if a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	view := f.do(http.MethodGet, "/view?filename=masked.png&type=input", nil)
	got, err := png.Decode(bytes.NewReader(view.body))
	if err != nil {
		t.Fatal(err)
	}
	if c := color.NRGBAModel.Convert(got.At(3, 3)); c != (color.NRGBA{R: 200, A: 64}) {
		t.Errorf("a pixel is %v", c)
	}
	alone := f.do(http.MethodGet, "/view?filename=masked.png&type=input&channel=a", nil)
	if got, err = png.Decode(bytes.NewReader(alone.body)); err != nil {
		t.Fatal(err)
	}
	if c := color.NRGBAModel.Convert(got.At(3, 3)); c != (color.NRGBA{A: 64}) {
		t.Errorf("the alpha channel alone has %v", c)
	}
}

func TestPathsThatLeaveTheirFolderAreRefused(t *testing.T) {
	t.Parallel()
	other := tenantOf(t) + "-other"
	f := open(t, tenantOf(t), other)
	f.upload("/upload/image", "mine.png", []byte("mine"))
	for _, query := range []string{
		"filename=../mine.png&type=input", "filename=/etc/passwd", "filename=..%5Cmine.png&type=input", "filename=a/../../x.png",
		"filename=mine.png&type=input&subfolder=..", "filename=mine.png&type=input&subfolder=/x", "filename=mine.png&type=etc",
		"filename=", "filename=%00.png", "filename=x.png&subfolder=a%0ab", "filename=..%2F..%2F" + url.QueryEscape(string(other)) + "%2Finput%2Fmine.png&type=input",
	} {
		if a := f.do(http.MethodGet, "/view?"+query, nil); a.status != http.StatusBadRequest {
			t.Errorf("%s: %d", query, a.status)
		}
	}
	if a := f.as(other).do(http.MethodGet, "/view?filename=mine.png&type=input", nil); a.status != http.StatusNotFound {
		t.Errorf("another tenant's upload: %d", a.status)
	}
	for _, fields := range [][]string{{"subfolder", "../x"}, {"subfolder", "/x"}, {"type", "models"}, {"subfolder", "a\\..\\.."}} {
		if a := f.upload("/upload/image", "x.png", []byte("x"), fields...); a.status != http.StatusBadRequest {
			t.Errorf("upload with %v: %d %s", fields, a.status, a.body)
		}
	}
}

func TestWhatABrowserCouldRunIsDownloaded(t *testing.T) {
	t.Parallel()
	f := open(t)
	for _, name := range []string{"x.html", "x.svg", "x.js"} {
		f.upload("/upload/image", name, []byte("<script>alert(1)</script>"))
		a := f.do(http.MethodGet, "/view?type=input&filename="+name, nil)
		if got := a.header.Get("Content-Type"); a.status != http.StatusOK || got != "application/octet-stream" || a.header.Get("Content-Disposition")[:10] != "attachment" {
			t.Errorf("%s: %d %q %q", name, a.status, got, a.header.Get("Content-Disposition"))
		}
	}
}

// Behind a load balancer the next request may come to a gateway that has read no event of the tenant yet.
func TestAGatewayThatHasJustStartedFindsEarlierOutputs(t *testing.T) {
	t.Parallel()
	f := open(t)
	id := f.prompt(map[string]any{"prompt": picture(11)})
	file := saved(t, f.ended(id), "2").Get("filename")
	again := graph{
		"1": node("LoadImage", map[string]any{"image": id + "/" + file + " [output]"}),
		"2": node("SaveImage", map[string]any{"images": []any{"1", 0}, "filename_prefix": "out"}),
	}
	fresh := open(t)
	saved(t, fresh.ended(fresh.prompt(map[string]any{"prompt": again})), "2")
	output, _ := f.get("/api/v2/jobs/" + id)["outputs"].([]any)[0].(map[string]any)
	hash, _ := output["hash"].(string)
	if a := open(t).do(http.MethodHead, "/api/v2/assets/by-hash/"+hash, nil); a.status != http.StatusOK {
		t.Errorf("by its hash %q the output is %d", hash, a.status)
	}
	if a := open(t).do(http.MethodGet, "/view?filename="+hash, nil); a.status != http.StatusOK || !bytes.HasPrefix(a.body, []byte("\x89PNG")) {
		t.Errorf("by its hash %q the output is viewed as %d %.20q", hash, a.status, a.body)
	}
	if a := open(t).do(http.MethodGet, "/internal/files/output", nil); !strings.Contains(string(a.body), file) {
		t.Errorf("the files of the tenant are %s", a.body)
	}
}
