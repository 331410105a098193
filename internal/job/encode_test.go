package job_test

import (
	"encoding/json"
	"strings"
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
		RequeueOf: "a", Sequence: 7, Position: 3, Bytes: 400, MaxAttempts: 5, Reason: "none", Until: &when, Hosts: map[string]string{"a": "b"}, PromptID: "p",
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

// What is usual is written without the library, into memory that is there.
func TestPlainTextsAndTimesAllocateNothing(t *testing.T) { //nolint:paralleltest // it counts the allocations of the process
	room := make([]byte, 0, 200)
	var all strings.Builder
	for c := rune(' '); c <= 0x7f; c++ {
		if !strings.ContainsRune("\"\\<>&", c) {
			all.WriteRune(c)
		}
	}
	for at := range 8 { // each letter at each place of eight
		text := all.String()[at:] + all.String()[:at]
		for _, s := range []string{text, text[:8], text[:7], text[80:]} {
			if n := testing.AllocsPerRun(10, func() { job.AppendText(room, s) }); n > 0 {
				t.Errorf("to write %q allocates %.0f times", s, n)
			}
		}
	}
	for _, when := range []time.Time{
		time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		time.Date(2026, 1, 1, 0, 0, 0, 0, time.FixedZone("", 86399)), time.Date(2026, 1, 1, 0, 0, 0, 0, time.FixedZone("", -86399)),
	} {
		if n := testing.AllocsPerRun(10, func() { job.AppendTime(room, when) }); n > 0 {
			t.Errorf("to write %v allocates %.0f times", when, n)
		}
	}
}

func TestWhatIsNoJSONIsNotWritten(t *testing.T) {
	t.Parallel()
	e := job.Event{EventKind: job.Failed, Job: "a", Metadata: json.RawMessage("{")}
	if body, err := e.Encode(); err == nil || !strings.Contains(err.Error(), "encode failed event of job a") {
		t.Errorf("%s, %v", body, err)
	}
	s := job.Spec{}
	if body, err := s.Encode(); err != nil || string(body) != `{"workflow":null}` {
		t.Errorf("%s, %v", body, err)
	}
}

func TestTimesAreWrittenLikeTheLibraryDoes(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 2, 3, 12, 0, 0, 0, time.UTC)
	for _, when := range []time.Time{ // JSON has neither such years nor such zones
		time.Date(-1, 12, 31, 0, 0, 0, 0, time.UTC), noon.In(time.FixedZone("", 86400)), noon.In(time.FixedZone("", -86400)),
	} {
		if got := job.AppendTime(nil, when); string(got) != `"0001-01-01T00:00:00Z"` {
			t.Errorf("%v is written as %s", when, got)
		}
	}
	for want, when := range map[string]time.Time{
		`"2026-02-03T12:00:00Z"`:           noon,
		`"2026-02-03T12:00:00.000000078Z"`: noon.Add(78),
		`"2026-02-03T13:00:00+01:00"`:      noon.In(time.FixedZone("", 3600)),
		`"2026-02-03T13:00:01+01:00"`:      noon.In(time.FixedZone("", 3601)), // seconds of a zone are left out
		`"0000-02-03T12:00:00Z"`:           noon.AddDate(-2026, 0, 0),
		`"9999-02-03T12:00:00Z"`:           noon.AddDate(7973, 0, 0),
		`"2026-02-04T11:59:59+23:59"`:      noon.In(time.FixedZone("", 86399)),
		`"2026-02-02T12:00:01-23:59"`:      noon.In(time.FixedZone("", -86399)),
		`"0001-01-01T00:00:00Z"`:           noon.AddDate(9000, 0, 0), // JSON has years of four digits only
	} {
		if got := job.AppendTime([]byte("{"), when); string(got) != "{"+want {
			t.Errorf("%v is written as %s, want %s", when, got, want)
		}
	}
}
