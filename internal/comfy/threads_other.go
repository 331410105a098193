//go:build !linux

package comfy

// newProcessReader sees nothing here.
func newProcessReader(_, _, _ string) ProcessReader { return nil }
