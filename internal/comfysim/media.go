package comfysim

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
	"image/gif"
)

// encodeWEBP writes a lossless WEBP of one colour. Each of the five Huffman codes has a single symbol, so pixels cost
// no bits (WebP Lossless Bitstream Specification, simple code length code).
func encodeWEBP(p picture) []byte {
	var w bitWriter
	w.put(0x2f, 8)
	w.put(uint32(p.width-1), 14)
	w.put(uint32(p.height-1), 14)
	w.put(0, 1) // alpha is not used
	w.put(0, 3) // version
	w.put(0, 3) // no transform, no colour cache, no meta Huffman code
	for _, symbol := range []uint8{p.fill.G, p.fill.R, p.fill.B, 255, 0} {
		w.put(1, 1) // simple code
		w.put(0, 1) // one symbol
		w.put(1, 1) // of eight bits
		w.put(uint32(symbol), 8)
	}
	if len(w.out)%2 == 1 {
		w.out = append(w.out, 0)
	}
	head := binary.LittleEndian.AppendUint32([]byte("RIFF"), uint32(12+len(w.out)))
	head = append(head, "WEBPVP8L"...)
	head = binary.LittleEndian.AppendUint32(head, uint32(len(w.out)))
	return append(head, w.out...)
}

// bitWriter packs bits, lowest first.
type bitWriter struct {
	out  []byte
	free int // unused bits of the last byte
}

func (w *bitWriter) put(value uint32, bits int) {
	for i := range bits {
		if w.free == 0 {
			w.out, w.free = append(w.out, 0), 8
		}
		w.out[len(w.out)-1] |= byte(value>>i&1) << (8 - w.free)
		w.free--
	}
}

// encodeGIF writes one frame per picture of the batch.
func encodeGIF(p picture, frameRate float64) ([]byte, error) {
	anim := gif.GIF{}
	for range max(p.n, 1) {
		frame := image.NewPaletted(image.Rect(0, 0, p.width, p.height), color.Palette{p.fill, color.Black})
		anim.Image = append(anim.Image, frame)
		anim.Delay = append(anim.Delay, int(100/max(frameRate, 1)))
	}
	var out bytes.Buffer
	err := gif.EncodeAll(&out, &anim)
	return out.Bytes(), err
}

// encodeFLAC writes a FLAC stream whose header announces no samples.
func encodeFLAC(sampleRate, channels int) []byte {
	out := append([]byte("fLaC"), 0x80, 0, 0, 34) // last metadata block: STREAMINFO, 34 bytes
	out = append(out, 0x10, 0, 0x10, 0)           // block sizes 4096
	out = append(out, make([]byte, 6)...)         // frame sizes unknown
	bits := uint64(sampleRate)<<44 | uint64(channels-1)<<41 | 15<<36
	out = binary.BigEndian.AppendUint64(out, bits)
	return append(out, make([]byte, 16)...)
}

// encodeGLB writes an empty binary glTF scene.
func encodeGLB() []byte {
	scene := []byte(`{"asset":{"version":"2.0"}} `)
	out := binary.LittleEndian.AppendUint32([]byte("glTF"), 2)
	out = binary.LittleEndian.AppendUint32(out, uint32(20+len(scene)))
	out = binary.LittleEndian.AppendUint32(out, uint32(len(scene)))
	return append(append(out, "JSON"...), scene...)
}
