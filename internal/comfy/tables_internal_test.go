package comfy

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/failure"
)

func TestAPromptsPlaceIsThatOfItsNumberAndThenOfItsID(t *testing.T) {
	t.Parallel()
	line, err := readBacklog([]byte(`{"queue_running": [[1, "r", {}, {}, []]], "queue_pending": [[], [0], [5, "c"], [3, "b", {}, {}, []], [3, "a", {}, {}, []], [-2, "d", {}, {}, []]]}`))
	if err != nil {
		t.Fatal(err)
	}
	type place struct {
		State PromptState
		Ahead int
	}
	for id, want := range map[string]place{"r": {Running, 0}, "d": {Pending, 1}, "a": {Pending, 2}, "b": {Pending, 3}, "c": {Pending, 4}, "e": {}} {
		state, ahead := line.find(id)
		if got := (place{state, ahead}); got != want {
			t.Errorf("%s is at %+v, want %+v", id, got, want)
		}
	}
}

// The members of an entry are number, id, graph, extra_data and the nodes to run; older servers have fewer.
func TestAnEntryOfTheHistoryIsReadAsFarAsItGoes(t *testing.T) {
	t.Parallel()
	const members = `1, "a", {"1": {}}, {"create_time": 1000}, []`
	for n := range 6 {
		prompt := strings.Join(strings.SplitN(members, ", ", 5)[:min(n, 5)], ", ")
		body := `{"a": {"prompt": [` + prompt + `], "status": {"messages": [["execution_start", {"timestamp": 1500}]]}}}`
		e, err := readHistory([]byte(body), "a")
		if err != nil {
			t.Fatal(err)
		}
		if (e.queued == 500*time.Millisecond) != (n > 3) || (string(e.graph) == `{"1": {}}`) != (n > 2) {
			t.Errorf("with %d members it was queued for %s, and its graph is %s", n, e.queued, e.graph)
		}
	}
}

func TestAnExceptionSaysWhereItWasRaised(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		raised raised
		want   failure.Failure
	}{
		{raised{Node: "4", Class: "A", Exception: "ValueError", Message: "no\n\nTIPS: less"},
			failure.Failure{Kind: failure.ExecutionError, Node: "4", Class: "A", Exception: "ValueError", Message: "node 4 (A) raised ValueError: no"}},
		{raised{}, failure.Failure{Kind: failure.ExecutionError, Message: "a node raised an error: no message"}},
	} {
		if diff := cmp.Diff(&c.want, c.raised.failure()); diff != "" {
			t.Error(diff)
		}
	}
	for exception, want := range map[text]bool{"ExecutionBlocked": true, "comfy.ExecutionBlocked": true, "NotExecutionBlocked": false, "ExecutionBlocked2": false} {
		if r := (raised{Exception: exception}); r.blocked() != want {
			t.Errorf("%s blocks: %t", exception, !want)
		}
	}
}

func TestOnlyComfyUIsRefusalsAreRead(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]bool{
		`{"error": {"type": "no_prompt"}, "node_errors": {}}`: true,
		`{"error": {"type": "no_prompt"}, "node_errors": []}`: true,
		`{"error": "no prompt", "node_errors": []}`:           true,
		`{"error": {"type": "no_prompt"}}`:                    false,
		`{"error": {"message": "no"}, "node_errors": {}}`:     false,
		`{"error": "", "node_errors": []}`:                    false,
		`{"error": 5, "node_errors": {}}`:                     false,
		`{"node_errors": {}}`:                                 false,
	} {
		var r refusal
		if err := decode([]byte(body), &r); err != nil {
			t.Fatal(err)
		}
		if r.fromComfyUI() != want {
			t.Errorf("%s is ComfyUI's: %t", body, !want)
		}
	}
}

// refusedBy is the failure of a refusal whose error is top and whose nodes have these faults.
func refusedBy(t *testing.T, top, nodes string) *failure.Failure {
	t.Helper()
	var r refusal
	if err := decode([]byte(`{"error": `+top+`, "node_errors": `+nodes+`}`), &r); err != nil {
		t.Fatal(err)
	}
	return r.failure(map[string]bool{"77": true})
}

func TestARefusalSaysWhatIsMissingAndWhere(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		top  string
		want failure.Failure
	}{
		{`{"type": "missing_node_type", "details": "Node ID '#2'", "extra_info": {"node_id": "1", "class_type": "A"}}`,
			failure.Failure{Kind: failure.Incapable, Node: "1", Class: "A", Exception: "missing_node_type", Message: "node class A (node 1) is not installed on this host"}},
		{`{"type": "missing_node_type", "details": "Node ID '#2'", "extra_info": {"class_type": ""}}`,
			failure.Failure{Kind: failure.InvalidWorkflow, Node: "2", Exception: "missing_node_type", Message: `node 2 has no class_type; export the workflow again with "Workflow → Export (API)"`}},
		{`{"type": "other", "message": "Cannot execute because node A does not exist."}`,
			failure.Failure{Kind: failure.Refused, Exception: "other", Message: "ComfyUI refused the workflow: Cannot execute because node A does not exist."}},
		{`{"type": "invalid_prompt", "message": "The cat does not exist."}`,
			failure.Failure{Kind: failure.Refused, Exception: "invalid_prompt", Message: "ComfyUI refused the workflow: The cat does not exist."}},
		{`{"type": "invalid_prompt", "message": "Cannot execute because node A is odd."}`,
			failure.Failure{Kind: failure.Refused, Exception: "invalid_prompt", Message: "ComfyUI refused the workflow: Cannot execute because node A is odd."}},
		{`{"type": "prompt_no_outputs", "message": "Prompt has no outputs"}`,
			failure.Failure{Kind: failure.InvalidWorkflow, Exception: "prompt_no_outputs",
				Message: "ComfyUI refused the workflow: the workflow has no output node (such as SaveImage), or none of include_outputs is one"}},
		{`{"type": "odd", "details": "why"}`, failure.Failure{Kind: failure.Refused, Exception: "odd", Message: "ComfyUI refused the workflow: why"}},
		{`{"type": "odd"}`, failure.Failure{Kind: failure.Refused, Exception: "odd", Message: "ComfyUI refused the workflow: odd"}},
	} {
		if diff := cmp.Diff(&c.want, refusedBy(t, c.top, "{}")); diff != "" {
			t.Errorf("%s: %s", c.top, diff)
		}
	}
}

