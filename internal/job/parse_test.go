package job_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

const bare = `{"1":{"class_type":"EmptyImage","inputs":{"width":8,"height":8,"batch_size":1,"color":1}},` +
	`"2":{"class_type":"SaveImage","inputs":{"images":["1",0],"filename_prefix":"x"}}}`

func message(body string) job.Message {
	return job.Message{
		Tenant: "acme", Priority: 5, Sequence: 42, Received: time.Unix(1_800_000_000, 0),
		StreamCreated: time.Unix(1_790_000_000, 0), Body: []byte(body),
	}
}

func TestTheIDComesFromBodyHeaderOrMessageID(t *testing.T) {
	t.Parallel()
	envelope := `{"id":"mine","workflow":` + bare + `}`
	// Of a long name 95 letters are kept, and the FNV-1a of all of it stands behind them.
	long, kept := strings.Repeat("x", 120), strings.Repeat("x", 95)
	shortened, shortenedLike := kept+"-9dc30f7223c50905", kept+"-29cdd63b71cc3d75"
	cases := map[string]struct {
		body, header, msgID, requeueOf string
		want                           job.ID
		refused                        string
	}{
		"Body":                      {body: envelope, want: "mine"},
		"Header":                    {body: bare, header: "theirs", want: "theirs"},
		"BothTheSame":               {body: envelope, header: "mine", want: "mine"},
		"BothDiffer":                {body: envelope, header: "theirs", refused: "the ids disagree"},
		"MessageID":                 {body: bare, msgID: "m-1", want: "m-1"},
		"MessageIDOfAnotherForm":    {body: bare, msgID: "a/b c", want: "j-tlpwu8-42"},
		"BodyBeforeMessageID":       {body: envelope, msgID: "m-1", want: "mine"},
		"OwnPrefixIsRefused":        {body: bare, header: "j-1-1", refused: `begins with "j-"`},
		"OwnPrefixInMessageID":      {body: bare, msgID: "j-1-1", refused: `begins with "j-"`},
		"OwnPrefixOfARequeue":       {body: bare, header: "j-1-1-r1", requeueOf: "j-1-1", want: "j-1-1-r1"},
		"RequeueOfAnotherIsRefused": {body: bare, header: "j-1-1-r1", requeueOf: "j-2-2", refused: `begins with "j-"`},
		"RequeueKeepsTheBody":       {body: envelope, header: "mine-r1", requeueOf: "mine", want: "mine-r1"},
		"RequeueOfARequeue":         {body: envelope, header: "mine-r2", requeueOf: "mine-r1", want: "mine-r2"},
		"RequeueOfNothing":          {body: envelope, header: "mine-r1", refused: "the ids disagree"},
		"NoRequeueIsTheJobItself":   {body: envelope, header: "other", requeueOf: "other", refused: "the ids disagree"},
		"RequeueOfANameLikeOne":     {body: envelope, header: "a-r7-r1", requeueOf: "a-r7", want: "a-r7-r1"},
		"RequeueOfALongName":        {body: envelope, header: shortened + "-r1", requeueOf: long, want: job.ID(shortened + "-r1")},
		"RequeueOfThatRequeue":      {body: envelope, header: shortened + "-r2", requeueOf: shortened + "-r1", want: job.ID(shortened + "-r2")},
		"RequeueOfALongNameLikeOne": {body: envelope, header: shortenedLike + "-r1", requeueOf: long[:116] + "-r12", want: job.ID(shortenedLike + "-r1")},
		"TooLong":                   {body: bare, header: strings.Repeat("x", 121), refused: "is no job id"},
		"BadForm":                   {body: bare, header: "a.b", refused: "is no job id"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := message(c.body)
			m.JobIDHeader, m.MsgIDHeader, m.RequeueOf = c.header, c.msgID, c.requeueOf
			j, err := job.Parse(m)
			if c.refused != "" {
				wantInvalid(t, err, c.refused)
				return
			}
			if err != nil || j.ID != c.want {
				t.Errorf("got %v, %v; want %q", j, err, c.want)
			}
		})
	}
}

