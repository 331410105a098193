package job_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
)

const graph = `{"1":{"class_type":"A","inputs":{}}}`

func TestAMisplacedWorkflowIsFoundFourFieldsDeep(t *testing.T) {
	t.Parallel()
	_, err := job.Parse(message(`{"workflow":{"a":{"b":{"c":` + graph + `}}}}`))
	wantInvalid(t, err, `the workflow is in field "workflow.a.b.c"`)
	_, err = job.Parse(message(`{"workflow":{"a":{"b":{"c":{"d":` + graph + `}}}}}`))
	if err == nil || strings.Contains(err.Error(), "stands in field") {
		t.Errorf("five deep: %v", err)
	}
}

func TestAnUnknownFieldIsExplainedWhereItCanBe(t *testing.T) {
	t.Parallel()
	for body, want := range map[string][]string{
		`{"workflow":{},"tenant":"a"}`:              {"tenant (the tenant is a part of the subject)"},
		`{"workflow":{},"number":1}`:                {"number (the priority is the last part of the subject)"},
		`{"workflow":{},"inputs":[{"tenant":"a"}]}`: {"inputs[0].tenant"},
		`{"workflow":{},"data":1}`:                  {"data"}, // four letters away from metadata
		`{"workflow":{},"meta_datas":1}`:            {"meta_datas (did you mean metadata?)"},
		`{"workflow":{},"metedota":1}`:              {"metedota (did you mean metadata?)"},
		`{"workflow":{},"metedoto":1}`:              {"metedoto"},                                // three letters of eight
		`{"workflow":{},"retry_dexxx":1}`:           {"retry_dexxx (did you mean retry_delay?)"}, // three of ten
		`{"workflow":{},"MAXATTEMPT":1}`:            {"MAXATTEMPT (did you mean max_attempts?)"},
		`{"workflow":{},"xid":1}`:                   {"xid (did you mean id?)"},
		`{"workflow":{},"xy":1}`:                    {"xy"}, // both letters of id
	} {
		if diff := cmp.Diff(want, job.UnknownFields([]byte(body))); diff != "" {
			t.Errorf("%s: %s", body, diff)
		}
	}
}

func TestBothNamesOfTheOutputsMayBeGivenWhenTheyAgree(t *testing.T) {
	t.Parallel()
	spec, err := job.ParseSpec([]byte(`{"prompt":` + graph + `,"partial_execution_targets":["1"],"include_outputs":["1"]}`))
	if err != nil || len(spec.IncludeOutputs) != 1 {
		t.Errorf("%v, %v", spec.IncludeOutputs, err)
	}
	_, err = job.ParseSpec([]byte(`{"prompt":` + graph + `,"partial_execution_targets":["1"],"include_outputs":["2"]}`))
	wantInvalid(t, err, "disagree")
}

func TestADataURIThatIsNoneIsRefused(t *testing.T) {
	t.Parallel()
	for _, uri := range []string{"data:;base64,%zz", "data:,%zz", "data:image/png;base64"} {
		if data, err := job.DataURI(uri); err == nil {
			t.Errorf("%s is %q", uri, data)
		}
	}
}

func TestAnEnvelopeThatJSONCannotHoldIsNotWritten(t *testing.T) {
	t.Parallel()
	s := job.Spec{ID: "one", Workflow: json.RawMessage(graph), Metadata: json.RawMessage(`{`)}
	if body, err := s.Encode(); err == nil || !strings.Contains(err.Error(), "encode the envelope of job one") {
		t.Errorf("%s, %v", body, err)
	}
}

func TestThreeKindsOfEventsEndAJob(t *testing.T) {
	t.Parallel()
	for kind, want := range map[job.EventKind]bool{
		"queued": false, "waiting": false, "started": false, "failed": false, "retrying": false, "completed": true, "dead": true, "cancelled": true, "mood": false,
	} {
		if got := kind.Terminal(); got != want {
			t.Errorf("%s: %t", kind, got)
		}
	}
}

func TestAFailedEventTellsItsAttempt(t *testing.T) {
	t.Parallel()
	e := job.Event{
		EventKind: job.Failed, Attempt: 2, Host: "gpu-1", Kind: failure.HostLost, Message: "gone", Node: "3", Class: "KSampler", Exception: "E",
		Cause: failure.Down, Progress: 0.5, NodeRan: job.Duration(time.Second), Waited: true, Proven: true,
	}
	want := failure.Attempt{
		Number: 2, Host: "gpu-1", Kind: failure.HostLost, Message: "gone", Node: "3", Class: "KSampler", Exception: "E",
		Cause: failure.Down, Progress: 0.5, NodeRan: time.Second, Waited: true, Proven: true,
	}
	if diff := cmp.Diff(want, e.Failure()); diff != "" {
		t.Error(diff)
	}
}

