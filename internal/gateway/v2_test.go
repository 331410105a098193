package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/gateway"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

func TestReferencesToAssetsAreRead(t *testing.T) {
	t.Parallel()
	type read struct {
		ID     string
		Tagged bool
	}
	for raw, want := range map[string]read{
		`{"__type":"core/ASSET","info":{"id":"9f8a","hash":"blake3:00"}}`: {"9f8a", true},
		`{"__type":"core\/ASSET","info":{"id":"9f8a"}}`:                   {"9f8a", true},
		`{"__type":"core/ASSET"}`:                                         {"", true},
		`{"__type":"core/ASSET","info":{"id":5}}`:                         {"", true},
		`[{"__type":"core/ASSET","info":{"id":"9f8a"}}]`:                  {"", true},
		`{"x":{"__type":"core/ASSET","info":{"id":"9f8a"}}}`:              {"", true},
		`"a text about core/ASSET"`:                                       {},
		`{"__type":"core/OTHER","info":{"id":"core/ASSET"}}`:              {},
		`["1",0]`: {},
		`7`:       {},
	} {
		id, tagged := gateway.Reference(raw)
		if diff := cmp.Diff(want, read{id, tagged}); diff != "" {
			t.Errorf("%s is read as (-want +got):\n%s", raw, diff)
		}
	}
}

func TestReplacedInputsLeaveAllElseAsItWas(t *testing.T) {
	t.Parallel()
	const before = ` { "1" : {"inputs": {"image" : {"__type":"core/ASSET"} , "seed":18446744073709551615}, "class_type":"Ä"},"2":{"inputs":{"x":[ 1.50 ] }}}`
	const want = ` { "1" : {"inputs": {"image" : "a\"b.png" , "seed":18446744073709551615}, "class_type":"Ä"},"2":{"inputs":{"x":"c" }}}`
	got, err := gateway.Replaced(before, map[int]string{0: `a"b.png`, 2: "c"})
	if err != nil || got != want {
		t.Errorf("replaced is %s, %v; want %s", got, err, want)
	}
}

// Whatever a body is, it is refused with a code or read; and what is read can be written with other texts.
func FuzzSubmits(f *testing.F) {
	f.Add(`{"workflow":{"1":{"class_type":"LoadImage","inputs":{"image":{"__type":"core/ASSET","info":{"id":"a"}}}}},"metadata":{"a":"b"}}`)
	f.Add(`{"workflow":{"nodes":[],"links":[]},"extra_data":{"api_key_comfy_org":"k"}}`)
	f.Add(`{"workflow":{"1":{"inputs":[{}]},"2":7},"webhook_url":null}`)
	f.Fuzz(func(t *testing.T, body string) {
		labels, _, code := gateway.Submit([]byte(body))
		if code != "" && labels != nil {
			t.Errorf("refused with %s and read with %v", code, labels)
		}
		changed, err := gateway.Replaced(body, map[int]string{0: "x"})
		if err == nil && json.Valid([]byte(body)) && !json.Valid([]byte(changed)) {
			t.Errorf("%s has become %s", body, changed)
		}
	})
}

func TestLabelsHaveLimits(t *testing.T) {
	t.Parallel()
	many := map[string]string{}
	for i := range 16 {
		many[fmt.Sprint("k", i)] = strings.Repeat("ä", 128)
	}
	seventeen := map[string]string{"one": "more"}
	for key, value := range many {
		seventeen[key] = value
	}
	for name, tc := range map[string]struct {
		metadata any
		code     string
	}{
		"most":       {many, ""},
		"none":       {nil, ""},
		"empty":      {map[string]string{}, ""},
		"empty text": {map[string]string{"A-z_0.9": ""}, ""},
		"more":       {seventeen, "metadata_invalid"},
		"long key":   {map[string]string{strings.Repeat("k", 41): "x"}, "metadata_invalid"},
		"no key":     {map[string]string{"": "x"}, "metadata_invalid"},
		"odd key":    {map[string]string{"ключ": "x"}, "metadata_invalid"},
		"long text":  {map[string]string{"k": strings.Repeat("x", 257)}, "metadata_invalid"},
		"line break": {map[string]string{"k": "a\nb"}, "metadata_invalid"},
		"turned":     {map[string]string{"k": "a\u202eb"}, "metadata_invalid"},
	} {
		body, err := json.Marshal(map[string]any{"workflow": map[string]any{"1": map[string]any{}}, "metadata": tc.metadata})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, code := gateway.Submit(body); code != tc.code {
			t.Errorf("%s: the code is %q, want %q", name, code, tc.code)
		}
	}
}