func wantInvalid(t *testing.T, err error, text string) {
	t.Helper()
	var invalid *job.Invalid
	if !errors.As(err, &invalid) || invalid.Reason != failure.InvalidJob || !strings.Contains(err.Error(), text) {
		t.Errorf("err = %v, want an Invalid with %q", err, text)
	}
}

func TestBadFieldsAreRefusedWithAdvice(t *testing.T) {
	t.Parallel()
	envelope := func(fields string) string { return `{"workflow":` + bare + `,` + fields + `}` }
	cases := map[string]struct{ body, want string }{
		"Empty":                {"", "the message is empty"},
		"Junk":                 {"\x00\xff junk", "no JSON object"},
		"Array":                {"[1]", "no JSON object"},
		"CutOff":               {bare[:40], "no valid JSON"},
		"UIFormat":             {`{"nodes":[],"links":[]}`, "Export (API)"},
		"UIFormatInEnvelope":   {`{"workflow":{"nodes":[],"links":[]}}`, "Export (API)"},
		"NameAsNumber":         {envelope(`"name":5`), "field name must be a string, not a number"},
		"NameTooLong":          {envelope(`"name":"` + strings.Repeat("ü", 121) + `"`), "name has 121 characters: it is in every event, keep it to 120"},
		"NameInTwoLines":       {envelope(`"name":"a\nb"`), "name has a character that cannot be printed: write it in one line"},
		"NegativeAttempts":     {envelope(`"max_attempts":-1`), "max_attempts is -1"},
		"DurationAsNumber":     {envelope(`"retry_delay":5`), `field retry_delay must be a duration such as "90s", not a number`},
		"IDAsNumber":           {envelope(`"id":5`), "field id must be a string, not a number"},
		"AttemptsAsTextNaN":    {envelope(`"metadata":NaN,"max_attempts":"3"`), "field max_attempts must be a whole number, not a string"},
		"BadDuration":          {envelope(`"expires_in":"soon"`), `"90s"`},
		"NegativeDuration":     {envelope(`"expires_in":"-1s"`), "negative"},
		"BadTime":              {envelope(`"run_at":"tomorrow"`), `run_at is "tomorrow", which is no time: write it with a zone, like "2026-12-01T08:00:00Z"`},
		"TimeWithoutZone":      {envelope(`"run_at":"2026-12-01T08:00:00"`), `run_at is "2026-12-01T08:00:00", which does not say in what time zone: write it with a zone, like "2026-12-01T08:00:00Z"`},
		"TimeWithASpace":       {envelope(`"run_at":"2026-12-01 08:00:00"`), "which does not say in what time zone"},
		"TimeAsNumber":         {envelope(`"run_at":1796112000`), "run_at is 1796112000, which is no time"},
		"JustOverTenYears":     {envelope(`"run_at":"2037-01-12T08:00:01Z"`), "run_at is 2037-01-12T08:00:01Z, more than ten years ahead"},
		"TimeFarAhead":         {envelope(`"run_at":"2099-12-01T08:00:00Z"`), "run_at is 2099-12-01T08:00:00Z, more than ten years ahead"},
		"NoAttempts":           {envelope(`"max_attempts":0`), "max_attempts is 0: use 1 to 100, or leave it out for 3"},
		"TooManyAttempts":      {envelope(`"max_attempts":101`), "max_attempts is 101: use 1 to 100, or leave it out for 3"},
		"AttemptsAsText":       {envelope(`"max_attempts":"3"`), "field max_attempts must be a whole number, not a string"},
		"HalfAnAttempt":        {envelope(`"max_attempts":2.5`), "field max_attempts must be a whole number, not a number 2.5"},
		"HostsAsText":          {envelope(`"only_hosts":"a"`), "field only_hosts must be a list, not a string"},
		"TimeoutsAsText":       {envelope(`"timeouts":"90s"`), "field timeouts must be an object, not a string"},
		"AbsurdDuration":       {envelope(`"expires_in":"2000000h"`), "expires_in is 2000000h0m0s: use 0s to 87600h0m0s, which is ten years"},
		"JustOverTenYearsLong": {envelope(`"expires_in":"87601h"`), "expires_in is 87601h0m0s: use 0s to 87600h0m0s"},
		"AbsurdTimeout":        {envelope(`"timeouts":{"node":"2000000h"}`), "timeouts.node is 2000000h0m0s: use 0s to"},
		"NoTargets":            {`{"prompt":` + bare + `,"partial_execution_targets":[]}`, "partial_execution_targets is empty"},
		"UnknownTarget":        {`{"prompt":` + bare + `,"partial_execution_targets":["77"]}`, `include_outputs names node "77", which the workflow does not have`},
		"TargetsAndOutputs":    {envelope(`"include_outputs":["1"],"partial_execution_targets":["2"]`), "disagree: give one of them"},
		"NoComma":              {envelope(`"inputs":[{"node":"1","input":"image","url":"data:image/png;base64"}]`), "inputs[0]: url is no data URI, since it has no comma"},
		"NoBase64":             {envelope(`"inputs":[{"node":"1","input":"image","url":"data:image/png;base64,a?b"}]`), "inputs[0]: url is no data URI: what follows the comma is no base64"},
		"CutOffBase64":         {envelope(`"inputs":[{"node":"1","input":"image","url":"data:;base64,abcde"}]`), "is no base64, or is cut off"},
		"NoPercents":           {envelope(`"inputs":[{"node":"1","input":"image","url":"data:,100%"}]`), "is not percent-encoded"},
		"RunPod": {`{"input":{"workflow":` + bare + `,"images":[]}}`,
			`the workflow is in field "input.workflow", where none is looked for: publish {"workflow":{…}} with what is there, or that alone`},
		"WhatTheUISends":    {`{"output":` + bare + `,"workflow":{"nodes":[],"links":[]}}`, `the workflow is in field "output", where none is looked for`},
		"DeepInside":        {`{"job":{"input":{"workflow":` + bare + `}}}`, `the workflow is in field "job.input.workflow", where`},
		"ManyOutputs":       {envelope(`"include_outputs":[` + strings.Repeat(`"1",`, 1000) + `"1"]`), "include_outputs names 1001 nodes: at most 1000"},
		"Wrapped":           {`{"workflow":{"workflow":` + bare + `}}`, `the workflow is in field "workflow.workflow", where`},
		"AsText":            {`{"workflow":"{\"1\":{\"class_type\":\"A\"}}"}`, `the workflow is in field "workflow" as text: publish {"workflow":{…}} with that text as an object`},
		"BesideAText":       {`{"input":{"a":"{\"x\":1}","workflow":` + bare + `}}`, `the workflow is in field "input.workflow", where`},
		"InTheSecondField":  {`{"a":{"x":{}},"b":{"workflow":` + bare + `}}`, `the workflow is in field "b.workflow", where`},
		"TextInAField":      {`{"input":{"workflow":"{\"1\":{\"class_type\":\"A\"}}"}}`, `the workflow is in field "input.workflow" as text`},
		"NaNInItsPlace":     {`{"workflow":NaN,"x":` + bare + `}`, `the workflow is in field "x", where`},
		"WrongEvenInside":   {`{"input":{"workflow":{"nodes":[],"links":[]}}}`, `node "input" has no class_type`},
		"AFaultOfItsOwn":    {`{"workflow":{"1":{"class_type":"A"}},"input":` + bare + `}`, `node "1" (A) has no inputs`},
		"SubgraphOfItsOwn":  {`{"1":{"class_type":"6ba7b810-9dad-11d1-80b4-00c04fd430c8","inputs":{}}}`, "is a subgraph that was not expanded"},
		"BadHost":           {envelope(`"only_hosts":["a b"]`), "only_hosts"},
		"LongHost":          {envelope(`"only_hosts":["` + strings.Repeat("h", 65) + `"]`), "only_hosts"},
		"ManyHosts":         {envelope(`"prefer_hosts":[` + strings.Repeat(`"a",`, 1000) + `"a"]`), "prefer_hosts names 1001 hosts: at most 1000"},
		"ManyInputs":        {envelope(`"inputs":[` + strings.Repeat(`{},`, 1000) + `{}]`), "inputs has 1001 files: at most 1000"},
		"InputWithoutNode":  {envelope(`"inputs":[{"input":"image","url":"https://h/x"}]`), "inputs[0]: node and input must say where the file name goes"},
		"InputWithoutInput": {envelope(`"inputs":[{"node":"1","url":"https://h/x"}]`), "inputs[0]: node and input must say where the file name goes"},
		"FTPURL":            {envelope(`"inputs":[{"node":"1","input":"image","url":"ftp://h/x"}]`), "url must begin with http://"},
		"URLWithoutHost":    {envelope(`"inputs":[{"node":"1","input":"image","url":"https:///x"}]`), "url must begin with http://"},
		"URLThatIsNone":     {envelope(`"inputs":[{"node":"1","input":"image","url":"http://[::1/x"}]`), "url must begin with http://"},
		"ExtraDataList":     {envelope(`"extra_data":[1]`), "extra_data must be a JSON object"},
		"UnknownOutputNode": {envelope(`"include_outputs":["77"]`), "include_outputs"},
		"ForeignObject":     {envelope(`"inputs":[{"node":"1","input":"image","object":"rival/in/x.png"}]`), `"acme/…"`},
		"ObjectAndURL":      {envelope(`"inputs":[{"node":"1","input":"image","object":"acme/x","url":"http://h/x"}]`), "either object"},
		"FileURL":           {envelope(`"inputs":[{"node":"1","input":"image","url":"file:///etc/passwd"}]`), "http://"},
		"BigMetadata":       {envelope(`"metadata":"` + strings.Repeat("x", 16383) + `"`), "metadata has 16385 bytes: it is in every event, keep it under 16384"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := job.Parse(message(c.body))
			wantInvalid(t, err, c.want)
		})
	}
}

