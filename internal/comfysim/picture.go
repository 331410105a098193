package comfysim

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"strings"
	"sync"
)

// Picture is the colour of the picture that KSampler and VAEDecode make of a seed and the text of the positive prompt:
// the first three bytes of FNV-1a (64 bit) over the seed in decimal, a zero byte, and the text; opaque. Pictures are of
// one colour all over, so any pixel has it.
func Picture(seed uint64, positive string) color.RGBA {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%d\x00%s", seed, positive)
	var sum [8]byte
	binary.BigEndian.PutUint64(sum[:], h.Sum64())
	return color.RGBA{R: sum[0], G: sum[1], B: sum[2], A: 255}
}

// picture is a batch of n pictures of one colour. It stands for an IMAGE tensor.
type picture struct {
	width, height, n int
	fill             color.RGBA
}

// uniform is an image of one colour without pixels in memory. It implements image.PalettedImage.
type uniform struct {
	bounds image.Rectangle
	fill   color.RGBA
}

func (u uniform) ColorModel() color.Model     { return color.Palette{u.fill} }
func (u uniform) Bounds() image.Rectangle     { return u.bounds }
func (u uniform) At(int, int) color.Color     { return u.fill }
func (u uniform) ColorIndexAt(int, int) uint8 { return 0 }
func (p picture) still() uniform              { return uniform{image.Rect(0, 0, p.width, p.height), p.fill} }

// invert is ComfyUI's: its pictures are float32, and saving them cuts the fraction off, so that many a colour comes out
// one darker than the exact inverse.
func invert(c color.RGBA) color.RGBA {
	return color.RGBA{inverse(c.R), inverse(c.G), inverse(c.B), c.A}
}

func inverse(c uint8) uint8 {
	left := 1 - float32(float64(c)/255)
	return uint8(float32(255 * left))
}

func colorOf(rgb uint32) color.RGBA {
	return color.RGBA{uint8(rgb >> 16), uint8(rgb >> 8), uint8(rgb), 255}
}
func (p picture) scaled(width, height int) picture {
	if width == 0 && height == 0 {
		return p
	}
	if width == 0 {
		width = max(1, p.width*height/max(1, p.height))
	}
	if height == 0 {
		height = max(1, p.height*width/max(1, p.width))
	}
	p.width, p.height = width, height
	return p
}

// painter encodes pictures with buffers that are used again: a fresh compressor costs over a megabyte. It implements
// png.EncoderBufferPool.
type painter struct{ pool sync.Pool }

// Get returns a used buffer, nil when there is none.
func (b *painter) Get() *png.EncoderBuffer {
	used, _ := b.pool.Get().(*png.EncoderBuffer)
	return used
}

// Put takes a buffer back.
func (b *painter) Put(used *png.EncoderBuffer) { b.pool.Put(used) }

// png writes a picture as PNG with ComfyUI's text chunks (prompt, workflow) after the header.
func (b *painter) png(p picture, texts [][2]string) ([]byte, error) {
	var out bytes.Buffer
	enc := png.Encoder{CompressionLevel: png.BestSpeed, BufferPool: b}
	if err := enc.Encode(&out, p.still()); err != nil {
		return nil, err
	}
	if len(texts) == 0 {
		return out.Bytes(), nil
	}
	const head = 8 + 25 // signature and IHDR chunk
	data := out.Bytes()
	with := append(make([]byte, 0, len(data)+1024), data[:head]...)
	for _, text := range texts {
		with = appendChunk(with, "tEXt", text[0]+"\x00"+asciiJSON(text[1]))
	}
	return append(with, data[head:]...), nil
}

func appendChunk(to []byte, kind, data string) []byte {
	to = binary.BigEndian.AppendUint32(to, uint32(len(data)))
	start := len(to)
	to = append(append(to, kind...), data...)
	return binary.BigEndian.AppendUint32(to, crc32.ChecksumIEEE(to[start:]))
}

// asciiJSON escapes what is not ASCII, as json.dumps does, because a tEXt chunk is Latin-1.
func asciiJSON(text string) string {
	if !strings.ContainsFunc(text, func(r rune) bool { return r > 126 }) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		switch {
		case r <= 126:
			b.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+(r>>10), 0xdc00+(r&0x3ff))
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// preview makes a preview as ComfyUI does: scaled to fit 512 pixels, also upwards.
func (b *painter) preview(p picture, format string) ([]byte, error) {
	longest := max(p.width, p.height, 1)
	p.width, p.height = max(1, p.width*512/longest), max(1, p.height*512/longest)
	if format == "PNG" {
		return b.png(p, nil)
	}
	return encodeJPEG(p, 80)
}

func encodeJPEG(p picture, quality int) ([]byte, error) {
	var out bytes.Buffer
	err := jpeg.Encode(&out, p.still(), &jpeg.Options{Quality: quality})
	return out.Bytes(), err
}

// decodePicture reads an uploaded picture; its colour is that of the first pixel.
func decodePicture(data []byte) (picture, error) {
	img, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return picture{}, err
	}
	b := img.Bounds()
	fill, _ := color.RGBAModel.Convert(img.At(b.Min.X, b.Min.Y)).(color.RGBA)
	return picture{width: b.Dx(), height: b.Dy(), n: 1, fill: fill}, nil
}
