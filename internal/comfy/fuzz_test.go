package comfy_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/http"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfy"
)

func FuzzAnswer(f *testing.F) {
	for _, e := range recorded[ended](f, "endings.jsonl") {
		f.Add([]byte(e.Body), e.id())
	}
	for _, r := range recorded[struct{ Body string }](f, "refusals.jsonl") {
		f.Add([]byte(r.Body), promptID)
	}
	f.Add([]byte(`{"queue_running": [[0, "a", {}, {}, []]], "queue_pending": [[-1.5, "b"], [NaN, null], 7]}`), "b")
	f.Add([]byte(`{"error": {"type": "missing_node_type", "extra_info": []}, "node_errors": []}`), "b")
	f.Add([]byte("Exception in thread Thread-1 (prompt_worker):\nTraceback\nKeyError: 'inputs'"), "b")
	f.Fuzz(func(_ *testing.T, body []byte, id string) { comfy.ReadAnswer(body, id) })
}

func FuzzFrame(f *testing.F) {
	for _, text := range []string{
		`{"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 2}}, "sid": "a"}}`,
		`{"type": "executing", "data": {"node": "2", "display_node": "2", "prompt_id": "p"}}`,
		`{"type": "executing", "data": {"node": null, "prompt_id": "p"}}`,
		`{"type": "executing", "data": {"node": "2"}}`,
		`{"type": "progress", "data": {"value": 1, "max": 4.0, "prompt_id": "p", "node": "2.0.0.1"}}`,
		`{"type": "progress", "data": {"value": NaN, "max": -Infinity, "prompt_id": "p", "node": 2}}`,
		`{"type": "execution_cached", "data": {"nodes": ["1", 2, null], "prompt_id": "p", "timestamp": 1}}`,
		`{"type": "executed", "data": {"node": "3", "output": null, "prompt_id": "p"}}`,
		`{"type": "execution_error", "data": {"prompt_id": "p", "node_id": "3", "exception_type": "ExecutionBlocked", "current_inputs": []}}`,
		`{"type": "progress_state", "data": {"prompt_id": "p", "nodes": {}}}`,
	} {
		f.Add([]byte(text))
	}
	f.Add(withMeta(`{"prompt_id": "p", "image_type": "image/png"}`, "\x89PNG"))
	f.Add([]byte("\x00\x00\x00\x01\x00\x00\x00\x01\xff\xd8"))
	f.Add([]byte("\x00\x00\x00\x04\xff\xff\xff\xff{}"))
	f.Fuzz(func(t *testing.T, frame []byte) {
		comfy.Track(frame)
		if image, ok := comfy.ParseBinary(frame); ok && !bytes.HasSuffix(frame, image) {
			t.Error("the image is no part of its frame")
		}
	})
}

// withMeta is a binary frame of event 4.
func withMeta(meta, image string) []byte {
	frame := binary.BigEndian.AppendUint32(nil, 4)
	frame = binary.BigEndian.AppendUint32(frame, uint32(len(meta)))
	return append(append(frame, meta...), image...)
}

func TestEventsAreReadFromFrames(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		frame string
		want  bool
	}{
		"ReconnectExecutingNamesNoPrompt": {`{"type": "executing", "data": {"node": "2"}}`, false},
		"ProgressStateIsDropped":          {`{"type": "progress_state", "data": {"prompt_id": "p", "nodes": {}}}`, false},
		"NaN":                             {`{"type": "progress", "data": {"value": NaN, "max": 4, "prompt_id": "p", "node": "2"}}`, true},
		"ListOfInputs":                    {`{"type": "execution_error", "data": {"prompt_id": "p", "current_inputs": []}}`, true},
		"NullOutput":                      {`{"type": "executed", "data": {"node": "3", "output": null, "prompt_id": "p"}}`, true},
		"Junk":                            {`{"type": "progress", "data": 5}`, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			prompt, ok := comfy.ParseText([]byte(c.frame))
			if ok != c.want || ok && prompt != "p" {
				t.Errorf("%q, %v", prompt, ok)
			}
		})
	}
}

func TestAHostThatAnswersNonsenseEndsThePrompt(t *testing.T) {
	t.Parallel()
	for _, junk := range []string{``, `{`, `[]`, `null`, `5`, `"x"`, `<html>`, `{"status": {}}`, `{"queue_running": 5, "queue_pending": {}}`} {
		t.Run(junk, func(t *testing.T) {
			t.Parallel()
			host := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					accepts(promptID)(w, r)
					return
				}
				says(http.StatusOK, junk)(w, r)
			}))
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, err := host.Run(ctx, comfy.Prompt{ID: promptID, Workflow: []byte(graph)}, comfy.Watch{})
			if err == nil || ctx.Err() != nil {
				t.Errorf("ended as %v", err)
			}
		})
	}
}