func TestALimitItselfIsAllowed(t *testing.T) {
	t.Parallel()
	j, err := job.Parse(message(`{"workflow":` + bare + `,"max_attempts":100,"run_at":"2037-01-12T08:00:00Z","expires_in":"87600h",` +
		`"timeouts":{"total":"87600h"},"only_hosts":["gpu=4090"],"inputs":[{"node":"1","input":"image","url":"http://h/x"}],` +
		`"metadata":"` + strings.Repeat("x", 16382) + `"}`))
	if err != nil || j.MaxAttempts != 100 || len(j.Metadata) != 16384 {
		t.Errorf("%+v, %v", j, err)
	}
}

func TestNullIsAsGoodAsAbsent(t *testing.T) {
	t.Parallel()
	j, err := job.Parse(message(`{"workflow":` + bare + `,"metadata":null,"extra_data":null}`))
	if err != nil || j.Metadata != nil || j.ExtraData != nil {
		t.Errorf("metadata %s, extra_data %s, %v", j.Metadata, j.ExtraData, err)
	}
}

func TestALabelHasAKeyAndAValue(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 64)
	for label, want := range map[string]bool{
		"gpu=4090": true, "cuda=12.4": true, "at=10:30": true, "gpu": false, "gpu=": false, "=4090": false, "a b=c": false, "a=b c": false,
		"a.b=c": false, long + "=" + long: true, long + "x=a": false, "a=" + long + "x": false,
	} {
		if got := job.ValidLabel(label); got != want {
			t.Errorf("%s passes for a label: %t, want %t", label, got, want)
		}
	}
}

