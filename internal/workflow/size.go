package workflow

import (
	"bytes"
	"math"
)

// Size returns how big the pictures of a workflow are, to compare runs of equal
// hash by memory: the largest width × height × number of pictures of any node,
// in pixels, saturating and at least 1. It is 0 when that is unknown: where what
// is sampled or decoded takes its size from a picture that was loaded, from a
// number that is computed, or from a node that tells none.
//
// A node has the size that it states, else that of the pictures it is given.
// Only what the hash leaves out is looked at: a factor that is the model's own,
// such as that of an upscaler, is the same in all workflows of one hash.
func (g *Graph) Size() int64 {
	g.measured.Do(func() { g.size = g.SizeWith(nil) })
	return g.size
}

// SizeWith is Size where the sizes of loaded pictures are known: picture is
// asked for the nodes that load something, such as LoadImage, and answers
// whether it knows the picture of that node. nil knows none.
func (g *Graph) SizeWith(picture func(node string) (width, height int, ok bool)) int64 {
	s := sizer{Graph: g, picture: picture, extents: make([]extent, len(g.nodes))}
	latents, unknown, largest := false, false, 0.0
	for i := range g.nodes {
		e := s.of(int32(i))
		if e.known() {
			largest = max(largest, e.pixels())
		}
		switch {
		case e.takes < pictures || e.takes == pictures && latents:
		case e.takes == latent && !latents: // what goes on in pixels matters less than what is sampled
			latents, unknown = true, !e.known()
		default:
			unknown = unknown || !e.known()
		}
	}
	switch {
	case unknown || largest == 0:
		return 0
	case largest >= math.MaxInt64:
		return math.MaxInt64
	}
	return max(int64(largest), 1)
}

// carrier is what a link brings, as far as its input's name tells.
type carrier uint8

const (
	other    carrier = iota // models, conditioning and such: it says nothing of a size
	passed                  // anything, as of a Reroute
	pictures                // pixels
	latent
)

// extent is how big the pictures are that a node makes or hands on.
type extent struct {
	width, height, count float64
	sized, counted       bool    // the picture's size is known, the number of pictures is
	made                 bool    // there are pictures, of whatever size
	takes                carrier // what it takes its size from
	done                 bool
}

func (e *extent) known() bool { return e.made && e.sized && e.counted }
func (e *extent) pixels() float64 {
	return max(math.Trunc(e.width), 1) * max(math.Trunc(e.height), 1) * e.count
}

// sizer finds the extent of each node once.
type sizer struct {
	*Graph
	picture func(node string) (width, height int, ok bool)
	extents []extent
}

// of is the extent of a node. It goes as deep as the longest chain of links,
// which check bounds.
func (s *sizer) of(i int32) extent {
	if s.extents[i].done {
		return s.extents[i]
	}
	n := &s.nodes[i]
	said := s.said(n)
	e := s.given(n)
	switch {
	case tellsOnly(s.text(n.class)):
		e, said = extent{}, statement{}
	case e.takes == other && s.picture != nil:
		if width, height, ok := s.picture(s.idOf(n)); ok {
			e = extent{width: float64(width), height: float64(height), count: 1, made: true, sized: true, counted: true}
		}
	}
	said.change(&e)
	e.done = true
	s.extents[i] = e
	return e
}

// given is the extent of what a node is given: of its latents when it has any,
// else of its pictures, else of whatever has one.
func (s *sizer) given(n *node) extent {
	e := extent{counted: true, count: 1}
	for _, in := range s.inputsOf(n) {
		if source := s.source(in); source >= 0 {
			e.takes = max(e.takes, carries(s.name(in)))
		}
	}
	if e.takes == other {
		e.counted = !loadsMany(s.text(n.class))
		return e
	}
	e.sized = true
	for _, in := range s.inputsOf(n) {
		if source := s.source(in); source >= 0 && carries(s.name(in)) == e.takes {
			e.join(s.of(source))
		}
	}
	return e
}

// join makes e the larger one of both, and unknown where one of them is. An
// input for pictures that links to a node of which no pictures are known gets
// pictures of an unknown size.
func (e *extent) join(from extent) {
	if !from.made && e.takes == passed {
		return
	}
	e.made = true
	e.sized = e.sized && from.made && from.sized
	e.counted = e.counted && from.counted
	if from.width*from.height > e.width*e.height {
		e.width, e.height = from.width, from.height
	}
	e.count = max(e.count, from.count)
}

// source is the node that an input links to, or -1.
func (s *sizer) source(in member) int32 {
	if !s.followed(in.value()) {
		return -1
	}
	return int32(s.lookup(s.text(in.value() + 1)))
}

// carries judges an input by its name: the usual ones, then by their parts.
func carries(input []byte) carrier {
	switch string(input) {
	case "model", "clip", "vae", "positive", "negative", "conditioning", "sampler", "sigmas", "noise", "guider", "text", "prompt", "seed",
		"width", "height", "filename_prefix":
		return other
	case "samples", "latent_image":
		return latent
	case "image", "images", "pixels":
		return pictures
	}
	name := lower(make([]byte, 0, 64), input)
	switch {
	case contains(name, "model", "clip", "vae", "conditioning", "control", "mask", "audio", "lora"):
		return other
	case contains(name, "latent", "samples"):
		return latent
	case contains(name, "image", "pixels", "video", "frames"):
		return pictures
	}
	return passed
}

func contains(name []byte, parts ...string) bool {
	for _, part := range parts {
		if bytes.Contains(name, []byte(part)) {
			return true
		}
	}
	return false
}

// lower appends text with small letters from a to z to b, which allocates nothing when b has room for it.
func lower(b, text []byte) []byte {
	for _, c := range text {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		b = append(b, c)
	}
	return b
}

// tellsOnly says whether nodes of a class only give a size to a model, and make no pictures.
func tellsOnly(class []byte) bool {
	return bytes.HasPrefix(class, []byte("CLIPTextEncode")) || bytes.HasPrefix(class, []byte("ModelSampling"))
}

// loadsMany says whether a class that loads something loads any number of pictures.
func loadsMany(class []byte) bool {
	return contains(lower(make([]byte, 0, 64), class), "video", "images")
}
