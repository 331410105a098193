package jetstream_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/jetstream"
)

// A dispatcher that asks for order gets one request at a time, each with the cursor of the answer before. Here it gives fewer bytes
// than it is asked for.
func TestPiecesThatMustComeInOrderAreAskedForOneByOne(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	const most = 300_000
	var asked []string
	answerAll(t, url, "comfy.tenants.acme.file.get", func(msg *nats.Msg) {
		var r jetstream.FileRequest
		must(0, json.Unmarshal(msg.Data, &r))
		asked = append(asked, fmt.Sprint(r.Name, " ", r.Store, " ", r.Offset, " ", r.Limit, " ", r.Cursor))
		end := min(r.Offset+most, int64(len(longFile)))
		if r.Limit > 0 {
			end = min(end, r.Offset+int64(r.Limit))
		}
		answer := nats.NewMsg(msg.Reply)
		answer.Header = nats.Header{
			"Comfy-File-Size": {strconv.Itoa(len(longFile))}, "Comfy-File-Digest": {digestOf(longFile)}, "Comfy-Offset": {strconv.FormatInt(r.Offset, 10)},
			"Content-Type": {"text/plain"}, "Comfy-Cursor": {fmt.Sprint("behind ", end)}, "Comfy-In-Order": {"true"},
		}
		answer.Data = longFile[r.Offset:end]
		must(0, msg.RespondMsg(answer))
	})
	acme := jetstream.NewClient(connect(t, url), "acme")
	r, file, err := acme.OpenInput(t.Context(), "acme/a", 1000)
	if err != nil || file.Size != int64(len(longFile)) {
		t.Fatal(file, err)
	}
	body, err := io.ReadAll(r)
	if !bytes.Equal(body, longFile[1000:]) || err != nil {
		t.Errorf("%d bytes, %v", len(body), err)
	}
	must(0, r.Close())
	want := []string{ // pieces of 512 KiB: 1 310 720 bytes in all
		"acme/a inputs 1000 0 ", "acme/a inputs 301000 524288 behind 301000", "acme/a inputs 601000 224288 behind 601000",
		"acme/a inputs 825288 485432 behind 825288", "acme/a inputs 1125288 185432 behind 1125288",
	}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Error(diff)
	}
}

// unknown hides what a reader is, and so how much there is to read.
type unknown struct{ io.Reader }

// openAt opens a file at an offset.
func openAt(t *testing.T, path string, offset int64) *os.File {
	t.Helper()
	f := must(os.Open(path))
	t.Cleanup(func() { _ = f.Close() })
	must(f.Seek(offset, io.SeekStart))
	return f
}

func TestThePiecesOfAFileSayHowLongItIsAndWhichIsTheLast(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	type piece struct{ Offset, Size, Last, Digest, Type, Cursor string }
	var got []piece
	total := 0
	answerAll(t, url, "comfy.tenants.acme.file.put", func(msg *nats.Msg) {
		h := msg.Header
		got = append(got, piece{h.Get("Comfy-Offset"), h.Get("Comfy-File-Size"), h.Get("Comfy-Last"), h.Get("Comfy-File-Digest"), h.Get("Content-Type"), h.Get("Comfy-Cursor")})
		if _, has := h["Comfy-Cursor"]; has != (total > 0) {
			t.Errorf("at %d there is a cursor: %t", total, has)
		}
		total += len(msg.Data)
		answer := nats.NewMsg(msg.Reply)
		answer.Header = nats.Header{"Comfy-Offset": {strconv.Itoa(total)}, "Comfy-Cursor": {"c"}}
		answer.Data = must(json.Marshal(jetstream.File{Name: "acme/a", Size: int64(total), Digest: h.Get("Comfy-File-Digest")}))
		must(0, msg.RespondMsg(answer))
	})
	acme := jetstream.NewClient(connect(t, url), "acme")
	path := filepath.Join(t.TempDir(), "file")
	must(0, os.WriteFile(path, []byte("xxabc"), 0o600))
	piped, pipe, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer piped.Close()
	must(pipe.WriteString("abc"))
	must(0, pipe.Close())
	two := longFile[:jetstream.FileChunkSize+1]
	last := func(offset, size string, body []byte, cursor string) piece {
		return piece{offset, size, "true", digestOf(body), "text/plain", cursor}
	}
	for name, c := range map[string]struct {
		body io.Reader
		want []piece
	}{
		"Bytes":     {bytes.NewReader([]byte("abc")), []piece{last("0", "3", []byte("abc"), "")}},
		"Text":      {strings.NewReader("abc"), []piece{last("0", "3", []byte("abc"), "")}},
		"Buffer":    {bytes.NewBufferString("abc"), []piece{last("0", "3", []byte("abc"), "")}},
		"File":      {openAt(t, path, 2), []piece{last("0", "3", []byte("abc"), "")}},
		"AtItsEnd":  {openAt(t, path, 5), []piece{last("0", "0", nil, "")}},
		"BehindIt":  {openAt(t, path, 6), []piece{last("0", "", nil, "")}},
		"Pipe":      {piped, []piece{last("0", "", []byte("abc"), "")}},
		"Device":    {openAt(t, os.DevNull, 0), []piece{last("0", "", nil, "")}},
		"Unknown":   {unknown{strings.NewReader("abc")}, []piece{last("0", "", []byte("abc"), "")}},
		"Empty":     {strings.NewReader(""), []piece{last("0", "0", nil, "")}},
		"TwoPieces": {bytes.NewReader(two), []piece{{Offset: "0", Size: "524289"}, last("524288", "524289", two, "c")}},
		"OneWhole":  {bytes.NewReader(two[1:]), []piece{{Offset: "0", Size: "524288"}, last("524288", "524288", two[1:], "c")}},
	} {
		got, total = nil, 0
		file, err := acme.PutFile(t.Context(), "acme/a", "text/plain", c.body)
		if diff := cmp.Diff(c.want, got); diff != "" || err != nil || file.Size != int64(total) {
			t.Errorf("%s: %+v, %v: %s", name, file, err, diff)
		}
	}
}