func TestATenantOf65CharactersIsRefused(t *testing.T) {
	t.Parallel()
	m := message(bare)
	m.Tenant = strings.Repeat("t", 65)
	_, err := job.Parse(m)
	wantInvalid(t, err, "no tenant name")
}

func TestAPriorityOf10IsRefused(t *testing.T) {
	t.Parallel()
	for _, priority := range []job.Priority{-1, 10} {
		m := message(bare)
		m.Priority = priority
		_, err := job.Parse(m)
		wantInvalid(t, err, "is none of 0 to 9")
	}
}

func TestANameHasLettersDigitsAndTwoMarks(t *testing.T) {
	t.Parallel()
	const good = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
	for c := range 256 {
		name := string([]byte{byte(c)})
		if got, want := job.ID(name).Valid(), strings.Contains(good, name); got != want {
			t.Errorf("%q passes for a name: %t, want %t", name, got, want)
		}
	}
}

func TestRootIDTakesTheRequeueSuffixOff(t *testing.T) {
	t.Parallel()
	for id, want := range map[job.ID]job.ID{
		"a": "a", "a-r1": "a", "a-r12": "a", "a-r": "a-r", "a-rx": "a-rx", "-r1": "-r1", "j-1-2-r3": "j-1-2", "a-r1-r2": "a-r1",
	} {
		if got := job.RootID(id); got != want {
			t.Errorf("RootID(%q) = %q, want %q", id, got, want)
		}
	}
}