func TestOutputsAndAttemptsOfAnEventAreInRange(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]bool{
		`{"outputs":[{"filename":"a","size":0}]}`:        true,
		`{"outputs":[{"filename":"a","size":-1}]}`:       false,
		`{"attempts":[{"host":"gpu-1","attempt":1}]}`:    true,
		`{"attempts":[{"host":"","attempt":1}]}`:         true,
		`{"attempts":[{"host":"gpu 1","attempt":1}]}`:    false,
		`{"attempts":[{"host":"gpu-1","attempt":-1}]}`:   false,
		`{"attempts":[{"attempt":1048576}]}`:             true,
		`{"attempts":[{"attempt":1048577}]}`:             false,
		`{"attempts":[{"progress":-0.1}]}`:               false,
		`{"attempt":1048576}`:                            true,
		`{"attempt":1048577}`:                            false,
		`{"position":1099511627776}`:                     true,
		`{"position":1099511627777}`:                     false,
		`{"requeue_of":"b"}`:                             true,
		`{"attempts":[{"host":"gpu-1","progress":1}]}`:   true,
		`{"attempts":[{"host":"gpu-1","progress":1.1}]}`: false,
	} {
		if _, err := job.DecodeEvent(job.Dead, []byte(body)); (err == nil) != want {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestAJobHasWhatItsMessageHas(t *testing.T) {
	t.Parallel()
	m := message(`{"workflow":` + graph + `,"max_attempts":2,"retry_delay":"3s","run_at":"2027-02-03T04:05:06Z","expires_in":"1h","metadata":{"a":1}}`)
	m.Priority, m.Sequence, m.Received, m.JobIDHeader, m.RequeueOf = 7, 42, time.Unix(1_800_000_000, 0), "a-r1", "a"
	j, err := job.Parse(m)
	if err != nil || j.Priority != 7 || j.Sequence != 42 || !j.Received.Equal(m.Received) || string(j.Tenant) != m.Tenant {
		t.Fatalf("%+v, %v", j, err)
	}
	if got, want := j.Policy(), (failure.Policy{MaxAttempts: 2, RetryDelay: 3 * time.Second}); got != want {
		t.Errorf("policy %+v, want %+v", got, want)
	}
	if got, want := j.NotBefore(), time.Date(2027, 2, 3, 4, 5, 6, 0, time.UTC); !got.Equal(want) {
		t.Errorf("not before %s, want %s", got, want)
	}
	if got, want := j.Expires(), time.Unix(1_800_003_600, 0); !got.Equal(want) {
		t.Errorf("expires %s, want %s", got, want)
	}
	now := time.Unix(1_800_000_001, 0)
	want := job.Event{
		EventKind: job.Queued, Job: "a-r1", Tenant: "acme", Priority: 7, Hash: j.Graph.Hash(), Time: now, Metadata: json.RawMessage(`{"a":1}`), RequeueOf: "a",
	}
	if diff := cmp.Diff(want, j.NewEvent(job.Queued, now)); diff != "" {
		t.Error(diff)
	}
}

func TestAJobWithoutTimesMayStartAtOnceAndNeverExpires(t *testing.T) {
	t.Parallel()
	j, err := job.Parse(message(graph))
	if err != nil || !j.NotBefore().IsZero() || !j.Expires().IsZero() {
		t.Errorf("not before %s, expires %s, %v", j.NotBefore(), j.Expires(), err)
	}
}

func TestAnEventKindIsListed(t *testing.T) {
	t.Parallel()
	want := []job.EventKind{"queued", "waiting", "started", "failed", "retrying", "completed", "dead", "cancelled"}
	if diff := cmp.Diff(want, job.EventKinds()); diff != "" {
		t.Error(diff)
	}
}

func TestListsOfAJobAreBounded(t *testing.T) {
	t.Parallel()
	list := func(n int, entry string) string {
		return "[" + strings.TrimSuffix(strings.Repeat(entry+",", n), ",") + "]"
	}
	input := `{"node":"1","input":"x","url":"https://h/a.png"}`
	for field, entry := range map[string]string{"inputs": input, "include_outputs": `"1"`, "prefer_hosts": `"a"`} {
		for n, fits := range map[int]bool{1000: true, 1001: false} {
			_, err := job.Parse(message(fmt.Sprintf(`{"workflow":%s,%q:%s}`, graph, field, list(n, entry))))
			if (err == nil) != fits {
				t.Errorf("%d %s: %.120v", n, field, err)
			}
		}
	}
}

func TestAnInputNamesANodeOfTheWorkflow(t *testing.T) {
	t.Parallel()
	_, err := job.Parse(message(`{"workflow":` + graph + `,"inputs":[{"node":"2","input":"x","url":"https://h/a.png"}]}`))
	wantInvalid(t, err, `inputs[0] names node "2", which the workflow does not have`)
}

func TestARunTimeIsJudgedOnlyWhenTheTimeOfThePublishIsKnown(t *testing.T) {
	t.Parallel()
	m := message(`{"workflow":` + graph + `,"run_at":"2040-01-01T00:00:00Z"}`)
	m.Received = time.Time{}
	if _, err := job.Parse(m); err != nil {
		t.Error(err)
	}
	m.Received = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	_, err := job.Parse(m)
	wantInvalid(t, err, "more than ten years ahead")
}

func TestAnyDigitMakesARequeueSuffix(t *testing.T) {
	t.Parallel()
	for id, want := range map[job.ID]job.ID{"a-r9": "a", "a-r0": "a", "a-r10": "a", "a-r": "a-r", "a-r1x": "a-r1x", "a-r1a": "a-r1a", "a-r1-": "a-r1-", "-r1": "-r1"} {
		if got := job.RootID(id); got != want {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
}
