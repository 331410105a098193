package job_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
)

// full is an event with a value in every field.
func full() job.Event {
	yes, when := true, time.Date(2026, 2, 3, 4, 5, 6, 78, time.UTC)
	return job.Event{
		Job: "a-1", Tenant: "acme", Priority: 5, Hash: "00ff", Host: "gpu-1", Attempt: 2, Time: when, Metadata: json.RawMessage(`{"a":1}`),
		RequeueOf: "a", Sequence: 7, Position: 3, Bytes: 400, Reason: "none", Until: &when, Hosts: map[string]string{"a": "b"}, PromptID: "p",
		Kind: failure.Lost, Message: "m", Node: "3", Class: "KSampler", Exception: "x", Counted: &yes, Size: 9, NotBefore: &when,
		AvoidedHosts: []string{"h"}, AvoidUntil: &when, Outputs: []job.Output{{Node: "9"}}, CachedNodes: []string{"4"}, OutputsReused: true,
		Seeds: map[string]uint64{"3": 1 << 63}, QueuedFor: job.Duration(time.Second), RanFor: job.Duration(1500), Attempts: []failure.Attempt{{Number: 1}},
		NodeTimes: map[string]job.Duration{"3": 5}, By: "me",
	}
}

func encodesLikeTheLibrary(t *testing.T, name string, e *job.Event) {
	t.Helper()
	want, failed := json.Marshal(e)
	got, err := e.Encode()
	if string(got) != string(want) || (err == nil) != (failed == nil) {
		t.Errorf("%s: got %s (%v), want %s (%v)", name, got, err, want, failed)
	}
}

func TestAnEventIsEncodedLikeTheLibraryDoes(t *testing.T) {
	t.Parallel()
	all := full()
	encodesLikeTheLibrary(t, "all fields", &all)
	encodesLikeTheLibrary(t, "no field", &job.Event{})
	values := reflect.ValueOf(all)
	for i := range values.NumField() {
		e := job.Event{Job: "a", Tenant: "t", Time: all.Time}
		reflect.ValueOf(&e).Elem().Field(i).Set(values.Field(i))
		encodesLikeTheLibrary(t, values.Type().Field(i).Name, &e)
	}
}

func TestTextIsWrittenLikeTheLibraryDoes(t *testing.T) {
	t.Parallel()
	for c := range 256 {
		for at := range 18 {
			text := []byte("abcdefgh01234567xy")
			text[at] = byte(c)
			want, err := json.Marshal(string(text))
			if got := job.AppendText([]byte("{"), string(text)); err != nil || string(got) != "{"+string(want) {
				t.Errorf("%q is written as %s, want %s", text, got, want)
			}
		}
	}
	if got := job.AppendText(nil, ""); string(got) != `""` {
		t.Errorf("nothing is written as %s", got)
	}
}

func TestWhatIsUnusualIsEncodedLikeTheLibraryDoes(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	for name, e := range map[string]job.Event{
		"a job's name with marks":     {Job: "<a>&\"\\\u2028é\x00\x7f\xff", Time: now},
		"a time in a zone":            {Time: now.In(time.FixedZone("", 3600))},
		"a time in a zone of seconds": {Time: now.In(time.FixedZone("", 3601))},
		"a time long from now":        {Time: now.AddDate(9000, 0, 0)},
		"a negative attempt":          {Time: now, Attempt: -1},
		"a negative position":         {Time: now, Position: -1},
		"negative bytes":              {Time: now, Bytes: -1},
		"a negative priority":         {Time: now, Priority: -1},
		"a negative duration":         {Time: now, RanFor: -1},
		"metadata of spaces":          {Time: now, Metadata: json.RawMessage(`{ "a" : 1 }`)},
		"metadata that is no JSON":    {Time: now, Metadata: json.RawMessage(`{`)},
	} {
		encodesLikeTheLibrary(t, name, &e)
	}
}
