package job_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

func TestABriefHasWhatTheEventSays(t *testing.T) {
	t.Parallel()
	hash := workflow.Hash(somehash)
	for name, c := range map[string]struct {
		body string
		want job.Brief
		ok   bool
	}{
		"Ours": {
			`{"job":"a","tenant":"t","priority":7,"hash":"` + somehash + `","host":"gpu-1","attempt":2,"time":"2026-01-02T03:04:05Z","requeue_of":"b","prompt_id":"x"}`,
			job.Brief{Priority: 7, Hash: hash, Host: "gpu-1", Attempt: 2, RequeueOf: "b"}, true,
		},
		"OthersStandInTheirPlace": {
			`{"metadata":{"priority":1,"host":"no","s":"}\\\"]"},"priority":3,"kind":"timeout","attempts":[{"host":"no"}],"reason":"attempts_exhausted"}`,
			job.Brief{Priority: 3, Kind: failure.Timeout, Reason: "attempts_exhausted", Metadata: []byte(`{"priority":1,"host":"no","s":"}\\\"]"}`)}, true,
		},
		"NamesInAnotherCase": {`{"Priority":4,"HOST":"h"}`, job.Brief{Priority: 4, Host: "h"}, true},
		"AllInAnotherCase": {
			`{"PRIORITY":4,"HASH":"` + somehash + `","HOST":"h","ATTEMPT":2,"REQUEUE_OF":"b","REASON":"r","KIND":"timeout","BYTES":7}`,
			job.Brief{Priority: 4, Hash: hash, Host: "h", Attempt: 2, RequeueOf: "b", Reason: "r", Kind: failure.Timeout, Bytes: 7}, true,
		},
		"EscapesInWords":      {`{"reason":"a\u0062","kind":"t\u0069meout"}`, job.Brief{Reason: "ab", Kind: failure.Timeout}, true},
		"NoObject":            {`["priority":4}`, job.Brief{}, false},
		"MoreBehindIt":        {`{"priority":4}x`, job.Brief{}, false},
		"PriorityAsText":      {`{"priority":"4"}`, job.Brief{}, false},
		"PriorityWithASign":   {`{"priority":+4}`, job.Brief{}, false},
		"PriorityAndAZero":    {`{"priority":04}`, job.Brief{}, false},
		"HalfAPriority":       {`{"priority":4.5}`, job.Brief{}, false},
		"NoPriority":          {`{"priority":}`, job.Brief{}, false},
		"MostAttempts":        {`{"priority":4,"max_attempts":100}`, job.Brief{Priority: 4, MaxAttempts: 100}, true},
		"MoreThanMostMayBe":   {`{"priority":4,"max_attempts":101}`, job.Brief{}, false},
		"AttemptAsText":       {`{"attempt":"2"}`, job.Brief{}, false},
		"NegativeAttempt":     {`{"attempt":-1}`, job.Brief{}, false},
		"AttemptOfTheLimit":   {`{"attempt":1048576}`, job.Brief{Attempt: 1048576}, true},
		"AttemptOverTheLimit": {`{"attempt":1048577}`, job.Brief{}, false},
		"HashThatCannotBe":    {`{"hash":"abc"}`, job.Brief{}, false},
		"RequeueThatCannotBe": {`{"requeue_of":"a.b"}`, job.Brief{}, false},
		"ReasonAsNumber":      {`{"reason":5}`, job.Brief{}, false},
		"KindAsNumber":        {`{"kind":5}`, job.Brief{}, false},
		"BytesAsText":         {`{"bytes":"7"}`, job.Brief{}, false},
		"Spaces":              {" {\n\"priority\" : 4 } ", job.Brief{Priority: 4}, true},
		"Escapes":             {`{"host":"gp\u0075"}`, job.Brief{Host: "gpu"}, true},
		"OfALaterVersion":     {`{"priority":4,"mood":{"host":"x"},"host":"h"}`, job.Brief{Priority: 4, Host: "h"}, true},
		"AnEmptyHost":         {`{"priority":4,"host":""}`, job.Brief{Priority: 4}, true},
		"Bytes":               {`{"priority":4,"bytes":1048576}`, job.Brief{Priority: 4, Bytes: 1048576}, true},
		"ManyBytes":           {`{"priority":4,"bytes":12345678901}`, job.Brief{Priority: 4, Bytes: 12345678901}, true},
		"NegativeBytes":       {`{"priority":4,"bytes":-1}`, job.Brief{}, false},
		"NameAndTitle":        {`{"priority":4,"name":"a cat","title":"base, image"}`, job.Brief{Priority: 4, Name: "a cat", Title: "base, image"}, true},
		"NameWithEscapes":     {`{"priority":4,"name":"Käse \"x\" \u00e4","title":"ü"}`, job.Brief{Priority: 4, Name: `Käse "x" ä`, Title: "ü"}, true},
		"NameAsNumber":        {`{"priority":4,"name":7}`, job.Brief{}, false},
		"HowLong":             {`{"priority":4,"queued_for":"1m30s","ran_for":"250ms"}`, job.Brief{Priority: 4, QueuedFor: job.Duration(90 * time.Second), RanFor: job.Duration(250 * time.Millisecond)}, true},
		"Counted":             {`{"priority":4,"counted":true}`, job.Brief{Priority: 4, Counted: true}, true},
		"NotCounted":          {`{"priority":4,"counted":false}`, job.Brief{Priority: 4}, true},
		"CountedAsText":       {`{"priority":4,"counted":"true"}`, job.Brief{}, false},
		"NegativeTime":        {`{"priority":4,"ran_for":"-1s"}`, job.Brief{}, false},
		"Empty":               {`{}`, job.Brief{}, true},
		"PriorityOutOfRange":  {`{"priority":10}`, job.Brief{}, false},
		"HostThatCannotBe":    {`{"host":"a b"}`, job.Brief{}, false},
		"AttemptThatCannotBe": {`{"attempt":9000000}`, job.Brief{}, false},
		"Cut":                 {`{"priority":4,"host":"h"`, job.Brief{}, false},
		"Nothing":             {``, job.Brief{}, false},
	} {
		got, ok := job.ReadBrief(job.Failed, []byte(c.body))
		if diff := cmp.Diff(c.want, got); diff != "" || ok != c.ok {
			t.Errorf("%s: %v, %s", name, ok, diff)
		}
	}
}

