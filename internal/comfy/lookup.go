package comfy

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// PromptState is where a prompt is on its host: in the backlog, running, or ended.
type PromptState int

const (
	Unknown PromptState = iota // never seen, deleted while pending, or lost with a restart or a wiped history
	Pending
	Running
	Ended // it has a history entry: success, failure or interruption
)

func (s PromptState) String() string { return [...]string{"unknown", "pending", "running", "ended"}[s] }

// statusError is an answer whose status is an error.
type statusError struct {
	path   string
	status int
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%s answers HTTP %d %s", e.path, e.status, http.StatusText(e.status))
}

// Find looks a prompt up by id. Unknown is an answer; an error means that
// there was none.
func (h *Host) Find(ctx context.Context, promptID string) (PromptState, error) {
	state, _, err := h.lookup(ctx, promptID)
	return state, err
}

// lookup asks /api/jobs/{id}, which looks in the backlog and the history. Servers without it, and those that fail at the
// entry, are asked for /queue first and then for /history/{id}: a prompt moves from the one to the other in one step, so
// that it cannot be missed in this order.
func (h *Host) lookup(ctx context.Context, id string) (PromptState, *ending, error) {
	if !h.oldJobs.Load() {
		state, e, err := h.lookupJob(ctx, id)
		var status *statusError
		if !errors.As(err, &status) && !errors.Is(err, errForeignAnswer) {
			return state, e, err
		}
	}
	line, err := h.backlog(ctx)
	if err != nil {
		return Unknown, nil, err
	}
	if state, _ := line.find(id); state != Unknown {
		return state, nil, nil
	}
	path := "/history/" + url.PathEscape(id)
	got, err := h.get(ctx, path, nil, largeAnswer)
	if err != nil {
		return Unknown, nil, err
	}
	if got.status != http.StatusOK {
		return Unknown, nil, &statusError{path, got.status}
	}
	e, err := readHistory(got.body, id)
	if e == nil {
		return Unknown, nil, err
	}
	return Ended, e, nil
}

func (h *Host) lookupJob(ctx context.Context, id string) (PromptState, *ending, error) {
	path := "/api/jobs/" + url.PathEscape(id)
	got, err := h.get(ctx, path, nil, largeAnswer)
	if err != nil {
		return Unknown, nil, err
	}
	switch got.status {
	case http.StatusOK:
		if state, e := readJob(got.body); state != Unknown {
			return state, e, nil
		}
		return Unknown, nil, fmt.Errorf("read %s: %w", path, errForeignAnswer)
	case http.StatusNotFound:
		if isJobNotFound(got.body) {
			return Unknown, nil, nil
		}
		h.oldJobs.Store(true)
	case http.StatusMethodNotAllowed:
		h.oldJobs.Store(true)
	}
	return Unknown, nil, &statusError{path, got.status}
}

// isJobNotFound reports whether a 404 is about the job and not about the route.
func isJobNotFound(body []byte) bool {
	var d struct {
		Error text `json:"error"`
	}
	return decode(body, &d) == nil && d.Error != ""
}

// backlog is GET /queue.
type backlog struct{ running, pending []place }

// place is one prompt in the backlog; lower numbers go first, equal ones by id.
type place struct {
	number float64
	id     string
}

func (h *Host) backlog(ctx context.Context) (backlog, error) {
	got, err := h.get(ctx, "/queue", nil, largeAnswer)
	if err != nil {
		return backlog{}, err
	}
	if got.status != http.StatusOK {
		return backlog{}, &statusError{"/queue", got.status}
	}
	line, err := readBacklog(got.body)
	if err == nil {
		h.noteBacklog(line)
	}
	return line, err
}

func readBacklog(body []byte) (backlog, error) {
	var d struct {
		Running [][]json.RawMessage `json:"queue_running"`
		Pending [][]json.RawMessage `json:"queue_pending"`
	}
	if err := decode(body, &d); err != nil {
		return backlog{}, fmt.Errorf("read /queue: %w: %w", errForeignAnswer, err)
	}
	return backlog{running: places(d.Running), pending: places(d.Pending)}, nil
}

func places(entries [][]json.RawMessage) []place {
	var all []place
	for _, entry := range entries {
		if len(entry) < 2 {
			continue
		}
		var n number
		var id text
		_, _ = decode(entry[0], &n), decode(entry[1], &id) // both are JSON; what is no number or text is zero
		all = append(all, place{float64(n), string(id)})
	}
	return all
}

// find gives the state of a prompt and how many prompts go before it.
func (b backlog) find(id string) (state PromptState, ahead int) {
	for _, p := range b.running {
		if p.id == id {
			return Running, 0
		}
	}
	for _, p := range b.pending {
		if p.id != id {
			continue
		}
		ahead = len(b.running)
		for _, other := range b.pending {
			if cmp.Or(cmp.Compare(other.number, p.number), strings.Compare(other.id, p.id)) < 0 {
				ahead++
			}
		}
		return Pending, ahead
	}
	return Unknown, 0
}

func asStatus(err error) (*statusError, bool) {
	var status *statusError
	is := errors.As(err, &status)
	return status, is
}
