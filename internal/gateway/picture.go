package gateway

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/draw"
	_ "image/jpeg" // pictures that clients upload
	"image/png"
	"io"
	"net/http"
)

// mostPixels bounds the pictures that a gateway decodes.
const mostPixels = 64 << 20

var errNoPicture = &failed{http.StatusUnprocessableEntity, "no_picture", "this file is no PNG or JPEG picture of a usual size"}

// mostDecoded is how many pictures are decoded at a time: a small file may have mostPixels, which take several hundred MB.
const mostDecoded = 2

// decoded makes a picture of others, when it is its turn.
func (g *Gateway) decoded(ctx context.Context, draw func() ([]byte, error)) ([]byte, error) {
	select {
	case g.decoding <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-g.decoding }()
	return draw()
}

// readPicture decodes a picture of a usual size, and gives the file as well.
func readPicture(file io.Reader) (encoded []byte, picture image.Image, err error) {
	if encoded, err = io.ReadAll(io.LimitReader(file, largestPicture)); err != nil {
		return nil, nil, err
	}
	size, _, err := image.DecodeConfig(bytes.NewReader(encoded))
	if err != nil || size.Width <= 0 || size.Height <= 0 || size.Width > mostPixels/size.Height {
		return nil, nil, errNoPicture
	}
	if picture, _, err = image.Decode(bytes.NewReader(encoded)); err != nil {
		return nil, nil, errNoPicture
	}
	return encoded, picture, nil
}

// largestPicture is the most bytes of a picture that a gateway decodes.
const largestPicture = 128 << 20

// pictureChannel is a picture without its alpha channel (rgb), or that channel alone (a), as a PNG.
func pictureChannel(file io.Reader, channel string) ([]byte, error) {
	_, picture, err := readPicture(file)
	if err != nil {
		return nil, err
	}
	bounds := picture.Bounds()
	out := image.NewNRGBA(image.Rect(0, 0, bounds.Dx(), bounds.Dy()))
	for y := range bounds.Dy() {
		for x := range bounds.Dx() {
			c, _ := color.NRGBAModel.Convert(picture.At(bounds.Min.X+x, bounds.Min.Y+y)).(color.NRGBA)
			if channel == "rgb" {
				c.A = 255
			} else { // ComfyUI: black, with the alpha of the picture
				c = color.NRGBA{A: c.A}
			}
			out.SetNRGBA(x, y, c)
		}
	}
	return encodePNG(out, nil)
}

// masked is a picture whose alpha is that of a mask, as ComfyUI's /upload/mask makes it: the mask is scaled to the picture's size.
// The texts of a PNG, which hold its workflow, are kept.
func masked(original, mask io.Reader) ([]byte, error) {
	encoded, picture, err := readPicture(original)
	if err != nil {
		return nil, err
	}
	_, alpha, err := readPicture(mask)
	if err != nil {
		return nil, err
	}
	bounds, from := picture.Bounds(), alpha.Bounds()
	out := image.NewNRGBA(image.Rect(0, 0, bounds.Dx(), bounds.Dy()))
	draw.Draw(out, out.Bounds(), picture, bounds.Min, draw.Src)
	for y := range bounds.Dy() {
		for x := range bounds.Dx() {
			c, _ := color.NRGBAModel.Convert(picture.At(bounds.Min.X+x, bounds.Min.Y+y)).(color.NRGBA)
			_, _, _, a := alpha.At(from.Min.X+x*from.Dx()/bounds.Dx(), from.Min.Y+y*from.Dy()/bounds.Dy()).RGBA()
			c.A = uint8(a >> 8)
			out.SetNRGBA(x, y, c)
		}
	}
	return encodePNG(out, pngTexts(encoded))
}

// encodePNG writes a PNG with chunks before its end.
func encodePNG(picture image.Image, chunks []byte) ([]byte, error) {
	var out bytes.Buffer
	if err := png.Encode(&out, picture); err != nil {
		return nil, err
	}
	const end = 12 // the bytes of the last chunk, IEND
	whole := out.Bytes()
	at := len(whole) - end
	return append(append(append(make([]byte, 0, len(whole)+len(chunks)), whole[:at]...), chunks...), whole[at:]...), nil
}

// pngTexts are the chunks of a PNG that hold texts, each whole and with a checksum that is right; none when it is no PNG.
func pngTexts(file []byte) []byte {
	const signature = "\x89PNG\r\n\x1a\n"
	rest, is := bytes.CutPrefix(file, []byte(signature))
	if !is {
		return nil
	}
	var texts []byte
	for len(rest) >= 12 {
		length := binary.BigEndian.Uint32(rest)
		if uint64(length)+12 > uint64(len(rest)) {
			break
		}
		chunk := rest[:length+12]
		rest = rest[length+12:]
		kind := string(chunk[4:8])
		sound := crc32.ChecksumIEEE(chunk[4:len(chunk)-4]) == binary.BigEndian.Uint32(chunk[len(chunk)-4:])
		if sound && (kind == "tEXt" || kind == "iTXt" || kind == "zTXt") {
			texts = append(texts, chunk...)
		}
	}
	return texts
}
