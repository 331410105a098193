package comfy

import (
	"context"
	"fmt"

	"github.com/google/uuid"
)

// identity is the host's process, as far as it is known.
type identity struct {
	id      string
	session *session // the socket that was open when id was read; while it is, the process is the same
}

// Process identifies the ComfyUI process: the same text over restarts of the agent, another one after each start of ComfyUI. It is
// a file of ours in the folder for temporary files, which ComfyUI empties when it starts. Several ComfyUIs may share that folder:
// while our socket to this one has not closed it is the same process, and a file that the start of another ComfyUI has removed is
// written again.
func (h *Host) Process(ctx context.Context) (string, error) {
	s := fileRef{"temp", ownFolder, "process-" + hexHash(h.String()) + ".txt"}
	session := h.current()
	h.mu.Lock()
	known := h.identity
	h.mu.Unlock()
	if known.session == nil || known.session != session {
		known = identity{}
	}
	for range 3 {
		content, err := h.fetch(ctx, s)
		if err != nil {
			return "", fmt.Errorf("ask %s which process it is: %w", h, err)
		}
		if id, err := uuid.ParseBytes(content); err == nil && (known.id == "" || known.id == id.String()) {
			if session != nil && session == h.current() {
				h.mu.Lock()
				h.identity = identity{id.String(), session}
				h.mu.Unlock()
			}
			return id.String(), nil
		}
		if known.id != "" && !session.answers(ctx) { // that the process is gone may not have been noticed yet
			return "", fmt.Errorf("ask %s which process it is: its websocket does not answer", h)
		}
		id := known.id
		if id == "" {
			id = uuid.NewString()
		}
		// Without overwrite the first of two agents wins; a file that is there and makes no sense is replaced.
		if err := h.put(ctx, s, []byte(id), content != nil); err != nil {
			return "", fmt.Errorf("identify the process of %s: %w", h, err)
		}
	}
	return "", fmt.Errorf("identify the process of %s: the file does not keep what is written to it", h)
}
