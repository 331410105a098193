package agent

import (
	"context"
	"slices"
)

// cleanUp removes the files of an ended attempt from the ComfyUI host, when they are stored and no prompt may still write
// them. Files that cannot be removed stay there, as after a crash.
func (h *host) cleanUp(ctx context.Context, prompt string) {
	if h.cfg.KeepFiles || h.cfg.Outputs == OutputsNone || slices.Contains(h.orphans.all(), prompt) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if err := h.comfy.Clear(ctx, prompt); err != nil && ctx.Err() == nil {
		h.log.Warn("cannot remove a job's files from ComfyUI's folders", "prompt", prompt, "error", err)
	}
}
