package job

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
)

// An event with a field that brief.go does not know is decoded by reflection for each list that has it.
func TestEveryFieldOfAnEventIsKnownToLists(t *testing.T) {
	t.Parallel()
	yes, when := true, time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	e := Event{
		EventKind: Completed, Job: "a-1", Tenant: "acme", Priority: 5, Hash: "7a0b3a4c5d6e7f807a0b3a4c5d6e7f807a0b3a4c5d6e7f807a0b3a4c5d6e7f80", Host: "gpu-1",
		Attempt: 2, Time: when, Name: "n", Metadata: json.RawMessage(`{"a":1}`), RequeueOf: "a", Webhook: "w", Traceparent: "00-1", Sequence: 7, Position: 3,
		Bytes: 400, Title: "t", MaxAttempts: 5, Reason: "none", Until: &when, Hosts: map[string]string{"a": "b"}, PromptID: "p", Kind: failure.Lost,
		Message: "m", Node: "3", Class: "KSampler", Exception: "x", Counted: &yes, Size: 9, Cause: "disk", Progress: 0.5, NodeRan: Duration(time.Second),
		Waited: true, Proven: true, NotBefore: &when, AvoidedHosts: []string{"h"}, AvoidUntil: &when, Outputs: []Output{{Node: "9", Filename: "a.png", Type: "output"}},
		CachedNodes: []string{"4"}, OutputsReused: true, OutputsMissing: true, Seeds: map[string]uint64{"3": 1}, QueuedFor: Duration(time.Second),
		RanFor: Duration(2 * time.Second), NodeTimes: map[string]Duration{"3": 5}, Attempts: []failure.Attempt{{Number: 1}}, By: "me",
	}
	fields := reflect.ValueOf(e)
	for i := range fields.NumField() {
		if fields.Field(i).IsZero() {
			t.Errorf("set %s in this test", fields.Type().Field(i).Name)
		}
	}
	body, err := json.Marshal(&e)
	if err != nil {
		t.Fatal(err)
	}
	if _, plain := appendPlainLean(nil, e.Tenant, e.Job, body); !plain {
		t.Errorf("a list decodes this event by reflection: %s", body)
	}
	for walk := (members{body: body, pos: 1}); walk.next(); {
		name, value := string(walk.key), walk.value.of(body)
		if brief := (Brief{}); !brief.take(name, value) {
			t.Errorf("Brief.take does not know %s: %s", name, value)
		}
	}
}
