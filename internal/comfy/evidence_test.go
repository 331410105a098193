package comfy_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/failure"
)

// blaming are the kinds of failure that blame the host.
var blaming = []failure.Kind{failure.HostSick, failure.HostLost, failure.OutOfMemory, failure.Incapable}

// node is one node of a workflow, for json.
func node(class string, inputs map[string]any) map[string]any {
	return map[string]any{"class_type": class, "inputs": inputs}
}

func link(id string) []any { return []any{id, 0} }

func promptOf(t *testing.T, graph map[string]any) comfy.Prompt {
	t.Helper()
	body, err := json.Marshal(graph)
	if err != nil {
		t.Fatal(err)
	}
	return comfy.Prompt{ID: uuid.NewString(), Workflow: body}
}

func empty(color int) map[string]any {
	return node("EmptyImage", map[string]any{"width": 64, "height": 64, "batch_size": 1, "color": color})
}

func TestNothingThatAUserWritesBlamesAHost(t *testing.T) {
	t.Parallel()
	fields := map[string]func(text string) map[string]any{
		"PrefixOutsideTheFolder": func(text string) map[string]any {
			return map[string]any{"1": empty(1), "9": node("SaveImage", map[string]any{"images": link("1"), "filename_prefix": "../../" + text + "/y"})}
		},
		"Prefix": func(text string) map[string]any {
			return map[string]any{"1": empty(2), "9": node("SaveImage", map[string]any{"images": link("1"), "filename_prefix": text})}
		},
		"Text": func(text string) map[string]any {
			return map[string]any{"1": node("SimText", map[string]any{"text": text}), "9": node("PreviewAny", map[string]any{"source": link("1")})}
		},
		"ValueError": func(text string) map[string]any {
			return map[string]any{"1": empty(3), "5": node("SimRaise", map[string]any{"image": link("1"), "kind": "ValueError", "message": text}),
				"9": node("SaveImage", map[string]any{"images": link("5"), "filename_prefix": "a"})}
		},
		"KeyError": func(text string) map[string]any {
			return map[string]any{"1": empty(4), "5": node("SimRaise", map[string]any{"image": link("1"), "kind": "KeyError", "message": text}),
				"9": node("SaveImage", map[string]any{"images": link("5"), "filename_prefix": "a"})}
		},
		"NodeID": func(text string) map[string]any {
			return map[string]any{"1": empty(5), text: node("SimRaise", map[string]any{"image": link("1"), "kind": "ValueError", "message": text}),
				"9": node("SaveImage", map[string]any{"images": link(text), "filename_prefix": "a"})}
		},
		"Title": func(text string) map[string]any {
			raise := node("SimRaise", map[string]any{"image": link("1"), "kind": "ValueError"})
			raise["_meta"] = map[string]any{"title": text}
			return map[string]any{"1": empty(6), "5": raise, "9": node("SaveImage", map[string]any{"images": link("5"), "filename_prefix": "a"})}
		},
		"Choice": func(text string) map[string]any {
			return map[string]any{"1": empty(7), "5": node("ImageScale", map[string]any{"image": link("1"), "upscale_method": text, "width": 8, "height": 8, "crop": text}),
				"9": node("SaveImage", map[string]any{"images": link("5"), "filename_prefix": "a"})}
		},
		"Number": func(text string) map[string]any {
			e := empty(8)
			e["inputs"].(map[string]any)["width"] = text
			return map[string]any{"1": e, "9": node("SaveImage", map[string]any{"images": link("1"), "filename_prefix": "a"})}
		},
		"InputFile": func(text string) map[string]any {
			return map[string]any{"1": node("LoadImage", map[string]any{"image": text}), "9": node("SaveImage", map[string]any{"images": link("1"), "filename_prefix": "a"})}
		},
	}
	for field, graph := range fields {
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			r := simulate(t, comfysim.Config{})
			for _, text := range comfy.Patterns() {
				p := promptOf(t, graph(text))
				p.ExtraData = []byte(`{"note":` + quote(t, text) + `}`)
				_, err := r.run(p, comfy.Watch{})
				if f := failure.As(err); f != nil && (slices.Contains(blaming, f.Kind) || f.Cause != "") {
					t.Errorf("%q ends as %v", text, err)
				}
			}
			if reason, cause, err := r.host.Sick(within(t)); cause != "" || err != nil {
				t.Errorf("the host counts as %s: %s, %v", cause, reason, err)
			}
		})
	}
}

