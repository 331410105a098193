// Package workflow reads ComfyUI workflows in API format.
//
// It guarantees that a [Graph] has no fault that is visible in the workflow
// itself and would stop a ComfyUI host, that its bytes are never re-encoded
// (64-bit seeds, floats, key order and Unicode survive every change), and that
// its [Hash] depends on structure and models alone.
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
