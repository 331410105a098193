package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

func TestARecordIsStoredBeforeTheEndAndWithoutSecrets(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{Outputs: agent.OutputsNone})
	h.fake.set(func() { h.fake.record = []byte(`{"p":{"prompt":[0,"p",{},{"token":"very-secret"}]}}`) })
	h.fake.returns(now(), &comfy.Result{}, nil)
	o := h.queued(job.Spec{ID: "one", Record: true, ExtraData: json.RawMessage(`{"token":"very-secret"}`)})
	h.accepted(o)
	if got := h.event(o, job.Completed); len(got.Outputs) != 0 {
		t.Errorf("the record is an output: %+v", got.Outputs)
	}
	if got, want := h.stored(queue.RecordName("acme", "one")), `{"p":{"prompt":[0,"p",{},{"token":"[extra_data]"}]}}`; got != want {
		t.Errorf("the record is %s, want %s", got, want)
	}

	h.fake.returns(now(), nil, failure.New(failure.ExecutionError, "raised"))
	h.fake.set(func() { h.fake.record = []byte(`{"p":{"status":"error"}}`) })
	failed := h.queued(job.Spec{ID: "two", Record: true})
	h.accepted(failed)
	h.event(failed, job.Failed)
	if got := h.stored(queue.RecordName("acme", "two")); got != `{"p":{"status":"error"}}` {
		t.Errorf("the record of the failed run is %s", got)
	}

	h.fake.returns(now(), &comfy.Result{}, nil)
	plain := h.queued(job.Spec{ID: "three"})
	h.accepted(plain)
	h.event(plain, job.Completed)
	if _, _, err := h.q.OpenOutput(h.ctx, queue.RecordName("acme", "three")); !errors.Is(err, queue.ErrNoFile) {
		t.Errorf("a job that asks for no record: %v", err)
	}
}

