package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

func TestSecretsOfExtraDataAreHiddenWhereverANodeQuotesThem(t *testing.T) {
	t.Parallel()
	r := &comfy.Result{Texts: map[string][]string{"1": {"the key is k3y", "none"}, "2": {"t0ken,k3y"}}, Blocked: []string{"node 3 (A) was not run: k3y"}}
	f := &failure.Failure{Kind: failure.ExecutionError, Message: "node 1 (A) raised E: k3y and t0ken", Exception: "k3y.Error"}
	agent.Redact([]string{"k3y", "t0ken"}, r, fmt.Errorf("run: %w", f))
	want := &comfy.Result{Texts: map[string][]string{"1": {"the key is [extra_data]", "none"}, "2": {"[extra_data],[extra_data]"}}, Blocked: []string{"node 3 (A) was not run: [extra_data]"}}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Error(diff)
	}
	if f.Message != "node 1 (A) raised E: [extra_data] and [extra_data]" || f.Exception != "[extra_data].Error" {
		t.Errorf("%+v", f)
	}
	agent.Redact([]string{"k3y"}, nil, errors.New("k3y")) // a run that was stopped has neither
}

func TestNamesOfInputsAreTakenByEveryFileSystem(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		input job.Input
		want  string
	}{
		{job.Input{Filename: "cat.png", Object: "a/dog.png"}, "cat.png"},
		{job.Input{Object: "a/dog.png"}, "dog.png"},
		{job.Input{URL: "https://host/x/bird.png?token=s3cret#y"}, "bird.png"},
		{job.Input{URL: "data:image/png;base64,AAAA"}, "input"},
		{job.Input{URL: "data:/cat;base64,AAAA"}, "input"},
		{job.Input{Filename: "my cat.png"}, "my cat.png"},
		{job.Input{URL: "http://host/%zz"}, "input"},
		{job.Input{Filename: `C:\pictures\cat.png`}, "cat.png"},
		{job.Input{Filename: "a<b>c:d\"e|f?g*h\x1fi\x7fj.png"}, "abcdefghij.png"},
		{job.Input{Filename: " .. "}, "input"},
		{job.Input{Filename: "/"}, "input"},
		{job.Input{Filename: strings.Repeat("x", 97) + ".png"}, strings.Repeat("x", 96) + ".png"},
		{job.Input{Filename: "é" + strings.Repeat("x", 99)}, strings.Repeat("x", 99)}, // cut within a character
	} {
		if got := agent.InputName(c.input); got != c.want {
			t.Errorf("%+v is named %q, want %q", c.input, got, c.want)
		}
	}
}

func TestMessagesOfEventsAreCutBetweenCharacters(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"abcd": "abcd", "abcde": "abcd", "abcé": "abc", "日本語": "日", "": ""} {
		if got := agent.Clip(text, 4); got != want {
			t.Errorf("%q is cut to %q, want %q", text, got, want)
		}
	}
}

func TestThePromptThatDoesNotStopIsSaidWithTheReasonThereIs(t *testing.T) {
	t.Parallel()
	const text = "a prompt does not stop although it was asked to, and nothing else can run; restart ComfyUI if it never ends"
	for want, err := range map[string]error{
		text:                        fmt.Errorf("cancel: %w", context.DeadlineExceeded),
		text + " (it is of no use)": errors.New("it is of no use"),
	} {
		if got := agent.StuckText(err); got != want {
			t.Errorf("it says %q, want %q", got, want)
		}
	}
}

// The time that a node took is that of its models' loading, as far as it is clear whose files were loaded.
func TestLoadsOfModelsAreReportedByClass(t *testing.T) {
	t.Parallel()
	const workflow = `{
		"1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.safetensors"}},
		"2": {"class_type": "DualLoader", "inputs": {"one": "b.safetensors", "two": "c.safetensors"}},
		"3": {"class_type": "LoraLoader", "inputs": {"lora_name": "d.safetensors", "model": ["1", 0]}},
		"4": {"class_type": "LoraLoader", "inputs": {"lora_name": "e.safetensors", "model": ["3", 0]}},
		"9": {"class_type": "SaveImage", "inputs": {"images": ["4", 0], "filename_prefix": "x"}}}`
	body, err := json.Marshal(map[string]any{"workflow": json.RawMessage(workflow)})
	if err != nil {
		t.Fatal(err)
	}
	j, err := job.Parse(job.Message{Tenant: "acme", Body: body, Sequence: 1})
	if err != nil {
		t.Fatal(err)
	}
	const short, exact, long = 99 * time.Millisecond, 100 * time.Millisecond, time.Second
	for name, c := range map[string]struct {
		ran   time.Duration
		nodes map[string]time.Duration
		want  []queue.ModelLoad
	}{
		"All": {long, map[string]time.Duration{"1": exact, "2": long, "3": long, "4": long, "9": long}, []queue.ModelLoad{
			{Files: []string{"a.safetensors"}, Took: job.Duration(exact)}, {Files: []string{"b.safetensors", "c.safetensors"}, Took: job.Duration(long)},
			{Files: []string{"d.safetensors", "e.safetensors"}, Took: job.Duration(2 * long)},
		}},
		"OneOfTwoWasCached": {long, map[string]time.Duration{"2": long, "3": long}, []queue.ModelLoad{{Files: []string{"b.safetensors", "c.safetensors"}, Took: job.Duration(long)}}},
		"OtherWasCached":    {long, map[string]time.Duration{"4": long}, nil},
		"TooQuick":          {long, map[string]time.Duration{"1": short}, nil},
		"QuickRun":          {short, map[string]time.Duration{"1": long}, nil},
		"JustLongEnough":    {exact, map[string]time.Duration{"1": exact}, []queue.ModelLoad{{Files: []string{"a.safetensors"}, Took: job.Duration(exact)}}},
	} {
		if diff := cmp.Diff(c.want, agent.ModelLoads(j, c.ran, c.nodes)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// The reason why a host is out may tell what another tenant's job did.
func TestAJobThatMustLeaveAHostReadsNothingOfOtherTenants(t *testing.T) {
	t.Parallel()
	const log = "ComfyUI's worker thread has died: KeyError: 'secret of acme'"
	for tenant, want := range map[job.Tenant]string{"acme": log, "other": "the host can run nothing now: " + failure.WorkerGone.Remedy().Sign} {
		t.Run(string(tenant), func(t *testing.T) {
			t.Parallel()
			h := start(t, agent.Config{CancelTimeout: time.Second})
			h.online()
			_, behind := h.timesOut(log, tenant)
			if e := h.event(behind, job.Failed); e.Message != want {
				t.Errorf("it reads %q, want %q", e.Message, want)
			}
		})
	}
}
