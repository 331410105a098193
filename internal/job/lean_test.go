package job_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
)

func TestOfAnEventAListShowsAPart(t *testing.T) {
	t.Parallel()
	const begin, ours, bare = `{"job":"a","tenant":"t","priority":5`, `{"job":"a","tenant":"t","priority":5}`, `{"job":"a","tenant":"t","priority":0}`
	long := strings.Repeat("ö", 200)
	for name, c := range map[string]struct{ body, want string }{
		"Bare":              {ours, ours},
		"WhatIsLeftOut":     {begin + `,"metadata":{"a":[1]},"hosts":{"x":"busy"},"cached_nodes":["4"],"attempts":[{"attempt":1}],"node_times":{"3":"1s"},"seeds":{"3":1},"host":"gpu-1"}`, begin + `,"host":"gpu-1"}`},
		"Outputs":           {begin + `,"outputs":[{"node":"9","size":5},{"node":"8","size":0}]}`, begin + `,"outputs":[{"node":"9","size":5},{"node":"8","size":0}]}`},
		"ManyOutputs":       {begin + `,"outputs":[{"node":"1"},{"node":"2"},{"node":"3"},{"node":"4"},{"node":"5"}]}`, ""},
		"AText":             {begin + `,"outputs":[{"node":"9","media":"text","text":"once"}]}`, ""},
		"LongMessage":       {begin + `,"message":"` + long + `"}`, ""},
		"InLines":           {"{\n\"job\":\"a\",\n\"tenant\":\"t\",\"priority\": 5 }", ours},
		"ListInLines":       {begin + ",\"avoided_hosts\":[\n\"x\"]}", begin + `,"avoided_hosts":["x"]}`},
		"OutputsInLines":    {begin + ",\"outputs\":[\n]}", ours},
		"OfALaterVersion":   {begin + `,"mood":{"x":1}}`, ours},
		"MessageAsNumber":   {begin + `,"message":7}`, bare},
		"OutputsAsText":     {begin + `,"host":"gpu-1","outputs":"x"}`, bare},
		"OutputThatIsNone":  {begin + `,"outputs":[null]}`, begin + `,"outputs":[{"node":"","media":"","filename":"","subfolder":"","type":"","size":0}]}`},
		"AnUnknownKind":     {begin + `,"host":"gpu-1","kind":"bored"}`, bare},
		"ATimeThatCannotBe": {begin + `,"host":"gpu-1","until":"soon"}`, bare},
		"OfAnotherJob":      {`{"job":"b","tenant":"t","priority":5}`, "-"},
		"OfAnotherTenant":   {`{"job":"a","tenant":"u","priority":5}`, "-"},
		"NoJSON":            {begin + `,"hosts":{x}}`, "-"},
		"NoObject":          {`["a"]`, "-"},
		"Nothing":           {``, "-"},
	} {
		got, named := job.AppendLean([]byte("before "), "t", "a", job.Failed, []byte(c.body))
		rest, begun := strings.CutPrefix(string(got), "before ")
		if !begun || named != (c.want != "-") || !named && rest != "" {
			t.Errorf("%s: %q, %v", name, got, named)
			continue
		}
		if !named {
			continue
		}
		var e job.Event
		if err := json.Unmarshal([]byte(rest), &e); err != nil || strings.ContainsAny(rest, "\r\n") {
			t.Errorf("%s: %q: %v", name, rest, err)
		}
		if c.want == "" {
			if len(e.Outputs) > 4 || len(e.Message) > 310 || len(e.Outputs) > 0 && e.Outputs[0].Text != "" || len(e.Outputs) == 0 && e.Message == "" {
				t.Errorf("%s: %s", name, rest)
			}
			continue
		}
		var want job.Event
		if err := json.Unmarshal([]byte(c.want), &want); err != nil {
			t.Fatal(err)
		}
		want.Time = e.Time
		if diff := cmp.Diff(want, e); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// FuzzAppendLean: what is copied from an event says the same as what is decoded and encoded.
func FuzzAppendLean(f *testing.F) {
	all := full()
	all.Hash, all.Kind = "", failure.Timeout
	body, err := all.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Add([]byte(`{"job":"a-1","tenant":"acme","priority":3,"host":"h","host":"i","message":"<\u2028","outputs":[{"text":"]\""}]}`))
	f.Add([]byte(`{"job":"a-1","tenant":"acme","priority":3,"outputs":[{"teXt":"]\""}]}`))
	f.Add([]byte(`{"job":"a-1","tenant":"acme","priority":3,"outputs":[{"te\u0078t":"x"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, named := job.AppendLean(nil, "acme", "a-1", job.Failed, body)
		e, ours, impossible := job.DecodeStored("acme", "a-1", job.Failed, body)
		if named != ours {
			t.Fatalf("named is %v", named)
		}
		if !named {
			return
		}
		if !json.Valid(got) || bytes.ContainsAny(got, "\r\n") {
			t.Fatalf("no JSON in one line: %q", got)
		}
		if impossible != nil {
			return
		}
		e.Lean()
		lean, _, err := job.DecodeStored("acme", "a-1", job.Failed, got)
		if diff := cmp.Diff(e, lean); diff != "" || err != nil {
			t.Fatalf("%s: %s, %v", got, diff, err)
		}
	})
}

func TestAnEventOfOursIsShownWithoutDecodingIt(t *testing.T) { //nolint:paralleltest // it counts the allocations of the process
	e := full()
	e.RanFor = job.Duration(time.Second) // less than a millisecond is written with a letter that is none of ASCII
	e.Hash, e.Kind, e.Traceparent, e.Webhook = "", failure.Timeout, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "orders"
	body, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	room := make([]byte, 0, 2*len(body))
	got, _ := job.AppendLean(room, e.Tenant, e.Job, job.Completed, body)
	e.Lean()
	want, err := e.Encode()
	if diff := cmp.Diff(string(want), string(got)); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if n := testing.AllocsPerRun(10, func() { job.AppendLean(room, e.Tenant, e.Job, job.Completed, body) }); n > 12 {
		t.Errorf("it allocates %.0f times", n)
	}
}

func BenchmarkAppendLean(b *testing.B) {
	e := full()
	e.Hash, e.Kind, e.RanFor = "", failure.Timeout, job.Duration(time.Second)
	body, err := e.Encode()
	if err != nil {
		b.Fatal(err)
	}
	room := make([]byte, 0, 2*len(body))
	for b.Loop() {
		if _, named := job.AppendLean(room, e.Tenant, e.Job, job.Completed, body); !named {
			b.Fatal("it is not shown")
		}
	}
}