func TestAnAnswerToTheLastPieceDescribesTheFile(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	answers := map[string]string{"null": "has another digest", `{"digest":"SHA-256=x"}`: "has another digest", "no JSON": "read the answer"}
	var answer string
	answerAll(t, url, "comfy.tenants.acme.file.put", func(msg *nats.Msg) {
		must(0, msg.RespondMsg(&nats.Msg{Header: nats.Header{"Comfy-Offset": {"3"}}, Data: []byte(answer)}))
	})
	acme := jetstream.NewClient(connect(t, url), "acme")
	for said, want := range answers {
		answer = said
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond) // the answer that is no JSON is asked for again
		_, err := acme.PutFile(ctx, "acme/a", "", strings.NewReader("abc"))
		if err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, jetstream.ErrDamaged) != (want == "has another digest") {
			t.Errorf("%s: %v", said, err)
		}
		cancel()
	}
}

func TestAJobByReferenceNamesItsFile(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	acme := jetstream.NewClient(connect(t, url), "acme")
	spec := jetstream.Spec{ID: "a", Workflow: []byte(workflow), Live: "frames", APIKeys: true, Metadata: []byte(`"m"`), Traceparent: "00-a", Name: "cat"}
	if _, err := acme.ByReference(t.Context(), spec); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("without a dispatcher: %v", err)
	}
	var name, kind string
	var body []byte
	answerAll(t, url, "comfy.tenants.acme.file.put", func(msg *nats.Msg) {
		name, kind, body = msg.Header.Get("Comfy-File"), msg.Header.Get("Content-Type"), msg.Data
		answer := must(json.Marshal(jetstream.File{Digest: msg.Header.Get("Comfy-File-Digest")}))
		must(0, msg.RespondMsg(&nats.Msg{Header: nats.Header{"Comfy-Offset": {strconv.Itoa(len(msg.Data))}}, Data: answer}))
	})
	got, err := acme.ByReference(t.Context(), spec)
	want := jetstream.Spec{ID: "a", WorkflowFile: "acme/prompts/a.json", Live: "frames", APIKeys: true, Metadata: []byte(`"m"`), Traceparent: "00-a"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v: %s", err, diff)
	}
	if name != "acme%2Fprompts%2Fa.json" || kind != "application/json" || !bytes.Equal(body, must(spec.Encode())) {
		t.Errorf("%s of type %s has %s", name, kind, body)
	}
	for _, id := range []jetstream.ID{"", "a.b"} {
		spec.ID = id
		if _, err := acme.ByReference(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "needs an id of your own") {
			t.Errorf("with the id %q: %v", id, err)
		}
	}
}