func TestACursorIsThePlaceOfAJob(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1_790_000_000_123)
	cursor, back, id, err := gateway.Cursor(at, "job-1")
	if err != nil || !back.Equal(at) || id != "job-1" {
		t.Errorf("cursor %s is read as %v, %s, %v", cursor, back, id, err)
	}
	for _, wrong := range []string{"", "x", cursor[1:], cursor + "AAAA", "MiAxIGE"} {
		if gateway.ReadCursor(wrong) == nil {
			t.Errorf("%q is read as a cursor", wrong)
		}
	}
}

func TestAListHasTheNewestJobsWithTheLabels(t *testing.T) {
	t.Parallel()
	row := func(id job.ID, created int64, labels map[string]string) gateway.Row {
		return gateway.Row{Job: id, Submission: gateway.Submission{Created: created, Labels: labels}}
	}
	red, blue := map[string]string{"c": "red"}, map[string]string{"c": "blue", "d": "x"}
	rows := func() []gateway.Row {
		return []gateway.Row{row("a", 100, red), row("b", 300, blue), row("c", 300, red), row("d", 200, red), {Job: "e", Created: time.UnixMilli(50), Metadata: json.RawMessage(`{"c":"red","n":1}`)}}
	}
	for name, tc := range map[string]struct {
		filters map[string]string
		want    [][]string
	}{
		"all":  {nil, [][]string{{"c", "b"}, {"d", "a"}, {"e"}}},
		"red":  {red, [][]string{{"c", "d"}, {"a", "e"}}},
		"both": {map[string]string{"c": "blue", "d": "x"}, [][]string{{"b"}}},
		"none": {map[string]string{"d": "y"}, [][]string{nil}},
	} {
		cursor := ""
		var got [][]string
		for {
			ids, next, err := gateway.Page(rows(), tc.filters, cursor, 2)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, ids)
			if cursor = next; cursor == "" {
				break
			}
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: pages (-want +got):\n%s", name, diff)
		}
	}
	if got, err := gateway.Filters(url.Values{"metadata[c]": {"red"}, "limit": {"2"}}); err != nil || got["c"] != "red" || len(got) != 1 {
		t.Errorf("the filters are %v, %v", got, err)
	}
	for _, wrong := range []url.Values{{"metadata[c": {"x"}}, {"metadata[c]": {"x", "y"}}, {"metadata[]": {"x"}}} {
		if got, err := gateway.Filters(wrong); err == nil {
			t.Errorf("%v is read as %v", wrong, got)
		}
	}
}