func TestTheIdOfARequeueFitsWhateverItsRoot(t *testing.T) {
	t.Parallel()
	long := job.ID(strings.Repeat("x", 119))
	for root, want := range map[job.ID]job.ID{
		"a": "a-r12345", job.ID(strings.Repeat("x", 112)): job.ID(strings.Repeat("x", 112) + "-r12345"),
	} {
		if got := job.RequeueID(root, 12345); got != want {
			t.Errorf("RequeueID(%q) = %q, want %q", root, got, want)
		}
	}
	first, second := job.RequeueID(long+"a", 1), job.RequeueID(long+"b", 1)
	if !first.Valid() || !job.RequeueID(long, 999_999).Valid() || first == second {
		t.Errorf("requeues of long ids are %q and %q", first, second)
	}
	if again := job.RequeueID(job.RootID(first), 1); again != first {
		t.Errorf("the requeue of a requeue is numbered anew: %q beside %q", again, first)
	}
}

func TestABrokenBodyIsSaidToBeBrokenFirst(t *testing.T) {
	t.Parallel()
	for _, body := range []string{bare[:len(bare)-1], `{"1"}`, `{"1":}`, `{"prompt":1,}`, `{:1}`, `{x":1}`, `{":1}`, `{"1":1,`, `{`, `{"a":{"b`} {
		m := message(body)
		m.JobIDHeader = "a.b"
		_, err := job.Parse(m)
		wantInvalid(t, err, "the message is no valid JSON")
		_, err = job.ParseSpec(m.Body)
		wantInvalid(t, err, "the message is no valid JSON")
	}
	for _, body := range []string{`{"1":{"class_type":}}`, `{"1":{"inputs":{}}}`} { // broken within
		m := message(body)
		_, err := job.Parse(m)
		wantInvalid(t, err, "export it again")
		if spec, err := job.ParseSpec(m.Body); err != nil || string(spec.Workflow) != body {
			t.Errorf("ParseSpec(%s) = %s, %v", body, spec.Workflow, err)
		}
	}
}

func TestAFileThatTheJobBringsIsNoOption(t *testing.T) {
	t.Parallel()
	const w = `{"1":{"class_type":"LoadImage","inputs":{"image":"example.png","channel":"red"}}}`
	j, err := job.Parse(message(`{"workflow":` + w + `,"inputs":[{"node":"1","input":"image","object":"acme/x.png"}]}`))
	if err != nil || j.Options().Len() != 1 || j.Graph.Options().Len() != 2 {
		t.Errorf("%d options of the job, %v", j.Options().Len(), err)
	}
}