// What no host can accept comes before what this one does not, and that before what another one has.
func TestOfSeveralFaultsTheWorstIsReported(t *testing.T) {
	t.Parallel()
	const (
		lacks   = `{"type": "value_not_in_list", "message": "not in list", "details": "a", "extra_info": {"input_name": "ckpt_name", "received_value": "a.safetensors"}}`
		refuses = `{"type": "custom_validation_failed", "message": "no file", "details": "cat.png", "extra_info": {"received_value": "cat.png"}}`
		breaks  = `{"type": "bad_linked_input", "message": "a bad link"}`
		other   = `{"type": "exception_during_validation", "message": "odd", "details": "'77'", "extra_info": {"exception_type": "ValueError"}}`
		hint    = ` (to send a file with the job, list it in the job's "inputs")`
	)
	node := func(id string, faults ...string) string {
		return fmt.Sprintf(`%q: {"class_type": "C%s", "errors": [%s]}`, id, id, strings.Join(faults, ", "))
	}
	for _, c := range []struct {
		nodes []string
		want  failure.Failure
	}{
		{[]string{node("1", lacks), node("2", lacks)}, failure.Failure{Kind: failure.Incapable, Node: "1", Class: "C1", Exception: "value_not_in_list",
			Message: `model "a.safetensors" (ckpt_name of node 1, C1) is not on this host; model "a.safetensors" (ckpt_name of node 2, C2) is not on this host`}},
		{[]string{node("1", lacks), node("2", refuses)}, failure.Failure{Kind: failure.Refused, Node: "2", Class: "C2", Exception: "custom_validation_failed",
			Message: "node 2 (C2): no file: cat.png" + hint}},
		{[]string{node("1", lacks, breaks), node("2", refuses)}, failure.Failure{Kind: failure.InvalidWorkflow, Node: "1", Class: "C1", Exception: "bad_linked_input",
			Message: "node 1 (C1): a bad link"}},
		{[]string{node("1", other)}, failure.Failure{Kind: failure.Refused, Node: "1", Class: "C1", Exception: "exception_during_validation", Message: "node 1 (C1): odd: '77'"}},
		{[]string{node("1")}, failure.Failure{Kind: failure.Refused, Node: "1", Class: "C1", Exception: "dropped",
			Message: "node 1 (C1): ComfyUI leaves this node out and does not say why"}},
	} {
		got := refusedBy(t, `{"type": "prompt_outputs_failed_validation", "message": "no"}`, "{"+strings.Join(c.nodes, ", ")+"}")
		if diff := cmp.Diff(&c.want, got); diff != "" {
			t.Errorf("%s: %s", c.nodes, diff)
		}
	}
}

func TestListsOfListsAreReadThreeDeep(t *testing.T) {
	t.Parallel()
	const file = `{"filename": "a.png"}`
	for shown, want := range map[string]int{file: 1, "[" + file + "]": 1, "[[[" + file + "]]]": 1, "[[[[" + file + "]]]]": 0} {
		if got := readOutputs(map[string]json.RawMessage{"9": json.RawMessage(`{"images": ` + shown + `}`)}); len(got.files) != want {
			t.Errorf("%s: %d files", shown, len(got.files))
		}
	}
	got := readOutputs(map[string]json.RawMessage{"9": json.RawMessage(`{"text": ["a.png"], "other": ["b.png"]}`)})
	if len(got.files) != 0 || len(got.texts["9"]) != 1 {
		t.Errorf("%+v", got)
	}
}

func TestWhatLooksLikeAPathIsOne(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1020)
	for shown, want := range map[string]bool{
		"a.glb": true, long + ".png": true, long + "x.png": false, "a:b.png": false, "a?.png": false, "a\nb.png": false, "a": false, "a.": false, "1.5": false, "It sat.": false,
	} {
		if _, is := pathOutput(shown); is != want {
			t.Errorf("%.20q: %t", shown, is)
		}
	}
}

func TestOnlyComfyUIItselfIsInTrouble(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]bool{
		"500 Internal Server Error\n\nServer got itself in trouble": true, "500 Internal Server Error": false, "Server got itself in trouble": false, "": false,
	} {
		if raisedInComfyUI([]byte(body)) != want {
			t.Errorf("%q: %t", body, !want)
		}
		err := answering(t, http.StatusInternalServerError, body).put(t.Context(), fileRef{"output", ownFolder, "a"}, nil, true)
		if errors.Is(err, ErrNoRoom) != want {
			t.Errorf("%q: %v", body, err)
		}
	}
}

// Two ComfyUIs may share a folder in which each has a file of its name's hash.
func TestHostsHaveNamesOfTheirOwn(t *testing.T) {
	t.Parallel()
	if got := hexHash("a"); got != "af63dc4c8601ec8c" { // FNV-1a of 64 bits
		t.Error(got)
	}
}
