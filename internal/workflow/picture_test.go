package workflow_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/comfyherd/comfyherd/internal/workflow"
)

func encoded(t testing.TB, encode func(w io.Writer, m image.Image) error) string {
	t.Helper()
	var b bytes.Buffer
	if err := encode(&b, image.NewPaletted(image.Rect(0, 0, 300, 200), []color.Color{color.Black, color.White})); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func unhex(t testing.TB, digits string) string {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestAPictureTellsItsSize(t *testing.T) {
	t.Parallel()
	withPNG := encoded(t, png.Encode)
	withJPEG := encoded(t, func(w io.Writer, m image.Image) error { return jpeg.Encode(w, m, nil) })
	for name, picture := range map[string]string{
		"PNG":              withPNG,
		"PNGHeaderAlone":   withPNG[:33+18+8],
		"JPEG":             withJPEG,
		"JPEGWithAProfile": withJPEG[:2] + strings.Repeat("\xff\xe2\xff\xff"+strings.Repeat("p", 0xfffd), 12) + withJPEG[2:], // 12 × 64 KiB
		"GIF":              encoded(t, func(w io.Writer, m image.Image) error { return gif.Encode(w, m, nil) }),
		"WEBPLossy":        unhex(t, "52494646a6000000574542505650 38209a0000007010009d012a2c01c800"),
		"WEBPLossless":     unhex(t, "5249464622000000574542505650384c160000002f2bc13100071011fd0f"),
		"WEBPWithMore":     unhex(t, "5249464616010000574542505650 38580a00000002000000 2b0100 c70000"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if w, h, ok := workflow.PictureSize(strings.NewReader(picture)); w != 300 || h != 200 || !ok {
				t.Errorf("%d × %d, %t", w, h, ok)
			}
		})
	}
}

func TestWhatIsNoPictureHasNoSize(t *testing.T) {
	t.Parallel()
	late := encoded(t, func(w io.Writer, m image.Image) error { return jpeg.Encode(w, m, nil) })
	for _, text := range []string{
		"", "\x89PNG", "\xff\xd8", "GIF89a", "RIFF....WEBP", "RIFF....WEBPVP8 " + strings.Repeat("\x00", 20), "RIFF....WAVEfmt " + strings.Repeat("\x01", 20),
		strings.Repeat("x", 100), "\xff\xd8" + strings.Repeat("\xff\xe2\xff\xff"+strings.Repeat("p", 0xfffd), 40) + late[2:],
	} {
		if w, h, ok := workflow.PictureSize(strings.NewReader(text)); ok || w > 0 && h > 0 {
			t.Errorf("%.40q has %d × %d", text, w, h)
		}
	}
}

// FuzzPictureSize: nothing panics, and a size is one.
func FuzzPictureSize(f *testing.F) {
	f.Add(encoded(f, png.Encode))
	f.Add(encoded(f, func(w io.Writer, m image.Image) error { return jpeg.Encode(w, m, nil) }))
	f.Add(encoded(f, func(w io.Writer, m image.Image) error { return gif.Encode(w, m, nil) }))
	f.Add(unhex(f, "5249464622000000574542505650384c160000002f2bc13100071011fd0f"))
	f.Fuzz(func(t *testing.T, picture string) {
		if w, h, ok := workflow.PictureSize(strings.NewReader(picture)); ok && (w < 1 || h < 1) {
			t.Fatalf("%d × %d", w, h)
		}
	})
}

func TestAPictureThatCannotBeReadHasNoSize(t *testing.T) {
	t.Parallel()
	broken := io.MultiReader(strings.NewReader("GIF89a\x01\x00\x01\x00\x00\x00\x00"), iotest.ErrReader(errors.New("the disk is gone")))
	if w, h, ok := workflow.PictureSize(broken); w != 0 || h != 0 || ok {
		t.Errorf("%d × %d, %t", w, h, ok)
	}
}
