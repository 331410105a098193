package workflow

import "math"

// Size returns how big the pictures of a workflow are, to compare runs of equal
// hash by memory: the largest width × height × batch × frames of any node, in
// pixels, saturating; 0 when no node has a width and a height as plain numbers.
// Batch is batch_size; frames is the largest of length, frames, num_frames,
// frame_count and video_length; what is missing counts as 1. Fractions are cut
// off, as ComfyUI does for integers.
func (g *Graph) Size() int64 {
	largest := int64(0)
	for i := range g.nodes {
		largest = max(largest, g.sizeOf(&g.nodes[i]))
	}
	return largest
}

func (g *Graph) sizeOf(n *node) int64 {
	width, height, batch, frames := int64(0), int64(0), int64(1), int64(0)
	for _, in := range g.inputsOf(n) {
		if g.kind(in.value()) != kindNumber {
			continue
		}
		switch string(g.name(in)) {
		case "width":
			width = g.count(in.value())
		case "height":
			height = g.count(in.value())
		case "batch_size":
			batch = g.count(in.value())
		case "length", "frames", "num_frames", "frame_count", "video_length":
			frames = max(frames, g.count(in.value()))
		}
	}
	return times(times(width, height), times(batch, max(frames, 1)))
}

// count returns the number at token at as a count: at least 0, cut and saturating.
func (g *Graph) count(at int32) int64 {
	switch f := g.number(at); {
	case f < 0:
		return 0
	case f >= math.MaxInt64:
		return math.MaxInt64
	default:
		return int64(f)
	}
}

// times multiplies counts, saturating.
func times(a, b int64) int64 {
	if a != 0 && b > math.MaxInt64/a {
		return math.MaxInt64
	}
	return a * b
}