// text is JSON of a value, for comparing.
func text(t *testing.T, value any) string {
	t.Helper()
	body, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestAJobIsShownAsItsEventsSay(t *testing.T) {
	t.Parallel()
	created := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	row := func(kind job.EventKind, attempt int, last job.Event) *gateway.Row {
		last.EventKind = kind
		return &gateway.Row{
			Job: "one", State: kind, Priority: 5, Created: created, Started: created.Add(2 * time.Second), Attempt: attempt, Last: &last, Time: created.Add(5 * time.Second),
		}
	}
	const head = `{"id":"one","status":"%s","created_at":"2026-11-28T12:00:00Z","started_at":%s,"completed_at":%s,"expires_at":"2026-11-29T12:00:00Z","queue_position":null,` +
		`"progress":%s,"outputs":[],"error":%s,"metrics":{"queue_ms":%s,"execution_ms":%s},` +
		`"urls":{"self":"http://gw/api/v2/jobs/one","events":"http://gw/api/v2/jobs/one/events","cancel":"http://gw/api/v2/jobs/one/cancel"},"priority":5,"outputs_reused":false}`
	const started, ended = `"2026-11-28T12:00:02Z"`, `"2026-11-28T12:00:05Z"`
	const nothing = `{"value":0,"nodes_done":0,"nodes_total":0,"current_node":null,"current_node_class":null,"step":null,"steps":null,"message":null}`
	full := strings.Replace(strings.Replace(nothing, `"value":0`, `"value":1`, 1), `"nodes_done":0,"nodes_total":0`, `"nodes_done":3,"nodes_total":3`, 1)
	for name, tc := range map[string]struct {
		row  *gateway.Row
		want []any
	}{
		"stored":    {&gateway.Row{Job: "one", Priority: 5, Created: created}, []any{"queued", "null", "null", "null", "null", "null", "null"}},
		"waiting":   {row(job.Waiting, 0, job.Event{}), []any{"queued", "null", "null", "null", "null", "null", "null"}},
		"started":   {row(job.Started, 1, job.Event{}), []any{"running", started, "null", nothing, "null", "2000", "null"}},
		"retrying":  {row(job.Retrying, 1, job.Event{}), []any{"running", started, "null", nothing, "null", "2000", "null"}},
		"cancelled": {row(job.Cancelled, 0, job.Event{}), []any{"canceled", "null", ended, "null", "null", "null", "null"}},
		"expired": {row(job.Dead, 0, job.Event{Reason: "expired"}), []any{
			"expired", "null", ended, "null", `{"code":"expired","message":"the job ended: expired","node_id":null,"class_type":null,"traceback":null}`, "null", "null",
		}},
		"dead": {row(job.Dead, 1, job.Event{Reason: "attempts_exhausted", Kind: "execution_error", Message: "boom", Node: "3", Class: "KSampler", Exception: "ValueError"}), []any{
			"failed", started, ended, "null", `{"code":"node_execution_error","message":"ValueError: boom","node_id":"3","class_type":"KSampler","traceback":null}`, "2000", "null",
		}},
		"completed": {row(job.Completed, 1, job.Event{
			QueuedFor: job.Duration(1500 * time.Millisecond), RanFor: job.Duration(300 * time.Microsecond), CachedNodes: []string{"1"}, NodeTimes: map[string]job.Duration{"2": 1, "3": 1},
		}), []any{"succeeded", started, ended, full, "null", "1500", "0"}},
	} {
		if diff := cmp.Diff(fmt.Sprintf(head, tc.want...), text(t, gateway.Shown(tc.row, nil))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestProgressCountsNodesAndSteps(t *testing.T) {
	t.Parallel()
	got := text(t, gateway.ProgressOf(&jetstream.Progress{Value: 10, Max: 20, Node: "3", Class: "KSampler", NodesDone: 2, NodesTotal: 4}))
	const want = `{"value":0.625,"nodes_done":2,"nodes_total":4,"current_node":"3","current_node_class":"KSampler","step":10,"steps":20,"message":"KSampler 10/20"}`
	if got != want {
		t.Errorf("the progress is %s, want %s", got, want)
	}
	for _, p := range []jetstream.Progress{{Value: 9, Max: 3, NodesDone: 4, NodesTotal: 4}, {Value: -9, Max: 3, NodesTotal: 4}} {
		var value struct{ Value float64 }
		if err := json.Unmarshal([]byte(text(t, gateway.ProgressOf(&p))), &value); err != nil || value.Value < 0 || value.Value > 1 {
			t.Errorf("the progress of %+v is %v, %v", p, value.Value, err)
		}
	}
}

func TestOutputsHaveTheTypeOfTheirContent(t *testing.T) {
	t.Parallel()
	for want, outputs := range map[string][]job.Output{
		"image":  {{Media: "images", ContentType: "image/png"}, {Media: "gifs", ContentType: "image/webp"}, {Media: "images"}},
		"video":  {{Media: "gifs", ContentType: "video/mp4"}, {Media: "images", ContentType: "video/webm"}, {Media: "gifs"}},
		"audio":  {{Media: "audio", ContentType: "audio/flac"}, {Media: "audio"}},
		"text":   {{Media: "text", Text: "x"}, {Media: "files", ContentType: "text/csv"}},
		"latent": {{Media: "latents", Filename: "a.latent"}, {Media: "files", Filename: "a.latent", ContentType: "application/octet-stream"}},
		"file":   {{Media: "3d", Filename: "a.glb", ContentType: "model/gltf-binary"}, {}},
	} {
		for _, o := range outputs {
			if got := gateway.OutputType(&o); got != want {
				t.Errorf("%+v is %s, want %s", o, got, want)
			}
		}
	}
}

func TestPathsStayInside(t *testing.T) {
	t.Parallel()
	for _, right := range []string{"a.png", "masks/a b.png", "models/checkpoints/x.safetensors", "ä.png"} {
		if why := gateway.WrongPath(right); why != "" {
			t.Errorf("%q is refused: %s", right, why)
		}
	}
	for _, wrong := range []string{"", "/a", "../a", "a/../b", "a//b", "a/", ".", `a\b`, "a\nb", "a\x00", "a\xff", "a\u202eb", strings.Repeat("a", 513)} {
		if gateway.WrongPath(wrong) == "" {
			t.Errorf("%q is taken", wrong)
		}
	}
}

// recorded is a client that reads a stream.
type recorded struct {
	mu   sync.Mutex
	text strings.Builder
	fail bool
}

func (r *recorded) Header() http.Header              { return http.Header{} }
func (r *recorded) WriteHeader(int)                  {}
func (r *recorded) Flush()                           {}
func (r *recorded) SetWriteDeadline(time.Time) error { return nil }
func (r *recorded) Write(b []byte) (n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail {
		return 0, errors.New("the client is gone")
	}
	return r.text.Write(b)
}

// taken is what was sent since the last call: the names of events, and a colon for a comment.
func (r *recorded) taken() string {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for line := range strings.SplitSeq(r.text.String(), "\n") {
		if name, is := strings.CutPrefix(line, "event: "); is {
			names = append(names, name)
		} else if strings.HasPrefix(line, ":") {
			names = append(names, ":")
		}
	}
	r.text.Reset()
	return strings.Join(names, " ")
}

func TestAStreamShowsAJobAndIsNeverSilent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		running := gateway.Row{Job: "one", State: job.Started, Attempt: 1, Started: time.Now(), Created: time.Now(), Last: &job.Event{EventKind: job.Started}}
		s := gateway.NewStream(&running)
		s.Live(&jetstream.Progress{NodesTotal: 2}, nil)
		client := &recorded{}
		var ended sync.WaitGroup
		ended.Go(func() {
			if err := s.Run(context.Background(), client); err != nil {
				t.Error(err)
			}
		})
		want := func(what, frames string) {
			t.Helper()
			if got := client.taken(); got != frames {
				t.Errorf("%s: %q is sent, want %q", what, got, frames)
			}
		}
		want("at once", "status progress")
		for range 10 {
			s.Live(&jetstream.Progress{NodesDone: 1, NodesTotal: 2}, nil)
			s.Live(nil, []byte("a picture"))
		}
		want("soon after", "")
		<-time.After(500 * time.Millisecond)
		want("half a second after", "progress preview")
		<-time.After(29 * time.Second)
		want("in half a minute", ": :")
		s.Put(&running)
		want("when nothing has changed", "")
		done := running
		done.State, done.Last = job.Completed, &job.Event{EventKind: job.Completed, Outputs: []job.Output{{Node: "9", Object: "a"}, {Node: "10", Media: "text", Text: "x"}}}
		s.Put(&done)
		want("at the end", "progress output output status")
		ended.Wait()
	})
}

func TestAStreamEndsWithItsGatewayAndItsClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		row := gateway.Row{Job: "one", State: job.Started, Attempt: 1, Last: &job.Event{EventKind: job.Started}}
		leaving, gone, away := gateway.NewStream(&row), gateway.NewStream(&row), gateway.NewStream(&row)
		ctx, cancel := context.WithCancel(context.Background())
		lost := &recorded{}
		var ended sync.WaitGroup
		ended.Go(func() { _ = leaving.Run(context.Background(), &recorded{}) })
		ended.Go(func() { _ = gone.Run(ctx, &recorded{}) })
		ended.Go(func() { _ = away.Run(context.Background(), lost) })
		synctest.Wait()
		lost.mu.Lock()
		lost.fail = true
		lost.mu.Unlock()
		leaving.Leave()
		cancel()
		ended.Wait() // the third one ends with its next comment
	})
}

// A form has no end that a client must reach, so what is kept of its fields is bounded.
func TestAFormOfManyTagsIsNotReadToItsEnd(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{32: "", 1000: "invalid_request"} {
		read, code, err := gateway.FormTags(n)
		if err != nil || code != want || read > 33 {
			t.Errorf("of %d tags %d were read, and the answer is %q: %v", n, read, code, err)
		}
	}
}

// Without an answer the server sends 200, which a client that is still there would take for a job that was stored.
func TestAnErrorIsAnsweredAlsoWhenTheGatewayIsKilled(t *testing.T) {
	t.Parallel()
	if status := gateway.AnsweredLate(context.Canceled); status != 503 {
		t.Errorf("status %d", status)
	}
}