// A workflow is indexed once, and what stands around it is decoded without it.
func TestABodyIsReadOnce(t *testing.T) { //nolint:paralleltest // it counts the allocations of the process
	indexing := testing.AllocsPerRun(10, func() { _, _ = workflow.Adopt([]byte(bare)) })
	for name, c := range map[string]struct {
		body   string
		around float64 // allocations for what is not the workflow
	}{
		"Bare":     {bare, 2},
		"Envelope": {`{"id":"mine","workflow":` + bare + `}`, 11},
		"Prompt":   {`{"prompt":` + bare + `,"client_id":"x"}`, 11},
	} {
		m := message(c.body)
		if n := testing.AllocsPerRun(10, func() { _, _ = job.Parse(m) }); n > indexing+c.around {
			t.Errorf("%s: %.0f allocations, %.0f of them for the workflow", name, n, indexing)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(bare))
	f.Add([]byte(`{"id":"x","workflow":` + bare + `,"timeouts":{"start":"1s"},"inputs":[{"node":"1","input":"i","url":"data:,x"}]}`))
	f.Add([]byte(`{"prompt":` + bare + `}`))
	f.Add([]byte(`{"workflow":{},"WORKFLOW":` + bare + `,"metadata":null,"extra_data":{"a":[1]},"run_at":"2026-12-01T08:00:00Z"}`))
	f.Add([]byte(`{"prompt":` + bare + `,"workflow":{"nodes":[]},"partial_execution_targets":["2"],"max_attempts":null}`))
	f.Add([]byte(`{"input":{"workflow":` + bare + `},"metadata":[NaN,-Infinity,"\"NaN"]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		_ = job.UnknownFields(body)
		m := message(string(body))
		j, err := job.Parse(m)
		var invalid *job.Invalid
		if err != nil && !errors.As(err, &invalid) {
			t.Fatalf("%v is no Invalid", err)
		}
		if err == nil && (!j.ID.Valid() || j.Graph == nil) {
			t.Fatalf("accepted with id %q", j.ID)
		}
		if err == nil {
			spec, failed := job.ParseSpec(m.Body)
			if spec.Metadata, spec.ExtraData = j.Metadata, j.ExtraData; failed != nil || !reflect.DeepEqual(spec, j.Spec) {
				t.Fatalf("accepted as %+v, but its body is %+v, %v", j.Spec, spec, failed)
			}
			again, failed := j.Encode()
			if failed != nil {
				t.Fatalf("accepted, and cannot be written: %v", failed)
			}
			if back, failed := job.Parse(message(string(again))); failed != nil || back.Graph.Hash() != j.Graph.Hash() || back.Options().Len() != j.Options().Len() {
				t.Fatalf("written as %s, which is %+v, %v", again, back, failed)
			}
			_ = j.Graph.Size()
		}
	})
}

// BenchmarkParse reads a bare workflow of 2 kB, and the same in an envelope.
func BenchmarkParse(b *testing.B) {
	workflow := strings.Replace(bare, `"color":1`, `"color":1,"text":"`+strings.Repeat("a fox in snow, ", 120)+`"`, 1)
	for name, body := range map[string]string{"bare": workflow, "envelope": `{"id":"mine","workflow":` + workflow + `}`} {
		b.Run(name, func(b *testing.B) {
			m := message(body)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := job.Parse(m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkEvent is an event to bytes, and back.
func BenchmarkEvent(b *testing.B) {
	j, err := job.Parse(message(bare))
	if err != nil {
		b.Fatal(err)
	}
	e := j.NewEvent(job.Completed, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	e.Host, e.Attempt, e.PromptID = "gpu-1", 1, "0b0e7b0e-7c1d-5a55-9d1c-0d6f5e1f7a11"
	e.QueuedFor, e.RanFor = job.Duration(1234567), job.Duration(7654321)
	plain := e
	b.Run("plain", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := plain.Encode(); err != nil {
				b.Fatal(err)
			}
		}
	})
	e.Seeds = map[string]uint64{"3": 42}
	e.Outputs = []job.Output{{Node: "9", Media: "image", Filename: "out.png", Type: "output", Size: 1 << 20, ContentType: "image/png"}}
	body, err := e.Encode()
	if err != nil {
		b.Fatal(err)
	}
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := e.Encode(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := job.DecodeEvent(job.Completed, body); err != nil {
				b.Fatal(err)
			}
		}
	})
}
