package gateway_test

import (
	"bytes"
	"net/http"
	"sync"
	"testing"

	"github.com/google/uuid"
)

func TestAnIDThatIsSentManyTimesAtOnceRunsOnce(t *testing.T) {
	t.Parallel()
	f := open(t)
	id := uuid.NewString()
	body := map[string]any{"prompt": picture(7654321), "prompt_id": id, "client_id": "tab"}
	var sending sync.WaitGroup
	for range 8 {
		sending.Go(func() {
			if a := f.do(http.MethodPost, "/prompt", body); a.status != http.StatusOK {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	sending.Wait()
	entry := f.ended(id)
	if a := f.do(http.MethodPost, "/prompt", body); a.status != http.StatusOK { // it has ended, and is answered all the same
		t.Errorf("again: %d %s", a.status, a.body)
	}
	if tuple, _ := entry["prompt"].([]any); len(tuple) != 5 || len(tuple[2].(map[string]any)) == 0 {
		t.Errorf("the history has no graph: %v", entry["prompt"])
	}
	if a := f.do(http.MethodGet, "/queue", nil); string(a.body) != `{"queue_pending":[],"queue_running":[]}` {
		t.Errorf("queue %s", a.body)
	}
	runs := 0 // on all hosts
	for _, sim := range shared.sims {
		for _, sent := range sim.Prompts() {
			if bytes.Contains(sent, []byte(`"color":7654321`)) {
				runs++
			}
		}
	}
	if runs != 1 {
		t.Errorf("it ran %d times", runs)
	}
}
