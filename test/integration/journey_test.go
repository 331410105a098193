package integration_test

import (
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/job"
)

// next takes the next message of a subscription.
func (f *fleet) next(sub *nats.Subscription) *nats.Msg {
	f.t.Helper()
	msg, err := sub.NextMsgWithContext(f.context())
	if err != nil {
		f.t.Fatalf("wait on %s: %v", sub.Subject, err)
	}
	return msg
}

func (f *fleet) subscribe(subject string) *nats.Subscription {
	f.t.Helper()
	sub, err := f.nc.SubscribeSync(subject)
	if err != nil {
		f.t.Fatal(err)
	}
	return sub
}

func TestABareWorkflowFromAPlainClientCompletesWithItsPicture(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 2, hosts: names("a")})
	events := f.subscribe("comfy.events.jobs.acme.>")
	if err := f.nc.Publish("comfy.jobs.acme.5", picture(0x336699)); err != nil {
		t.Fatal(err)
	}
	var last *nats.Msg
	for _, kind := range []string{"queued", "started", "completed"} {
		if last = f.next(events); !strings.HasSuffix(last.Subject, "."+kind) {
			t.Fatalf("event %s %s, want %s", last.Subject, last.Data, kind)
		}
	}
	completed, err := job.DecodeEvent(job.Completed, last.Data)
	if err != nil {
		t.Fatal(err)
	}
	if ours := f.ours("acme", 1); completed.Job != ours.Job {
		t.Errorf("the job is %s, want %s", completed.Job, ours.Job)
	}
	f.wantPicture(completed, rgb(0x336699))
	f.end(f.ours("acme", 1)) // a plain subscriber hears of it a moment before it is stored
	state := f.stored("COMFY_EVENTS", "comfy.events.jobs.acme."+string(completed.Job)+".*")
	if state.Header.Get("Nats-Subject") != last.Subject || string(state.Data) != string(last.Data) {
		t.Errorf("the last event by wildcard is %s, want %s", state.Header.Get("Nats-Subject"), last.Subject)
	}
}

