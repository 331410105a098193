package comfy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
)

const (
	// cancelAgain is how often an order to stop is repeated: one that meets the
	// moment between the backlog and the worker is lost.
	cancelAgain = time.Second
	// lateArrival is how long a prompt whose POST had no answer may take to
	// appear on a host that answers.
	lateArrival = 2 * time.Second
)

// Cancel stops one prompt by its id and returns when it is neither pending nor
// running, or with an error when ctx ends first. A node that shows no progress
// stops only when it is through. Cancelling what has ended, or what a dead
// process took along, is a success. A prompt whose POST had no answer is awaited
// for a moment.
func (h *Host) Cancel(ctx context.Context, promptID string) error {
	wait, began := 20*time.Millisecond, time.Now()
	var asked time.Time
	for {
		standing, err := h.Find(ctx, promptID)
		late := standing == Unknown && h.doubtful(promptID) && time.Since(began) < lateArrival
		if err != nil && refused(err) || err == nil && (standing == Ended || standing == Unknown && !late) {
			h.settled(promptID)
			return nil
		}
		if err == nil && !late && time.Since(asked) >= cancelAgain {
			asked = time.Now()
			err = h.stop(ctx, promptID, standing)
		}
		if !pause(ctx, wait) {
			if err == nil {
				err = context.Cause(ctx)
			}
			return fmt.Errorf("cancel prompt %s on %s: it is still %s: %w", promptID, h, standing, err)
		}
		wait = min(2*wait, 500*time.Millisecond)
	}
}

// stop gives the order once. /interrupt ignores the id before 0.3.57, so that
// it is used only for the prompt that was just seen running.
func (h *Host) stop(ctx context.Context, id string, standing Standing) error {
	if standing == Pending {
		if err := h.order(ctx, "/queue", map[string]any{"delete": []string{id}}); err != nil {
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
	if standing != Running {
		return nil
	}
	return h.order(ctx, "/interrupt", map[string]any{"prompt_id": id})
}

// order posts JSON and expects nothing but a 200.
func (h *Host) order(ctx context.Context, path string, content any) error {
	body, err := json.Marshal(content)
	if err != nil {
		return fmt.Errorf("write the order to %s: %w", path, err)
	}
	got, err := h.post(ctx, path, string(body))
	if err != nil {
		return err
	}
	if got.status != http.StatusOK {
		return fmt.Errorf("order %s: %w", h, &statusError{path, got.status})
	}
	return nil
}

// Forget deletes one prompt's history entry: ComfyUI keeps 10 000 of them, with
// whole graphs, in memory.
func (h *Host) Forget(ctx context.Context, promptID string) error {
	return h.order(ctx, "/history", map[string]any{"delete": []string{promptID}})
}

// Free asks ComfyUI to unload models and to drop its node cache. It does so
// when it is next between two prompts.
func (h *Host) Free(ctx context.Context) error {
	return h.order(ctx, "/free", map[string]any{"unload_models": true, "free_memory": true})
}

// Sick looks in the host's log for the one sign of a dead worker thread:
// ComfyUI answers everything then and runs nothing until it is
// restarted. Servers without /internal/logs are never found sick.
func (h *Host) Sick(ctx context.Context) (reason string, sick bool, err error) {
	got, err := h.get(ctx, "/internal/logs", nil, largeAnswer)
	if err != nil {
		return "", false, fmt.Errorf("read the log of %s: %w", h, err)
	}
	if got.status == http.StatusNotFound {
		return "", false, nil
	}
	if got.status != http.StatusOK {
		return "", false, fmt.Errorf("read the log of %s: %w", h, &statusError{"/internal/logs", got.status})
	}
	var log string
	if decode(got.body, &log) != nil || log == "" {
		log = string(got.body)
	}
	reason, sick = wedged(log)
	return reason, sick, nil
}

// wedged finds "Exception in thread Thread-1 (prompt_worker):" and the
// exception's own line at the end of the traceback that follows.
func wedged(log string) (reason string, is bool) {
	const head, worker = "Exception in thread", "(prompt_worker)"
	for rest := log; ; {
		at := strings.Index(rest, head)
		if at < 0 {
			return "", false
		}
		rest = rest[at+len(head):]
		line, after, _ := strings.Cut(rest, "\n")
		if !strings.Contains(line, worker) {
			continue
		}
		reason = "ComfyUI's worker thread has died and nothing runs until it is restarted"
		if cause := lastOfTraceback(after); cause != "" {
			reason += ": " + cause
		}
		return oneLine(reason), true
	}
}

// exceptionLine is the end of a traceback: "KeyError: 'inputs'", perhaps after
// a timestamp.
var exceptionLine = regexp.MustCompile(`(?:^|\s)((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Exit|Interrupt|Warning)\b.*)$`)

func lastOfTraceback(log string) string {
	lines := strings.SplitN(log, "\n", 200)
	for _, line := range lines[:min(len(lines), 199)] {
		if strings.Contains(line, `File "`) || len(line) > 4096 {
			continue
		}
		if found := exceptionLine.FindStringSubmatch(line); found != nil {
			return clip(found[1], 200)
		}
	}
	return ""
}
