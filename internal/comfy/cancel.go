package comfy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

const (
	// cancelAgain is how often a request to stop is repeated: ComfyUI loses one that comes while the prompt moves from the
	// backlog to the worker.
	cancelAgain = time.Second
	// lateArrival is how long a prompt whose POST had no answer may take to
	// appear on a host that answers.
	lateArrival = 2 * time.Second
)

// Cancel stops one prompt by its id and returns when it is neither pending nor
// running, or with an error when ctx is done first. ComfyUI stops where a node
// begins or reports progress; a node that reports none runs to its end first. It is
// a success when the prompt has ended or its process has. A prompt whose POST had
// no answer is waited for until it appears, for 2 s.
func (h *Host) Cancel(ctx context.Context, promptID string) error {
	wait, began := 20*time.Millisecond, time.Now()
	var asked time.Time
	for {
		state, err := h.Find(ctx, promptID)
		late := state == Unknown && h.submitUnknown(promptID) && time.Since(began) < lateArrival
		if refused(err) || err == nil && (state == Ended || state == Unknown && !late) {
			h.submitKnown(promptID)
			h.stopDone(promptID)
			return nil
		}
		if err == nil && !late && time.Since(asked) >= cancelAgain {
			asked = time.Now()
			h.stopAsked(promptID)
			err = h.stop(ctx, promptID, state)
		}
		if !pause(ctx, wait) {
			if err == nil {
				err = context.Cause(ctx)
			}
			return fmt.Errorf("cancel prompt %s on %s: it is still %s: %w", promptID, h, state, err)
		}
		wait = min(2*wait, 500*time.Millisecond)
	}
}

// stop asks ComfyUI once to stop a prompt. Before 0.3.57 /interrupt ignores the id, so that it is used only for the prompt that
// was just seen running.
func (h *Host) stop(ctx context.Context, id string, state PromptState) error {
	if state == Pending {
		if err := h.command(ctx, "/queue", map[string]any{"delete": []string{id}}); err != nil {
			return err
		}
	}
	if !h.oldCancel.Load() {
		got, err := h.post(ctx, "/api/jobs/"+url.PathEscape(id)+"/cancel", "")
		if err != nil || got.status == http.StatusOK {
			return err
		}
		h.oldCancel.Store(got.status == http.StatusNotFound || got.status == http.StatusMethodNotAllowed)
	}
	if state != Running {
		return nil
	}
	return h.command(ctx, "/interrupt", map[string]any{"prompt_id": id})
}

// command posts JSON. Every answer but a 200 is an error.
func (h *Host) command(ctx context.Context, path string, content map[string]any) error {
	body, _ := json.Marshal(content) // it holds only strings, lists and booleans, so it cannot fail
	got, err := h.post(ctx, path, string(body))
	if err != nil {
		return err
	}
	if got.status != http.StatusOK {
		return fmt.Errorf("send a command to %s: %w", h, &statusError{path, got.status})
	}
	return nil
}

// Forget deletes one prompt's history entry: ComfyUI keeps 10 000 entries, with whole graphs, in memory.
func (h *Host) Forget(ctx context.Context, promptID string) error {
	return h.command(ctx, "/history", map[string]any{"delete": []string{promptID}})
}

// Free asks ComfyUI to unload models and to drop its node cache, which it does between two prompts.
func (h *Host) Free(ctx context.Context) error {
	return h.command(ctx, "/free", map[string]any{"unload_models": true, "free_memory": true})
}
