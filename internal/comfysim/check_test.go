package comfysim_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/comfysim"
)

// validationFact is what ComfyUI 0.33.0 answered to one body: without tracebacks, dependent outputs sorted.
type validationFact struct {
	Name, Body, Error, Message, Details string
	Status                              int
	Nodes                               map[string]nodeFact
}

type nodeFact struct {
	Class      string   `json:"class_type"`
	Dependents []string `json:"dependent_outputs"`
	Errors     []struct {
		Type, Message, Details string
		Extra                  map[string]any `json:"extra_info"`
	}
}

type refusal struct {
	Error struct{ Type, Message, Details string }
	Nodes map[string]nodeFact `json:"node_errors"`
}

func TestValidationAnswersAsRecorded(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/validation.json")
	if err != nil {
		t.Fatal(err)
	}
	var facts []validationFact
	if err := json.Unmarshal(data, &facts); err != nil {
		t.Fatal(err)
	}
	h := start(t, comfysim.Config{})
	for _, fact := range facts {
		code, text := h.do("POST", "/prompt", fact.Body)
		if code != fact.Status {
			t.Errorf("%s: status %d %s, want %d", fact.Name, code, text, fact.Status)
			continue
		}
		if code == http.StatusInternalServerError {
			if text != "500 Internal Server Error\n\nServer got itself in trouble" {
				t.Errorf("%s: body %q", fact.Name, text)
			}
			continue
		}
		var got refusal
		mustDecode(t, text, &got)
		for id, n := range got.Nodes {
			slices.Sort(n.Dependents)
			for _, e := range n.Errors {
				delete(e.Extra, "traceback")
			}
			if len(fact.Nodes[id].Dependents) > 1 { // a Python set decides which output is looked at first
				n.Dependents = fact.Nodes[id].Dependents
			}
			got.Nodes[id] = n
		}
		if d := cmp.Diff([]string{fact.Error, fact.Message, fact.Details}, []string{got.Error.Type, got.Error.Message, got.Error.Details}); d != "" {
			t.Errorf("%s: error differs (-want +got):\n%s", fact.Name, d)
		}
		if d := cmp.Diff(fact.Nodes, got.Nodes); d != "" {
			t.Errorf("%s: node_errors differ (-want +got):\n%s", fact.Name, d)
		}
	}
}

func TestModelsOfTheHostAreTheChoicesOfItsLoaders(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{
		Models: map[string][]string{"checkpoints": {"sd_xl_base_1.0.safetensors"}, "upscale_models": {"4x.pth"}},
		Nodes:  []string{"FancyNode"}, Missing: []string{"ImageInvert"},
	})
	_, text := h.do("GET", "/object_info", "")
	for _, want := range []string{
		`"ckpt_name":[["sd_xl_base_1.0.safetensors"],`, `"options":["4x.pth"]`, `"max":18446744073709551615`, `"FancyNode":`,
	} {
		if !strings.Contains(strings.ReplaceAll(text, " ", ""), want) {
			t.Errorf("/object_info lacks %s", want)
		}
	}
	if _, text = h.do("GET", "/object_info/ImageInvert", ""); text != "{}" {
		t.Errorf("a missing class answers %s, want {}", text)
	}
	if code, text := h.do("POST", "/prompt", fmt.Sprintf(`{"prompt":%s}`, txt2img("sd_xl_base_1.0.safetensors", "1", "a cat", "x"))); code != 200 {
		t.Errorf("a graph with a known model = %d %s", code, text)
	}
	code, text := h.do("POST", "/prompt", fmt.Sprintf(`{"prompt":%s}`, txt2img("other.safetensors", "1", "a cat", "x")))
	if code != 400 || !strings.Contains(text, `not in ['sd_xl_base_1.0.safetensors']`) {
		t.Errorf("a graph with an unknown model = %d %s", code, text)
	}
	h.ended(1)
}

func TestOldVersionsLackTheJobsAPIAndKnowOldShapes(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{Version: "0.3.64"})
	if code, _ := h.do("GET", "/api/jobs", ""); code != http.StatusNotFound {
		t.Errorf("/api/jobs = %d, want 404", code)
	}
	_, text := h.do("POST", "/prompt", `{"prompt":{"1":{"class_type":"Nope","inputs":{}}}}`)
	var got refusal
	mustDecode(t, text, &got)
	if d := cmp.Diff(struct{ Type, Message, Details string }{"invalid_prompt", "Cannot execute because node Nope does not exist.", "Node ID '#1'"}, got.Error); d != "" {
		t.Errorf("old shape differs:\n%s", d)
	}
	if code, text := h.do("POST", "/prompt", fmt.Sprintf(`{"prompt_id":"my-job-1","prompt":%s}`, short(1, "x"))); code != 200 || !strings.Contains(text, `"my-job-1"`) {
		t.Errorf("any prompt_id = %d %s, want it accepted", code, text)
	}
	h.ended(1)
}

func TestPromptIDsMustBeCanonicalUUIDs(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{})
	for id, want := range map[string]int{
		`"4645a562-3c87-4586-920d-7ee92640d9bd"`: 200, `null`: 200, `"my-job-1"`: 400, `123`: 400, `""`: 400,
		`"4645A562-3C87-4586-920D-7EE92640D9BD"`: 400, `"4645a5623c874586920d7ee92640d9bd"`: 400,
	} {
		if code, text := h.do("POST", "/prompt", fmt.Sprintf(`{"prompt_id":%s,"prompt":%s}`, id, short(1, "x"))); code != want {
			t.Errorf("prompt_id %s = %d %s, want %d", id, code, text, want)
		}
	}
	h.ended(2)
}

func TestOrderOfExecutionFollowsTheNumbers(t *testing.T) {
	t.Parallel()
	h := start(t, comfysim.Config{})
	blocker := h.submit(sleepy(1, 60, 6000, "none", "x"), "me")
	h.until("blocker runs", func() bool { return len(h.Runs()) == 1 })
	want := map[string]string{}
	for _, extra := range []string{``, `"front":true,`, ``, `"front":true,`, `"number":-1000,`, `"number":0.5,`, `"number":"7",`, ``} {
		_, text := h.do("POST", "/prompt", fmt.Sprintf(`{%s"prompt":%s}`, extra, short(1, "x")))
		var got struct {
			ID     string      `json:"prompt_id"`
			Number json.Number `json:"number"`
		}
		mustDecode(t, text, &got)
		want[got.ID] = got.Number.String()
	}
	_, pending := h.Pending()
	var numbers []string
	for _, id := range pending {
		numbers = append(numbers, want[id])
	}
	if d := cmp.Diff([]string{"-1000.0", "-4", "-2", "0.5", "1", "3", "5", "7.0"}, numbers); d != "" {
		t.Errorf("order differs (-want +got):\n%s", d)
	}
	if code, _ := h.do("POST", "/prompt", fmt.Sprintf(`{"number":"abc","prompt":%s}`, short(1, "x"))); code != 500 {
		t.Errorf("a bad number = %d, want 500", code)
	}
	h.do("POST", "/queue", `{"clear":true}`)
	if _, text := h.do("POST", "/api/jobs/"+blocker+"/cancel", ""); !strings.Contains(text, "true") {
		t.Errorf("cancel of the running job = %s", text)
	}
	h.ended(1)
}