// Every event of a fleet is read in this way. To decode it into an Event takes more allocations, even when it is empty.
func TestTheBriefOfAnEventOfOursIsReadWithoutDecodingIt(t *testing.T) { //nolint:paralleltest // it counts the allocations of the process
	for _, fields := range []string{
		`"priority":0`, `"priority":9`, `"attempt":10`, `"attempt":1048576`, `"hash":"` + somehash + `"`, `"host":"gpu-1"`, `"requeue_of":"b"`,
		`"reason":"none"`, `"kind":"timeout"`, `"bytes":7`, `"priority":7 , "host":"gpu-1"`,
		`"job":"a"`, `"tenant":"t"`, `"time":"2026-01-02T03:04:05Z"`, `"metadata":{"a":1}`, `"sequence":1`, `"position":1`, `"until":"2026-01-02T03:04:05Z"`,
		`"hosts":{"a":"b"}`, `"prompt_id":"x"`, `"message":"m"`, `"node":"3"`, `"class_type":"A"`, `"exception_type":"E"`, `"counted":true`, `"size":1`,
		`"cause":"c"`, `"progress":0.5`, `"node_ran":"5s"`, `"proven":true`, `"not_before":"2026-01-02T03:04:05Z"`, `"avoided_hosts":["a"]`,
		`"avoid_until":"2026-01-02T03:04:05Z"`, `"outputs":[{"node":"9"}]`, `"cached_nodes":["4"]`, `"outputs_reused":true`, `"outputs_missing":true`,
		`"seeds":{"3":1}`, `"queued_for":"1s"`, `"ran_for":"1s"`, `"name":"a cat"`, `"title":"base, image"`, `"node_times":{"3":"1s"}`, `"attempts":[{"attempt":1}]`, `"by":"me"`, `"waited":true`,
		`"webhook":"orders"`, `"max_attempts":3`, `"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"`,
	} {
		body := []byte("{" + fields + "}")
		if _, ok := job.ReadBrief(job.Failed, body); !ok {
			t.Errorf("%s is no event", body)
		}
		if n := testing.AllocsPerRun(10, func() { job.ReadBrief(job.Failed, body) }); n > 1 {
			t.Errorf("to read %s allocates %.0f times", body, n)
		}
	}
}

func briefOf(e *job.Event) job.Brief {
	return job.Brief{Priority: e.Priority, Hash: e.Hash, Host: e.Host, Attempt: e.Attempt, RequeueOf: e.RequeueOf, Reason: e.Reason, Kind: e.Kind, Bytes: e.Bytes,
		Name: e.Name, Title: e.Title, MaxAttempts: e.MaxAttempts, QueuedFor: e.QueuedFor, RanFor: e.RanFor, Metadata: e.Metadata,
		Counted: e.Counted != nil && *e.Counted}
}

// FuzzReadBrief: of an event that can be read, the brief says the same.
func FuzzReadBrief(f *testing.F) {
	all := full()
	all.Hash = ""
	body, err := all.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Add([]byte(`{"priority":3,"host":"h","host":"i","metadata":"\\\"","outputs":[{"text":"]\""}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, ok := job.ReadBrief(job.Failed, body)
		e, err := job.DecodeEvent(job.Failed, body)
		if err != nil {
			return
		}
		if diff := cmp.Diff(briefOf(&e), got); diff != "" || !ok {
			t.Fatalf("%v, %s", ok, diff)
		}
	})
}

func BenchmarkReadBrief(b *testing.B) {
	e := job.Event{
		EventKind: job.Completed, Job: "0123456789abcdefghij", Tenant: "acme", Priority: 5, Hash: workflow.Hash(somehash), Host: "gpu-1", Attempt: 1,
		Time: time.Unix(1700000000, 0), Outputs: []job.Output{{Node: "9", Media: "images", Filename: "a.png", Object: "acme/x/a.png", Size: 100, Digest: "SHA-256=x"}},
		NodeTimes: map[string]job.Duration{"1": 5, "9": 7},
	}
	body, err := e.Encode()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, ok := job.ReadBrief(job.Completed, body); !ok {
			b.Fatal("it is not read")
		}
	}
}
