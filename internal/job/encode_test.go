package job_test

import (
	"encoding/json"
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

func TestTimesAreWrittenLikeTheLibraryDoes(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 2, 3, 12, 0, 0, 0, time.UTC)
	for want, when := range map[string]time.Time{
		`"2026-02-03T12:00:00Z"`:           noon,
		`"2026-02-03T12:00:00.000000078Z"`: noon.Add(78),
		`"2026-02-03T13:00:00+01:00"`:      noon.In(time.FixedZone("", 3600)),
		`"2026-02-03T13:00:01+01:00"`:      noon.In(time.FixedZone("", 3601)), // seconds of a zone are left out
		`"0001-01-01T00:00:00Z"`:           noon.AddDate(9000, 0, 0),          // JSON has years of four digits only
	} {
		if got := job.AppendTime([]byte("{"), when); string(got) != "{"+want {
			t.Errorf("%v is written as %s, want %s", when, got, want)
		}
	}
}
