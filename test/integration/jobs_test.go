package integration_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

func lane(tenant string) job.Lane { return job.Lane{Tenant: job.Tenant(tenant), Priority: job.Usual} }

// submit publishes a workflow as an envelope.
func (f *fleet) submit(tenant string, spec job.Spec) jetstream.Receipt {
	f.t.Helper()
	r, err := f.q.Submit(f.context(), lane(tenant), spec)
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

// chain follows a job to its end.
func (f *fleet) chain(r jetstream.Receipt) []job.Event {
	f.t.Helper()
	var events []job.Event
	for e, err := range f.q.Follow(f.context(), r.Tenant, r.Job) {
		if err != nil {
			f.t.Fatalf("job %s after %v: %v", r.Job, kinds(events), err)
		}
		events = append(events, e)
	}
	return events
}

// end follows a job to its end and gives the last event.
func (f *fleet) end(r jetstream.Receipt) job.Event {
	f.t.Helper()
	events := f.chain(r)
	return events[len(events)-1]
}

// await follows a job until an event of a kind.
func (f *fleet) await(r jetstream.Receipt, kind job.EventKind) job.Event {
	f.t.Helper()
	for e, err := range f.q.Follow(f.context(), r.Tenant, r.Job) {
		if err != nil {
			f.t.Fatalf("job %s: waiting for %s: %v", r.Job, kind, err)
		}
		if e.EventKind == kind {
			return e
		}
	}
	f.t.Fatalf("job %s ended without %s", r.Job, kind)
	return job.Event{}
}

func kinds(events []job.Event) string {
	names := make([]string, len(events))
	for i, e := range events {
		names[i] = string(e.EventKind)
	}
	return strings.Join(names, " ")
}

// notes collects the events of a subject, as they come, in the background.
func (f *fleet) notes(subject string) *collector {
	c := &collector{}
	ctx, cancel := context.WithCancel(context.Background())
	c.done.Go(func() {
		for n, err := range f.q.Notes(ctx, subject, time.Time{}) {
			if err != nil {
				return
			}
			c.mu.Lock()
			c.notes = append(c.notes, n)
			c.mu.Unlock()
		}
	})
	f.stops = append(f.stops, func() { cancel(); c.done.Wait() })
	return c
}

type collector struct {
	done  sync.WaitGroup
	mu    sync.Mutex // guards notes
	notes []jetstream.Note
}

// of gives the events seen so far whose subject ends so.
func (c *collector) of(suffix string) []jetstream.Note {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []jetstream.Note
	for _, n := range c.notes {
		if strings.HasSuffix(n.Subject, suffix) {
			found = append(found, n)
		}
	}
	return found
}

// picture is EmptyImage → SaveImage in one colour: the smallest workflow with a picture of its own.
func picture(color int) json.RawMessage {
	return graph(map[string]any{
		"1": node("EmptyImage", "width", 16, "height", 16, "batch_size", 1, "color", color),
		"9": node("SaveImage", "images", link("1"), "filename_prefix", "out"),
	})
}

// paint is a text-to-image workflow.
func paint(checkpoint, prompt string, seed any) json.RawMessage {
	return graph(map[string]any{
		"4": node("CheckpointLoaderSimple", "ckpt_name", checkpoint),
		"5": node("EmptyLatentImage", "width", 64, "height", 64, "batch_size", 1),
		"6": node("CLIPTextEncode", "clip", []any{"4", 1}, "text", prompt),
		"7": node("CLIPTextEncode", "clip", []any{"4", 1}, "text", "blurry"),
		"3": node("KSampler", "model", link("4"), "positive", link("6"), "negative", link("7"), "latent_image", link("5"),
			"seed", seed, "steps", 4, "cfg", 7, "sampler_name", "euler", "scheduler", "normal", "denoise", 1),
		"8": node("VAEDecode", "samples", link("3"), "vae", []any{"4", 2}),
		"9": node("SaveImage", "images", link("8"), "filename_prefix", "out"),
	})
}

func node(class string, inputs ...any) map[string]any {
	in := map[string]any{}
	for i := 0; i < len(inputs); i += 2 {
		in[inputs[i].(string)] = inputs[i+1]
	}
	return map[string]any{"class_type": class, "inputs": in}
}

func link(id string) []any { return []any{id, 0} }

func graph(nodes map[string]any) json.RawMessage {
	body, err := json.Marshal(nodes)
	if err != nil {
		panic(err)
	}
	return body
}

func hashOf(t *testing.T, raw json.RawMessage) workflow.Hash {
	t.Helper()
	h, err := workflow.HashOf(raw)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// ComfyUI takes the numbers that Python's json writes and JSON lacks, a body with both graphs, and the names of output
// nodes to run.
func TestWhatComfyUITakesRuns(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 1, hosts: names("a")})
	odd := json.RawMessage(strings.Replace(string(picture(0x112233)), `"class_type":"EmptyImage"`, `"class_type":"EmptyImage","is_changed":[NaN,-Infinity]`, 1))
	end := f.end(f.submit("acme", job.Spec{ID: "odd", Workflow: odd}))
	f.wantPicture(end, rgb(0x112233))
	if hash := hashOf(t, odd); end.Hash != hash {
		t.Errorf("hash %s, want %s", end.Hash, hash)
	}
	two := graph(map[string]any{
		"1": node("EmptyImage", "width", 16, "height", 16, "batch_size", 1, "color", 0x445566),
		"3": node("SaveImage", "images", link("1"), "filename_prefix", "three"),
		"9": node("SaveImage", "images", link("1"), "filename_prefix", "nine"),
	})
	for name, body := range map[string]string{
		"bare": string(odd),
		"both": `{"prompt":` + string(two) + `,"partial_execution_targets":["3"],"workflow":{"nodes":[],"links":[]},"extra_data":{"extra_pnginfo":{"workflow":{"x":NaN}}}}`,
	} {
		end := f.end(f.ours("acme", f.publish("comfy.jobs.acme.5", []byte(body))))
		if end.EventKind != job.Completed || len(end.Outputs) != 1 || name == "both" && end.Outputs[0].Node != "3" {
			t.Errorf("%s: ended %s with %v: %s", name, end.EventKind, end.Outputs, end.Message)
		}
	}
}

// What cannot be taken is dead at once, and the event says what to do.
func TestWhatCannotBeTakenIsAdvised(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 1, hosts: names("a")})
	w := string(picture(1))
	for body, advice := range map[string]string{
		`{"input":{"workflow":` + w + `}}`:                                                                    `the workflow is in field "input.workflow"`,
		strings.Replace(w, "EmptyImage", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", 1):                           "Unpack Subgraph",
		`{"workflow":` + w + `,"run_at":"2026-12-01T08:00:00"}`:                                               `write it with a zone, like "2026-12-01T08:00:00Z"`,
		`{"workflow":` + w + `,"max_attempts":0}`:                                                             "use 1 to 100, or leave it out for 3",
		`{"workflow":` + w + `,"inputs":[{"node":"1","input":"image","url":"data:image/png;base64,iVBOR?"}]}`: "inputs[0]: url is no data URI",
	} {
		end := f.end(f.ours("acme", f.publish("comfy.jobs.acme.5", []byte(body))))
		if end.EventKind != job.Dead || end.Reason != string(failure.InvalidJob) || !strings.Contains(end.Message, advice) {
			t.Errorf("%s: ended %s, %s: %s; want %q", body, end.EventKind, end.Reason, end.Message, advice)
		}
	}
	if n := f.runs(); n["a"] != 0 {
		t.Errorf("runs are %v", n)
	}
}