func TestComfyUIsOwnBodyIsAJobAsWell(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 1, hosts: names("a")})
	body, err := json.Marshal(map[string]any{
		"prompt": picture(0x102030), "client_id": "a browser's", "extra_data": map[string]any{"extra_pnginfo": map[string]any{"note": "kept"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	f.wantPicture(f.end(f.ours("acme", f.publish("comfy.jobs.acme.0", body))), rgb(0x102030))
	if extra := f.sims["a"].Runs()[0].ExtraData; !strings.Contains(extra, `"kept"`) {
		t.Errorf("extra_data reached ComfyUI as %s", extra)
	}
	for subject := range f.subjects("COMFY_EVENTS", "comfy.events.jobs.>") {
		if m := f.stored("COMFY_EVENTS", subject); strings.Contains(string(m.Data), "kept") {
			t.Errorf("extra_data stands in %s: %s", subject, m.Data)
		}
	}
}

const checkpoint = "sd15.safetensors"

func painters(hosts ...string) []comfysim.Config {
	configs := names(hosts...)
	for i := range configs {
		configs[i].Models = map[string][]string{"checkpoints": {checkpoint}}
	}
	return configs
}

func TestEventsCarryTheFieldsOfTheContract(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 2, hosts: painters("a")})
	events := f.subscribe("comfy.events.jobs.acme.one.>")
	workflow := paint(checkpoint, "a cat", -1)
	body, err := json.Marshal(map[string]any{"id": "one", "workflow": workflow, "metadata": map[string]any{"order": 7}})
	if err != nil {
		t.Fatal(err)
	}
	sequence := f.publish("comfy.jobs.acme.7", body, "Comfy-Job-Id", "one")
	all := []string{"job", "tenant", "priority", "hash", "time", "metadata"}
	var prompt string
	for _, want := range []struct {
		kind   string
		fields []string
	}{
		{"queued", []string{"sequence", "bytes", "title", "max_attempts"}},
		{"started", []string{"host", "attempt", "prompt_id", "seeds"}},
		{"completed", []string{"host", "attempt", "prompt_id", "outputs", "seeds", "queued_for", "ran_for", "node_times"}},
	} {
		msg := f.next(events)
		wantCloudEvent(t, msg, want.kind)
		got := fields(t, msg.Data)
		wantKeys(t, want.kind, got, slices.Concat(all, want.fields)...)
		if got["job"] != "one" || got["tenant"] != "acme" || got["priority"] != 7.0 || got["hash"] != string(hashOf(t, workflow)) {
			t.Errorf("%s is about another job: %s", want.kind, msg.Data)
		}
		if metadata, _ := got["metadata"].(map[string]any); metadata["order"] != 7.0 {
			t.Errorf("%s has the metadata %v", want.kind, got["metadata"])
		}
		switch want.kind {
		case "queued":
			if got["sequence"] != float64(sequence) {
				t.Errorf("queued says sequence %v, want %d", got["sequence"], sequence)
			}
			continue
		case "started":
			prompt, _ = got["prompt_id"].(string)
		case "completed":
			wantCompleted(t, f, got)
		}
		if got["host"] != "a" || got["attempt"] != 1.0 || got["prompt_id"] != prompt {
			t.Errorf("%s: host %v, attempt %v, prompt %v; want a, 1, %s", want.kind, got["host"], got["attempt"], got["prompt_id"], prompt)
		}
	}
	if runs := f.sims["a"].Runs(); len(runs) != 1 || runs[0].PromptID != prompt {
		t.Errorf("ComfyUI ran %+v, want prompt %s once", runs, prompt)
	}
}

// wantCompleted checks what only completed has.
func wantCompleted(t *testing.T, f *fleet, got map[string]any) {
	t.Helper()
	outputs, _ := got["outputs"].([]any)
	if len(outputs) != 1 {
		t.Fatalf("outputs are %v, want one", got["outputs"])
	}
	out := outputs[0].(map[string]any)
	wantKeys(t, "an output", out, "node", "media", "filename", "subfolder", "type", "object", "size", "digest", "blake3", "content_type")
	for field, want := range map[string]string{
		"node": "9", "media": "images", "filename": "out_00001_.png", "subfolder": "", "type": "output",
		"object": "acme/one/9/out_00001_.png", "content_type": "image/png",
	} {
		if out[field] != want {
			t.Errorf("output has %s %v, want %q", field, out[field], want)
		}
	}
	for _, field := range []string{"queued_for", "ran_for"} {
		if text, _ := got[field].(string); !isDuration(text) {
			t.Errorf("%s is %v, no Go duration", field, got[field])
		}
	}
	times, _ := got["node_times"].(map[string]any)
	if text, _ := times["3"].(string); !isDuration(text) {
		t.Errorf("node_times are %v, want one for node 3", times)
	}
}

func isDuration(text string) bool {
	d, err := time.ParseDuration(text)
	return err == nil && d >= 0
}

var rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$`)

// wantCloudEvent checks the attributes that CloudEvents 1.0 requires, in the NATS binding's form.
func wantCloudEvent(t *testing.T, msg *nats.Msg, kind string) {
	t.Helper()
	for name, want := range map[string]string{
		"ce-specversion": "1.0", "ce-type": "comfy.job." + kind, "ce-subject": "acme/one", "Content-Type": "application/json",
	} {
		if got := msg.Header.Get(name); got != want {
			t.Errorf("%s has %s %q, want %q", kind, name, got, want)
		}
	}
	if msg.Header.Get("ce-id") == "" || msg.Header.Get("ce-source") == "" || !rfc3339.MatchString(msg.Header.Get("ce-time")) {
		t.Errorf("%s has the headers %v", kind, msg.Header)
	}
}

func TestASeedOf64BitsReachesComfyUI(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 1, hosts: painters("a")})
	end := f.end(f.ours("acme", f.publish("comfy.jobs.acme.5", paint(checkpoint, "a cat", json.Number("18446744073709551615")))))
	f.wantPicture(end, comfysim.Picture(18446744073709551615, "a cat"))
	if got := f.sims["a"].Runs()[0].Seeds; !slices.Equal(got, []string{"18446744073709551615"}) {
		t.Errorf("ComfyUI got the seeds %q", got)
	}
	if len(end.Seeds) != 0 {
		t.Errorf("a seed that was given is reported as drawn: %v", end.Seeds)
	}
}

func TestASeedOfMinusOneIsDrawnAndReported(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 1, hosts: painters("a")})
	drawn := map[uint64]bool{}
	for i := range 2 {
		end := f.end(f.ours("acme", f.publish("comfy.jobs.acme.5", paint(checkpoint, "a cat", -1))))
		seed, reported := end.Seeds["3"]
		if !reported || len(end.Seeds) != 1 {
			t.Fatalf("completed reports the seeds %v, want one for node 3", end.Seeds)
		}
		f.wantPicture(end, comfysim.Picture(seed, "a cat"))
		if got, want := f.sims["a"].Runs()[i].Seeds[0], strconv.FormatUint(seed, 10); got != want {
			t.Errorf("ComfyUI got seed %s, %s is reported", got, want)
		}
		drawn[seed] = true
	}
	if len(drawn) != 2 {
		t.Errorf("two jobs drew the seeds %v", drawn)
	}
}
