// Package workflow reads ComfyUI workflows in API format.
//
// It guarantees that a [Graph] is a workflow no ComfyUI host can be wedged by
// for reasons visible in the workflow itself, that its bytes are never
// re-encoded (64-bit seeds, floats, key order and Unicode survive whatever is
// done to it), and that its [Hash] depends on structure and models alone.
//
// How: one pass of a strict JSON scanner over the bytes yields a flat list of
// tokens with their positions. Everything else (hash, requirements, size,
// refusals) reads that list, and every change to a workflow is a splice of new
// bytes between copied ones.
//
// The package is pure: no clock, no I/O, no goroutines, no randomness. All
// values it returns are immutable and safe for concurrent use, except
// [CapabilityBuilder].
package workflow