func TestACallOfAFileIsMadeAgainAsLongAsThatIsOfUse(t *testing.T) {
	t.Parallel()
	failed, stopping := error(&jetstream.Failed{Message: "no"}), error(&jetstream.Stopping{Message: "no"})
	for name, c := range map[string]struct {
		begins bool
		errs   []error // of the tries; then nil
		tries  int
		took   time.Duration
		want   error
	}{
		"AtOnce":          {tries: 1},
		"AfterAFailure":   {errs: []error{failed}, tries: 2, took: 100 * time.Millisecond},
		"EightFailures":   {errs: []error{failed, failed, failed, failed, failed, failed, failed, failed}, tries: 9, took: 16300 * time.Millisecond},
		"NineFailures":    {errs: []error{failed, failed, failed, failed, failed, failed, failed, failed, failed}, tries: 9, took: 16300 * time.Millisecond, want: failed},
		"Stopping":        {errs: []error{stopping, stopping, stopping}, tries: 4, took: 700 * time.Millisecond},
		"TooMany":         {errs: []error{&jetstream.TooMany{}}, tries: 2, took: 100 * time.Millisecond},
		"NobodyAtFirst":   {begins: true, errs: []error{nats.ErrNoResponders}, tries: 1, want: nats.ErrNoResponders},
		"NobodyLater":     {errs: []error{nats.ErrNoResponders}, tries: 2, took: 100 * time.Millisecond},
		"NobodyForLong":   {errs: slices.Repeat([]error{nats.ErrNoResponders}, 12), tries: 13, took: 36300 * time.Millisecond},
		"FailedAtFirst":   {begins: true, errs: []error{failed}, tries: 2, took: 100 * time.Millisecond},
		"BadRequest":      {errs: []error{&jetstream.BadRequest{}}, tries: 1, want: &jetstream.BadRequest{}},
		"NotFound":        {errs: []error{&jetstream.NotFound{}}, tries: 1, want: &jetstream.NotFound{}},
		"Conflict":        {errs: []error{&jetstream.Conflict{}}, tries: 1, want: &jetstream.Conflict{}},
		"TooBig":          {errs: []error{&jetstream.TooBig{}}, tries: 1, want: &jetstream.TooBig{}},
		"Damaged":         {errs: []error{fmt.Errorf("x: %w", jetstream.ErrDamaged)}, tries: 1, want: jetstream.ErrDamaged},
		"ClosedForGood":   {errs: []error{nats.ErrConnectionClosed}, tries: 1, want: nats.ErrConnectionClosed},
		"AWhileWithoutIt": {errs: []error{context.DeadlineExceeded}, tries: 2, took: 100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				begun, tries := time.Now(), 0
				err := jetstream.Retried(t.Context(), c.begins, func(ctx context.Context) error {
					if at, limited := ctx.Deadline(); !limited || time.Until(at) != 10*time.Second {
						t.Errorf("a try has %s", time.Until(at))
					}
					tries++
					if tries <= len(c.errs) {
						return c.errs[tries-1]
					}
					return nil
				})
				if took := time.Since(begun); tries != c.tries || took != c.took || (err == nil) != (c.want == nil) || err != nil && jetstream.Code(err) != jetstream.Code(c.want) {
					t.Errorf("%d tries in %s: %v", tries, took, err)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := jetstream.Retried(ctx, false, func(context.Context) error { return stopping })
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, stopping) {
			t.Errorf("when the time is over: %v", err)
		}
	})
}

func TestTheAnswerWithTheShortestTripSetsTheClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		there := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
		var c jetstream.AnswerClock
		if now := c.Now(); !now.Equal(time.Now()) {
			t.Errorf("before the first answer it is %s", now)
		}
		for _, step := range []struct {
			rest, trip time.Duration
			said       time.Duration // behind there
			want       time.Duration
		}{
			{0, 2 * time.Second, 0, time.Second}, // it was said in the middle of the trip
			{0, 4 * time.Second, time.Hour, 5 * time.Second},
			{0, 2 * time.Second, time.Hour, time.Hour + time.Second}, // as short as the first
			{0, time.Second, 2 * time.Hour, 2*time.Hour + 500*time.Millisecond},
			{57*time.Second + 500*time.Millisecond, 2 * time.Second, 3 * time.Hour, 2*time.Hour + 60*time.Second},
			{time.Second, 2 * time.Second, 4 * time.Hour, 4*time.Hour + time.Second}, // the best one is older than a minute
		} {
			pass(step.rest)
			asked := time.Now()
			pass(step.trip)
			c.Set(&nats.Msg{Header: nats.Header{"Comfy-Time": {there.Add(step.said).Format(time.RFC3339Nano)}}}, asked)
			if got := c.Now().Sub(there); got != step.want {
				t.Errorf("after an answer of %s it is %s later, want %s", step.trip, got, step.want)
			}
		}
	})
}

// pass lets the time of a bubble go by.
func pass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // in a bubble it waits until all else does
}
