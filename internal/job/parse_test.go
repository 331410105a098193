package job_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
)

const bare = `{"1":{"class_type":"EmptyImage","inputs":{"width":8,"height":8,"batch_size":1,"color":1}},` +
	`"2":{"class_type":"SaveImage","inputs":{"images":["1",0],"filename_prefix":"x"}}}`

func message(body string) job.Message {
	return job.Message{
		Tenant: "acme", Priority: 5, Sequence: 42, Received: time.Unix(1_800_000_000, 0),
		StreamCreated: time.Unix(1_790_000_000, 0), Body: []byte(body),
	}
}

func TestTheThreeBodiesAreToldApart(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		body string
		id   job.ID
	}{
		"Bare":                   {bare, "j-tlpwu8-42"},
		"Prompt":                 {`{"prompt":` + bare + `,"extra_data":{"a":1},"client_id":"x"}`, "j-tlpwu8-42"},
		"Envelope":               {`{"id":"mine","workflow":` + bare + `,"max_attempts":2,"unknown":1}`, "mine"},
		"NodeCalledWorkflow":     {strings.Replace(bare, `"1":{`, `"workflow":{`, 1), ""},
		"ByteOrderMarkAndSpaces": {"\ufeff \n" + bare, "j-tlpwu8-42"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j, err := job.Parse(message(c.body))
			if c.id == "" { // the link to node 1 is broken by the renaming, so this one must be refused as a workflow
				if err == nil || !strings.Contains(err.Error(), `"1"`) {
					t.Fatalf("err = %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if j.ID != c.id || j.Graph.Len() != 2 {
				t.Errorf("id %q with %d nodes, want %q with 2", j.ID, j.Graph.Len(), c.id)
			}
		})
	}
}

func TestAnEnvelopeIsReadAsTheLibraryDoes(t *testing.T) {
	t.Parallel()
	other := strings.Replace(bare, "EmptyImage", "LoadImage", 1)
	for _, body := range []string{
		`{"max_attempts":2, "workflow" : ` + bare + ` , "metadata":{"workflow":1}}`,
		`{"workflow":` + other + `,"workflow":` + bare + `}`,
		`{"workflow":` + other + `,"WorkFlow":` + bare + `}`,
		`{"WORKFLOW":` + other + `,"workflow":` + bare + `}`,
		`{"work\u0066low":` + other + `,"workflow":` + bare + `}`,
		`{"prompt":` + other + `,"workflow":` + bare + `}`,
		`{"workflow":{"class_type":"A","inputs":{}},"prompt":` + bare + `}`,
		`{"client_id":"x","prompt":` + bare + `,"extra_data":{"a":1}}`,
		`{"prompt":` + bare + `,"max_attempts":2}`,
	} {
		j, err := job.Parse(message(body))
		if err != nil {
			t.Errorf("%s: %v", body, err)
			continue
		}
		spec, err := job.ParseSpec([]byte(body))
		if diff := cmp.Diff(spec, j.Spec); err != nil || diff != "" || string(j.Workflow) != bare || string(j.Graph.Raw()) != bare {
			t.Errorf("%s: %s (%v), graph %s", body, diff, err, j.Graph.Raw())
		}
	}
}

func TestTheIDComesFromBodyHeaderOrMessageID(t *testing.T) {
	t.Parallel()
	envelope := `{"id":"mine","workflow":` + bare + `}`
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
		"Empty":              {"", "the message is empty"},
		"Junk":               {"\x00\xff junk", "no JSON object"},
		"Array":              {"[1]", "no JSON object"},
		"CutOff":             {bare[:40], "no valid JSON"},
		"UIFormat":           {`{"nodes":[],"links":[]}`, "Export (API)"},
		"UIFormatInEnvelope": {`{"workflow":{"nodes":[],"links":[]}}`, "Export (API)"},
		"NegativeAttempts":   {envelope(`"max_attempts":-1`), "max_attempts is -1"},
		"DurationAsNumber":   {envelope(`"retry_delay":5`), "retry_delay"},
		"BadDuration":        {envelope(`"expires_in":"soon"`), `"90s"`},
		"NegativeDuration":   {envelope(`"expires_in":"-1s"`), "negative"},
		"BadTime":            {envelope(`"run_at":"tomorrow"`), "the envelope does not fit"},
		"BadHost":            {envelope(`"only_hosts":["a b"]`), "only_hosts"},
		"ExtraDataList":      {envelope(`"extra_data":[1]`), "extra_data must be a JSON object"},
		"UnknownOutputNode":  {envelope(`"include_outputs":["77"]`), "include_outputs"},
		"ForeignObject":      {envelope(`"inputs":[{"node":"1","input":"image","object":"rival/in/x.png"}]`), `"acme/…"`},
		"ObjectAndURL":       {envelope(`"inputs":[{"node":"1","input":"image","object":"acme/x","url":"http://h/x"}]`), "either object"},
		"FileURL":            {envelope(`"inputs":[{"node":"1","input":"image","url":"file:///etc/passwd"}]`), "http://"},
		"BigMetadata":        {envelope(`"metadata":"` + strings.Repeat("x", 17<<10) + `"`), "metadata has"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := job.Parse(message(c.body))
			wantInvalid(t, err, c.want)
		})
	}
}

func TestATenantOf65CharactersIsRefused(t *testing.T) {
	t.Parallel()
	m := message(bare)
	m.Tenant = strings.Repeat("t", 65)
	_, err := job.Parse(m)
	wantInvalid(t, err, "no tenant name")
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

func TestABrokenBodyIsSaidToBeBrokenFirst(t *testing.T) {
	t.Parallel()
	for _, body := range []string{bare[:len(bare)-1], `{"1"}`, `{"1":}`, `{"prompt":1,}`} {
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

func FuzzParse(f *testing.F) {
	f.Add([]byte(bare))
	f.Add([]byte(`{"id":"x","workflow":` + bare + `,"timeouts":{"start":"1s"},"inputs":[{"node":"1","input":"i","url":"data:,x"}]}`))
	f.Add([]byte(`{"prompt":` + bare + `}`))
	f.Add([]byte(`{"workflow":{},"WORKFLOW":` + bare + `,"metadata":null,"extra_data":{"a":[1]},"run_at":"2026-12-01T08:00:00Z"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
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