func TestNothingThatANodePrintsMakesTheHostSick(t *testing.T) {
	t.Parallel()
	r := simulate(t, comfysim.Config{})
	graph := map[string]any{"0": empty(1)}
	last := "0"
	for i, text := range comfy.Patterns() {
		id := fmt.Sprint(i + 1)
		graph[id] = node("SimPrint", map[string]any{"image": link(last), "text": text})
		last = id
	}
	// Longer than QuietTime: the log is read while it is quiet.
	graph["quiet"] = node("SimSleep", map[string]any{"image": link(last), "seconds": 1.5, "steps": 0})
	graph["save"] = node("SaveImage", map[string]any{"images": link("quiet"), "filename_prefix": "a"})
	if _, err := r.run(promptOf(t, graph), comfy.Watch{}); err != nil {
		t.Error(err)
	}
}

func TestTextsInARefusalDecideNothing(t *testing.T) {
	t.Parallel()
	const shape = `{"error": {"type": "prompt_outputs_failed_validation", "message": %[1]s, "details": %[1]s, "extra_info": {"node_title": %[1]s}},
		"node_errors": {"2": {"errors": [{"type": "custom_validation_failed", "message": %[1]s, "details": %[1]s, "extra_info": {"input_name": %[1]s, "received_value": %[1]s}}], "class_type": %[1]s}}}`
	const foreign = `{"error": %[1]s}`
	for _, status := range []int{http.StatusBadRequest, http.StatusForbidden, http.StatusUnauthorized, http.StatusFound, http.StatusMethodNotAllowed, http.StatusRequestEntityTooLarge} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			body := ""
			host := serve(t, routes{"POST /prompt": func(w http.ResponseWriter, r *http.Request) { says(status, body)(w, r) }})
			for _, text := range comfy.Patterns() {
				for _, body = range []string{fmt.Sprintf(shape, quote(t, text)), fmt.Sprintf(foreign, quote(t, text)), text} {
					_, err := host.Run(within(t), comfy.Prompt{ID: promptID, Workflow: []byte(graph)}, comfy.Watch{})
					if got := failure.KindOf(err); got != failure.Refused {
						t.Errorf("%s ends as %v", body, err)
					}
				}
			}
		})
	}
}

func TestTextsOfOtherExceptionsDecideNothing(t *testing.T) {
	t.Parallel()
	for _, exception := range []string{"ValueError", "Exception", "KeyError", "FileNotFoundError", "custom_nodes.x.LoadError", "AssertionError"} {
		t.Run(exception, func(t *testing.T) {
			t.Parallel()
			body := ""
			host := serve(t, routes{
				"GET /history/" + promptID: func(w http.ResponseWriter, r *http.Request) { says(http.StatusOK, body)(w, r) },
				"GET /queue":               says(http.StatusOK, emptyQueue),
				"POST /prompt":             accepts(promptID),
			})
			for _, text := range comfy.Patterns() {
				body = fmt.Sprintf(`{"%s": {"outputs": {}, "status": {"status_str": "error", "completed": false, "messages": [["execution_error", {"node_id": %[2]s, "node_type": %[2]s, "exception_type": %[3]q, "exception_message": %[2]s}]]}}}`,
					promptID, quote(t, text), exception)
				_, err := host.Run(within(t), comfy.Prompt{ID: promptID, Workflow: []byte(graph)}, comfy.Watch{})
				if f := failure.As(err); f == nil || f.Kind != failure.ExecutionError || f.Cause != "" {
					t.Errorf("%q ends as %v", text, err)
				}
			}
		})
	}
}
