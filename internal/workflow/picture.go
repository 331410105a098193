package workflow

import (
	"bytes"
	"encoding/binary"
	"errors"
	"image"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
)

// maxHeader bounds what is read of a picture: a JPEG may have much before its
// size, such as a smaller picture and a colour profile.
const maxHeader = 1 << 20

// PictureSize reads the size of a PNG, JPEG, GIF or WEBP from its beginning. It
// reads no pixels, and no more than 1 MiB; ok is false for anything else. Of a
// picture that moves it tells the size of one frame.
func PictureSize(r io.Reader) (width, height int, ok bool) {
	r = io.LimitReader(r, maxHeader)
	var head [30]byte
	n, err := io.ReadFull(r, head[:])
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return 0, 0, false
	}
	start := head[:n]
	whole := io.MultiReader(bytes.NewReader(start), r)
	var config image.Config
	switch {
	case bytes.HasPrefix(start, []byte("\x89PNG")):
		config, err = png.DecodeConfig(whole)
	case bytes.HasPrefix(start, []byte("\xff\xd8")):
		config, err = jpeg.DecodeConfig(whole)
	case bytes.HasPrefix(start, []byte("GIF8")):
		config, err = gif.DecodeConfig(whole)
	default:
		width, height = webpSize(start)
		return width, height, width > 0 && height > 0
	}
	return config.Width, config.Height, err == nil && config.Width > 0 && config.Height > 0
}

// webpSize reads the first chunk of a WEBP: VP8 (lossy), VP8L (lossless) or
// VP8X (with more chunks to come); 0 and 0 when there is none.
func webpSize(head []byte) (width, height int) {
	if len(head) < 30 || string(head[:4]) != "RIFF" || string(head[8:12]) != "WEBP" {
		return 0, 0
	}
	switch string(head[12:16]) {
	case "VP8 ": // a frame tag of 3 bytes, a mark, and two sizes of 14 bits with 2 of scaling
		if string(head[23:26]) == "\x9d\x01\x2a" {
			return int(binary.LittleEndian.Uint16(head[26:]) & 0x3fff), int(binary.LittleEndian.Uint16(head[28:]) & 0x3fff)
		}
	case "VP8L": // a mark, and two sizes of 14 bits, less one
		if head[20] == 0x2f {
			bits := binary.LittleEndian.Uint32(head[21:])
			return int(bits&0x3fff) + 1, int(bits>>14&0x3fff) + 1
		}
	case "VP8X": // flags, 3 bytes of nothing, and two sizes of 24 bits, less one
		uint24 := func(b []byte) int { return int(b[0]) | int(b[1])<<8 | int(b[2])<<16 }
		return uint24(head[24:]) + 1, uint24(head[27:]) + 1
	}
	return 0, 0
}
