package workflow

import (
	"bytes"
	"strings"
)

// maxModel is the longest name that a file can have, in bytes.
const maxModel = 255

// model returns the model file that the string at token at names, or nothing.
func (d *document) model(at int32) []byte {
	inside := d.inside(at)
	if !d.escaped(at) {
		if isModel(inside) {
			return inside // it has no backslashes
		}
		return nil
	}
	const longest = 6 * maxModel // every byte may be escaped as \u0061
	var room [longest]byte
	if len(inside) > longest || !isModel(appendUnescaped(room[:0], inside)) {
		return nil
	}
	return bytes.ReplaceAll(d.text(at), []byte(`\`), []byte("/"))
}

// NamesModel says whether a text is taken for the name of a model file, which makes it a requirement.
func NamesModel(text string) bool { return isModel([]byte(text)) }

// isModel says whether a string names a model file: it has a model file's
// extension (whatever its case), at most 255 bytes and no line break. A prompt
// that happens to end in ".bin" counts as one too, which does no harm.
func isModel(s []byte) bool {
	if len(s) > maxModel {
		return false
	}
	var lower [len("safetensors")]byte
	end := s[max(0, len(s)-len(".safetensors")):]
	dot := bytes.LastIndexByte(end, '.')
	if dot < 0 {
		return false
	}
	extension := end[dot+1:]
	for i := range extension {
		lower[i] = extension[i] | 0x20 // this turns no byte but a capital into a letter
	}
	switch string(lower[:len(extension)]) {
	case "safetensors", "sft", "ckpt", "pt", "pth", "bin", "gguf", "onnx", "pkl", "npz", "vae", "yaml", "yml":
		return !bytes.ContainsAny(s, "\r\n")
	}
	return false
}

// modelLike says whether a string that the hash does not count as a model file
// is the name of one all the same.
func modelLike(s []byte) bool {
	dot := bytes.LastIndexByte(s, '.')
	if dot < 0 {
		return false
	}
	switch strings.ToLower(string(s[dot+1:])) {
	case "pt2", "torchscript", "patch", "engine":
		return true
	}
	return false
}
