package queue_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// fullState has a value in every field.
func fullState() (s queue.HostState) {
	when := time.Date(2026, 2, 3, 4, 5, 6, 78, time.UTC)
	run := queue.RunningJob{Tenant: "acme", Job: "a-1", Priority: 5, Hash: "00ff", Attempt: 2, Since: when}
	s = queue.HostState{
		Host: "gpu-1", Instance: "i", Serial: 7, State: queue.Online, Reason: "none", Slots: 1, Prefetch: 2,
		Running: []queue.RunningJob{run, run}, Foreign: 3, Labels: []string{"gpu=4090", "b"},
		Memory: 24 << 30, Used: 5 << 30, Version: "0.3", Agent: "1.0.0", Device: "cuda:0 <&>", URL: "http://127.0.0.1:8188?a&b", Brief: true, Time: when,
		Ended: &queue.EndedJob{
			Tenant: "acme", Job: "a-0", Priority: 9, Hash: "11", Size: 4096, RanFor: job.Duration(1500 * time.Microsecond), Success: true,
			Kind: failure.Lost, Loads: []queue.ModelLoad{{Files: []string{"a\\b", "c"}, Took: 5}, {Files: []string{}}, {}},
		},
	}
	s.Recent = append(s.Recent, "00ff", "11")
	return s
}

func stateOf(body string) (queue.HostState, bool) {
	s, err := queue.DecodeState([]byte(body))
	return s, err == nil && s.Host == "gpu-1"
}

// sameAsLibrary encodes and decodes a state and compares with encoding/json.
func sameAsLibrary(t *testing.T, name string, s *queue.HostState) {
	t.Helper()
	want, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.AppendJSON(nil); string(got) != string(want) {
		t.Errorf("%s is encoded as\n%s, want\n%s", name, got, want)
	}
	sameDecoded(t, name, string(want))
}

func sameDecoded(t *testing.T, name, body string) {
	t.Helper()
	var want queue.HostState
	fits := json.Unmarshal([]byte(body), &want) == nil && want.Host == "gpu-1"
	got, ok := stateOf(body)
	if ok != fits {
		t.Errorf("%s: %s is accepted: %v, want %v", name, body, ok, fits)
	}
	if diff := cmp.Diff(want, got); fits && diff != "" {
		t.Errorf("%s: %s is read wrongly (-want +got):\n%s", name, body, diff)
	}
}

func TestAStateIsWrittenAndReadLikeTheLibraryDoes(t *testing.T) {
	t.Parallel()
	all := fullState()
	sameAsLibrary(t, "all fields", &all)
	brief := all.Abridged()
	sameAsLibrary(t, "a brief state", &brief)
	values := reflect.ValueOf(all)
	for i := range values.NumField() {
		s := queue.HostState{Host: "gpu-1"}
		reflect.ValueOf(&s).Elem().Field(i).Set(values.Field(i))
		sameAsLibrary(t, values.Type().Field(i).Name, &s)
	}
	ended := reflect.ValueOf(*all.Ended)
	for i := range ended.NumField() {
		s := queue.HostState{Host: "gpu-1", Ended: &queue.EndedJob{}}
		reflect.ValueOf(s.Ended).Elem().Field(i).Set(ended.Field(i))
		sameAsLibrary(t, "ended "+ended.Type().Field(i).Name, &s)
	}
}

// encoding/json makes several times as many allocations.
func TestWhatEveryJobTellsIsReadWithoutTheLibrary(t *testing.T) { //nolint:paralleltest // AllocsPerRun wants to run alone
	all := fullState()
	s := all.Abridged()
	s.Ended.RanFor, s.Ended.Loads = job.Duration(1500), nil // 1.5µs
	body := s.AppendJSON(nil)
	if n := testing.AllocsPerRun(100, func() { must(queue.DecodeState(body)) }); n > 7 {
		t.Errorf("a state of two runs and an end is read with %v allocations", n)
	}
}

// odd are states that others may write, right and wrong.
var odd = []string{
	`{"host":"gpu-1"}`, `{ "host" : "gpu-1" , "slots" : 2 }`, ` {"host":"gpu-1"} `, `{"HOST":"gpu-1"}`, `{"host":"gpu\u002d1"}`,
	`{"host":"gpu-1","host":"gpu-2"}`, `{"host":"gpu-2","host":"gpu-1"}`, `{"host":"gpu-1"}x`, `{"host":"gpu-1",}`, `{"host":"gpu-1"`,
	`{"host":"gpu-1","slots":-1}`, `{"host":"gpu-1","slots":01}`, `{"host":"gpu-1","slots":1.5}`, `{"host":"gpu-1","slots":1e1}`,
	`{"host":"gpu-1","slots":1234567890123456789012}`, `{"host":"gpu-1","serial":18446744073709551615}`, `{"host":"gpu-1","slots":null}`,
	`{"host":"gpu-1","running":[]}`, `{"host":"gpu-1","running":null}`, `{"host":"gpu-1","running":[{}]}`, `{"host":"gpu-1","running":[{"job":"a"},]}`,
	`{"host":"gpu-1","running":[{"job":"a"}],"running":[{"tenant":"b"}]}`, `{"host":"gpu-1","ended":{"job":"a"},"ended":{"tenant":"b"}}`,
	`{"host":"gpu-1","ended":null}`, `{"host":"gpu-1","ended":{"ran_for":"1.5µs"}}`, `{"host":"gpu-1","ended":{"ran_for":"-1s"}}`, `{"host":"gpu-1","ended":{"ran_for":"later"}}`,
	`{"host":"gpu-1","ended":{"success":true,"size":5}}`, `{"host":"gpu-1","brief":true}`, `{"host":"gpu-1","brief":tru}`, `{"host":"gpu-1","brief":1}`,
	`{"host":"gpu-1","time":"2026-02-03T04:05:06+01:00"}`, `{"host":"gpu-1","time":"yesterday"}`, `{"host":"gpu-1","colour":{"a":[1]}}`,
	"{\"host\":\"gpu-1\",\"reason\":\"\xff\"}", "{\"host\":\"gpu-1\",\"reason\":\"\x7f\"}", "{\"host\":\"gpu-1\",\"reason\":\"a\nb\"}", `{"host":"gpu-1","reason":"é"}`, `{`, ``, `[]`, `null`, `{}`,
}

func TestAStateOfOthersIsReadLikeTheLibraryDoes(t *testing.T) {
	t.Parallel()
	for _, body := range odd {
		sameDecoded(t, "a state", body)
	}
}

func FuzzAStateIsReadLikeTheLibraryDoes(f *testing.F) {
	for _, body := range odd {
		f.Add(body)
	}
	all := fullState()
	f.Add(string(all.AppendJSON(nil)))
	brief := all.Abridged()
	brief.Ended.Loads = nil
	f.Add(string(brief.AppendJSON(nil)))
	f.Fuzz(func(t *testing.T, body string) { sameDecoded(t, "a state", body) })
}
