package workflow

import (
	"bytes"
	"math"
	"strconv"
	"strings"
)

// immense is larger than every real value, and small enough to calculate with.
const immense = 1e18

// statement is what the inputs of a node say about the pictures that it makes.
type statement struct {
	width, height quantity
	batch, frames quantity
	factor        quantity // of width and height
	repeat        quantity // of the number of pictures
	megapixels    quantity
	from          extent // of the nodes that compute width or height
}

// quantity is a number that a node is given; it is unknown when it is computed.
type quantity struct {
	value        float64
	there, known bool
}

func (q *quantity) positive() bool { return q.known && q.value > 0 }
func (q *quantity) unknown() bool  { return q.there && !q.known }

// said reads a node's inputs.
func (s *sizer) said(n *node) statement {
	var said statement
	class := s.text(n.class)
	for _, in := range s.inputsOf(n) {
		name := s.name(in)
		if q := said.named(name, class); q != nil {
			said.take(s, q, in)
		} else if s.kind(in.value()) == kindString && contains(name, "resolution", "dimensions", "aspect") {
			said.preset(string(s.inside(in.value())))
		}
	}
	if contains(class, "KontextImageScale") { // to one of a dozen sizes of a megapixel
		said.megapixels = quantity{value: 1, there: true, known: true}
	}
	return said
}

// take is q of an input; of several the largest, or one that is not known.
func (said *statement) take(s *sizer, q *quantity, in member) {
	read := s.quantity(in)
	if !read.there {
		return
	}
	if !q.there || read.value > q.value || read.unknown() {
		*q = read
	}
	if read.unknown() && (q == &said.width || q == &said.height) {
		said.compute(s, in)
	}
}

// compute takes the size that a node upstream computes as that of its pictures.
func (said *statement) compute(s *sizer, in member) {
	source := s.source(in)
	if source < 0 {
		return
	}
	if !said.from.made {
		said.from = extent{takes: pictures, sized: true, counted: true}
	}
	said.from.join(s.of(source))
}

// named is what an input of this name says.
func (said *statement) named(input, class []byte) *quantity {
	switch string(input) {
	case "width", "custom_width":
		return &said.width
	case "height", "custom_height":
		return &said.height
	case "batch_size", "batch", "batch_count", "count":
		if bytes.HasPrefix(class, []byte("Rebatch")) { // cuts a batch, and makes it no larger
			return nil
		}
		return &said.batch
	case "length", "frames", "num_frames", "frame_count", "video_length", "video_frames", "num_video_frames", "frame_load_cap":
		return &said.frames
	case "scale_by", "upscale_by", "scale_factor", "upscale_factor", "rescale_factor":
		return &said.factor
	case "megapixels":
		return &said.megapixels
	case "multiply_by":
		return &said.repeat
	case "amount":
		if bytes.HasPrefix(class, []byte("Repeat")) {
			return &said.repeat
		}
	}
	return nil
}

// quantity reads a number, also one that is written as text, as ComfyUI does, or
// that is in a node of its own.
func (s *sizer) quantity(in member) quantity {
	at := in.value()
	if source := s.source(in); source >= 0 {
		n, only := &s.nodes[source], quantity{there: true}
		for _, in := range s.inputsOf(n) {
			switch {
			case s.source(in) >= 0 || only.known && s.kind(in.value()) == kindNumber:
				return quantity{there: true}
			case s.kind(in.value()) == kindNumber:
				only = quantity{there: true, known: s.finite(in.value()), value: min(s.number(in.value()), immense)}
			}
		}
		return only
	}
	switch s.kind(at) {
	case kindNumber:
		value := s.number(at)
		return quantity{there: true, known: !math.IsNaN(value), value: min(value, immense)}
	case kindString:
		value, err := strconv.ParseUint(string(s.inside(at)), 10, 32)
		return quantity{there: err == nil, known: err == nil, value: float64(value)}
	}
	return quantity{}
}

// preset takes the first "<width>x<height>" of a text that may name a size, as
// "1344x768 (16:9)".
func (said *statement) preset(text string) {
	for at := range len(text) {
		if c := text[at]; c != 'x' && c != 'X' && c != '*' {
			continue
		}
		before, after := strings.TrimRight(text[:at], " "), strings.TrimLeft(text[at+1:], " ")
		width := before[len(strings.TrimRight(before, "0123456789")):]
		height := after[:len(after)-len(strings.TrimLeft(after, "0123456789"))]
		w, wrong := strconv.ParseUint(width, 10, 16)
		h, worse := strconv.ParseUint(height, 10, 16)
		if wrong == nil && worse == nil && w >= 16 && h >= 16 {
			said.width = quantity{value: float64(w), there: true, known: true}
			said.height = quantity{value: float64(h), there: true, known: true}
			return
		}
	}
}

// change makes of the extent that a node is given the one that it makes.
func (said *statement) change(e *extent) {
	said.resize(e)
	said.recount(e)
	if said.factor.unknown() || said.repeat.unknown() {
		e.sized = false
	}
	if said.factor.positive() {
		e.width, e.height = e.width*said.factor.value, e.height*said.factor.value
	}
	if said.repeat.positive() {
		e.count *= math.Trunc(said.repeat.value)
	}
	e.width, e.height, e.count = min(e.width, immense), min(e.height, immense), min(e.count, immense)
}

// resize applies width and height; of a side that is 0 the node finds the other
// one by the proportions of its picture.
func (said *statement) resize(e *extent) {
	if said.width.unknown() || said.height.unknown() { // computed: as large as what it is computed from
		e.made, e.sized, e.width, e.height = true, said.from.sized, said.from.width, said.from.height
		if said.height.positive() {
			e.height = said.height.value
		}
		if said.width.positive() {
			e.width = said.width.value
		}
		return
	}
	width, height := said.width.positive(), said.height.positive()
	switch {
	case width && height:
		e.made, e.sized, e.width, e.height = true, true, said.width.value, said.height.value
	case width && e.width > 0:
		e.width, e.height = said.width.value, e.height*said.width.value/e.width
	case height && e.height > 0:
		e.width, e.height = e.width*said.height.value/e.height, said.height.value
	case said.megapixels.unknown():
		e.sized = false
	case said.megapixels.positive() && e.takes > other:
		side := math.Sqrt(said.megapixels.value * (1 << 20))
		e.made, e.sized, e.width, e.height = true, true, side, side
	}
}

// recount applies batch and frames. Where a node says neither it makes as many
// pictures as it is given.
func (said *statement) recount(e *extent) {
	if said.batch.positive() || said.frames.positive() {
		batch, frames := max(math.Trunc(said.batch.value), 1), max(math.Trunc(said.frames.value), 1)
		e.count, e.counted = batch*frames, true
	}
	if said.batch.unknown() || said.frames.unknown() {
		e.counted = false
	}
}
