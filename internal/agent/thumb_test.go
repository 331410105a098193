package agent_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/job"
)

// halves is a picture whose left half is red and whose right half is transparent.
func halves(t *testing.T, width, height int) []byte {
	t.Helper()
	picture := image.NewNRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width / 2 {
			picture.SetNRGBA(x, y, color.NRGBA{R: 200, A: 255})
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, picture); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestASmallPictureLooksLikeTheLargeOne(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ width, height, wantWidth, wantHeight int }{
		"Wide": {1600, 800, 320, 160}, "Tall": {500, 1000, 160, 320}, "Thin": {4000, 2, 320, 1}, "Small": {40, 30, 40, 30},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			small, err := agent.Reduce(halves(t, tc.width, tc.height))
			if err != nil {
				t.Fatal(err)
			}
			got, err := jpeg.Decode(bytes.NewReader(small))
			if err != nil {
				t.Fatal(err)
			}
			if got.Bounds().Dx() != tc.wantWidth || got.Bounds().Dy() != tc.wantHeight {
				t.Errorf("%v, want %d × %d", got.Bounds(), tc.wantWidth, tc.wantHeight)
			}
			r, g, _, _ := got.At(tc.wantWidth/5, 0).RGBA()
			if r>>8 < 185 || r>>8 > 215 || g>>8 > 25 {
				t.Errorf("left is %d %d, want red", r>>8, g>>8)
			}
			r, g, _, _ = got.At(tc.wantWidth*4/5, 0).RGBA()
			if r>>8 < 240 || g>>8 < 240 {
				t.Errorf("right is %d %d, want white", r>>8, g>>8)
			}
		})
	}
}

// The pictures of the README are in WebP, of 1280 × 800 pixels.
func TestPicturesInWebPAndGIFAreRead(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../docs/pictures/now.webp")
	if err != nil {
		t.Fatal(err)
	}
	var moving bytes.Buffer
	frame := image.NewPaletted(image.Rect(0, 0, 640, 400), color.Palette{color.Black, color.White})
	if err := gif.EncodeAll(&moving, &gif.GIF{Image: []*image.Paletted{frame, frame}, Delay: []int{5, 5}}); err != nil {
		t.Fatal(err)
	}
	for name, picture := range map[string][]byte{"WebP": raw, "GIF": moving.Bytes()} {
		small, err := agent.Reduce(picture)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if head, err := jpeg.DecodeConfig(bytes.NewReader(small)); err != nil || head.Width != 320 || head.Height != 200 {
			t.Errorf("%s: the small picture has %d × %d pixels: %v", name, head.Width, head.Height, err)
		}
	}
}

// A file of a few bytes may say that it has any number of pixels.
func TestAPictureOfTooManyPixelsIsNotDecoded(t *testing.T) {
	t.Parallel()
	raw := halves(t, 4, 4)
	binary.BigEndian.PutUint32(raw[16:], 100_000)
	binary.BigEndian.PutUint32(raw[20:], 100_000)
	binary.BigEndian.PutUint32(raw[29:], crc32.ChecksumIEEE(raw[12:29]))
	if _, err := agent.Reduce(raw); err == nil || !strings.Contains(err.Error(), "too many pixels") {
		t.Errorf("got %v", err)
	}
	if _, err := agent.Reduce([]byte("<svg/>")); err == nil {
		t.Error("what is no picture was reduced")
	}
}

// noise is a PNG of so many pixels that it cannot be packed.
func noise(t *testing.T, size int) string {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	picture := image.NewNRGBA(image.Rect(0, 0, size, size))
	for i := range picture.Pix {
		picture.Pix[i] = uint8(r.Uint32())
	}
	var b bytes.Buffer
	if err := png.Encode(&b, picture); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestLargePicturesAreStoredWithASmallOne(t *testing.T) {
	t.Parallel()
	large, little := noise(t, 400), noise(t, 20)
	for name, tc := range map[string]struct {
		body, contentType, node string
		config                  agent.Config
		preview                 string
		want                    string
	}{
		"AVideo":             {"no picture", "video/mp4", "9", agent.Config{}, noise(t, 500), "acme/one/9/thumbs/a.png.jpg"},
		"AVideoUnseen":       {"no picture", "video/mp4", "9", agent.Config{}, "", ""},
		"Large":              {large, "image/png", "9", agent.Config{}, "", "acme/one/9/thumbs/a.png.jpg"},
		"OfANodeThatIsAPath": {large, "image/png", "../../bolt/one/9", agent.Config{}, "", "acme/one/../../bolt/one/9/thumbs/a.png.jpg"},
		"SmallItself":        {little, "image/png", "9", agent.Config{}, "", ""},
		"NoneWanted":         {large, "image/png", "9", agent.Config{NoThumbs: true}, "", ""},
		"NoPicture":          {strings.Repeat("x", 100_000), "image/png", "9", agent.Config{}, "", ""},
		"OtherType":          {large, "image/avif", "9", agent.Config{}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, tc.config)
			h.fake.mu.Lock()
			h.fake.open = func(comfy.Output) (io.ReadCloser, string, int64, error) {
				return io.NopCloser(strings.NewReader(tc.body)), tc.contentType, int64(len(tc.body)), nil
			}
			h.fake.mu.Unlock()
			h.fake.set(func() {
				h.fake.perform = func(_ context.Context, _ comfy.Prompt, w comfy.Watch) (*comfy.Result, error) {
					w.Running()
					if tc.preview != "" {
						w.Preview("image/png", []byte(tc.preview))
					}
					return &comfy.Result{Outputs: []comfy.Output{{Node: tc.node, Media: "images", Filename: "a.png", Type: "output"}}}, nil
				}
			})
			o := h.queued(job.Spec{ID: "one"})
			h.accepted(o)
			got := h.event(o, job.Completed).Outputs
			if len(got) != 1 || got[0].Thumb != tc.want || h.stored(got[0].Object) != tc.body {
				t.Fatalf("the outputs are %+v, want the small picture %q", got, tc.want)
			}
			if tc.want != "" {
				if head, err := jpeg.DecodeConfig(strings.NewReader(h.stored(tc.want))); err != nil || head.Width != 320 || head.Height != 320 {
					t.Errorf("the small picture: %+v, %v", head, err)
				}
			}
		})
	}
}