// The copy of the bucket that answers may be behind.
func TestKeysThatAreNotThereAreLookedForAgain(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	var once sync.Once
	_, err := h.nc.Subscribe("$JS.API.DIRECT.GET.KV_COMFY_APIKEYS.>", func(*nats.Msg) { // the agent has looked
		once.Do(func() {
			if _, err := h.q.PutAPIKeys(h.ctx, "acme", &jetstream.APIKeys{Job: "one", APIKey: "very-secret"}); err != nil {
				t.Error(err)
			}
		})
	})
	if err == nil {
		err = h.nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	h.fake.returns(now(), &comfy.Result{}, nil)
	o := h.queued(job.Spec{ID: "one", APIKeys: true})
	h.accepted(o)
	if p := await(h, h.fake.posted, "the POST"); string(p.ExtraData) != `{"api_key_comfy_org":"very-secret"}` {
		t.Errorf("the prompt has extra_data %s", p.ExtraData)
	}
	h.event(o, job.Completed)
}

func TestFramesAreNumberedAlsoThoseThatAreMissing(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{})
	before := h.nc.NumSubscriptions()
	frames, done := make(chan queue.Frame, 10), make(chan error, 1)
	ctx, stop := context.WithCancel(h.ctx)
	go func() { done <- h.q.FollowFrames(ctx, "acme", func(f queue.Frame) { frames <- f }) }()
	t.Cleanup(func() { stop(); <-done })
	for h.nc.NumSubscriptions() == before {
		if err := h.nc.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	h.fake.set(func() {
		h.fake.perform = func(_ context.Context, _ comfy.Prompt, w comfy.Watch) (*comfy.Result, error) {
			if w.Frame != nil {
				w.Frame(comfy.Frame{Data: []byte("a")})
				w.Frame(comfy.Frame{Data: []byte("d"), Missing: 2, Binary: true})
			}
			return &comfy.Result{}, nil
		}
	})
	plain := h.queued(job.Spec{ID: "plain"})
	h.accepted(plain)
	h.event(plain, job.Completed)
	o := h.queued(job.Spec{ID: "one", Live: job.LiveFrames})
	h.accepted(o)
	h.event(o, job.Completed)
	want := []queue.Frame{{Job: "one", Attempt: 1, Number: 1, Data: []byte("a")}, {Job: "one", Attempt: 1, Number: 4, Binary: true, Data: []byte("d")}}
	if diff := cmp.Diff(want, []queue.Frame{await(h, frames, "a frame"), await(h, frames, "another frame")}); diff != "" {
		t.Error(diff)
	}
}

// A node may show its key. Python escapes what is not ASCII.
func TestNoFrameAndNoRecordHasASecret(t *testing.T) {
	t.Parallel()
	h := start(t, agent.Config{Outputs: agent.OutputsNone})
	before := h.nc.NumSubscriptions()
	frames, done := make(chan queue.Frame, 10), make(chan error, 1)
	ctx, stop := context.WithCancel(h.ctx)
	go func() { done <- h.q.FollowFrames(ctx, "acme", func(f queue.Frame) { frames <- f }) }()
	t.Cleanup(func() { stop(); <-done })
	for h.nc.NumSubscriptions() == before {
		if err := h.nc.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	const shown = `{"p":["schl\u00fcssel \"\ud83d\udd11\"","very-secret"]}`
	h.fake.set(func() {
		h.fake.record = []byte(shown)
		h.fake.perform = func(_ context.Context, _ comfy.Prompt, w comfy.Watch) (*comfy.Result, error) {
			w.Frame(comfy.Frame{Data: []byte(shown)})
			w.Frame(comfy.Frame{Data: []byte("\x00\x00\x00\x03\x00\x00\x00\x012very-secret"), Binary: true})
			return &comfy.Result{}, nil
		}
	})
	o := h.queued(job.Spec{ID: "one", Live: job.LiveFrames, ExtraData: json.RawMessage(`{"a":"schlüssel \"🔑\"","b":"very-secret"}`)})
	h.accepted(o)
	h.event(o, job.Completed)
	const hidden = `{"p":["[extra_data]","[extra_data]"]}`
	if got := string(await(h, frames, "a frame").Data); got != hidden {
		t.Errorf("the frame is %s", got)
	}
	if got := string(await(h, frames, "another frame").Data); got != "\x00\x00\x00\x03\x00\x00\x00\x012[extra_data]" {
		t.Errorf("the binary frame is %q", got)
	}
	if got := h.stored(queue.RecordName("acme", "one")); got != hidden {
		t.Errorf("the record is %s", got)
	}
}

func TestACatalogueIsStoredAgainWhenAnAnswerHasChanged(t *testing.T) {
	t.Parallel()
	h := found(t)
	h.fake.pages = map[string]string{
		"object_info": `{"KSampler":{}}`, "models": `["vae","../x","a b"]`, "models/vae": `["one"]`, "models/a b": `[]`, "embeddings": "no JSON",
	}
	changes := make(chan queue.Change[queue.Catalog], 100)
	ctx, stop := context.WithCancel(h.ctx)
	done := make(chan error, 1)
	go func() { done <- h.q.WatchCatalogs(ctx, func(c queue.Change[queue.Catalog]) { changes <- c }) }()
	t.Cleanup(func() { stop(); <-done })
	next := func() queue.Catalog {
		for {
			if c := await(h, changes, "a change of the catalogue"); c.Phase == queue.Put {
				return c.Value
			}
		}
	}
	h.hire(h.q, agent.Config{LearnEvery: time.Millisecond})
	h.run()
	want := map[string]string{}
	for _, route := range []string{"object_info", "models", "models/vae", "models/a b"} {
		want[route] = queue.CatalogDigest([]byte(h.fake.pages[route]))
	}
	first := next()
	if diff := cmp.Diff(want, first.Blobs); diff != "" || first.Host != "gpu" {
		t.Errorf("of host %s: %s", first.Host, diff)
	}
	h.fake.set(func() { h.fake.pages["models/vae"] = `["one","two"]` })
	second := next()
	if body, err := h.q.CatalogBlob(h.ctx, second.Blobs["models/vae"]); err != nil || string(body) != `["one","two"]` {
		t.Errorf("%s, %v", body, err)
	}
	if _, err := h.nc.Request("$JS.API.STREAM.PURGE.OBJ_COMFY_CATALOG", nil, time.Minute); err != nil {
		t.Fatal(err)
	}
	for route, digest := range next().Blobs {
		if _, err := h.q.CatalogBlob(h.ctx, digest); err != nil {
			t.Errorf("%s of a store that was emptied: %v", route, err)
		}
	}
}
