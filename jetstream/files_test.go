package jetstream_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/jetstream"
)

func digestOf(body []byte) string {
	sum := sha256.Sum256(body)
	return "SHA-256=" + base64.URLEncoding.EncodeToString(sum[:])
}

// longFile has more than two pieces.
var longFile = bytes.Repeat([]byte("0123456789abcdef"), 80<<10)

// givesFile answers file.get with pieces of longFile; edit may change the header of an answer, of which n is the number.
func givesFile(t *testing.T, url string, edit func(n int64, offset int64, h nats.Header)) *jetstream.Client {
	t.Helper()
	var n atomic.Int64
	answerAll(t, url, "comfy.tenants.acme.file.get", func(msg *nats.Msg) {
		var r jetstream.FileRequest
		must(0, json.Unmarshal(msg.Data, &r))
		if r.Limit == 0 {
			r.Limit = jetstream.FileChunkSize
		}
		end := min(r.Offset+int64(r.Limit), int64(len(longFile)))
		answer := nats.NewMsg(msg.Reply)
		answer.Header = nats.Header{
			"Comfy-File-Size": {strconv.Itoa(len(longFile))}, "Comfy-File-Digest": {digestOf(longFile)}, "Comfy-Offset": {strconv.FormatInt(r.Offset, 10)},
			"Content-Type": {"text/plain"}, "Comfy-Cursor": {"behind " + strconv.FormatInt(end, 10)},
		}
		answer.Data = longFile[r.Offset:end]
		edit(n.Add(1), r.Offset, answer.Header)
		if other, err := strconv.Atoi(answer.Header.Get("Comfy-Offset")); err == nil {
			answer.Data = longFile[other:][:len(answer.Data)] // what it says
		}
		must(0, msg.RespondMsg(answer))
	})
	return jetstream.NewClient(connect(t, url), "acme")
}

func TestAFileIsReadInPiecesFromAnyOffset(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(n, offset int64, h nats.Header){
		"Usual":        func(int64, int64, nats.Header) {},
		"InOrder":      func(_, _ int64, h nats.Header) { h.Set("Comfy-In-Order", "true") },
		"OddAnswer":    func(n, _ int64, h nats.Header) { setOnce(n, h, "Comfy-Offset", "77") },
		"NoOffset":     func(n, _ int64, h nats.Header) { setOnce(n, h, "Comfy-Offset", "x") },
		"BehindTheEnd": func(n, _ int64, h nats.Header) { setOnce(n, h, "Comfy-File-Size", "9") },
		"NoSize":       func(n, _ int64, h nats.Header) { setOnce(n, h, "Comfy-File-Size", "") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			acme := givesFile(t, startNATS(t), edit)
			for _, offset := range []int64{0, 700_001} {
				r, file, err := acme.OpenFile(t.Context(), "acme/a", offset)
				if err != nil {
					t.Fatal(err)
				}
				if file.Size != int64(len(longFile)) || file.Digest != digestOf(longFile) || file.ContentType != "text/plain" || file.Name != "acme/a" {
					t.Errorf("the file is %+v", file)
				}
				body, err := io.ReadAll(r)
				if err != nil || !bytes.Equal(body, longFile[offset:]) {
					t.Errorf("from %d on %d bytes were read, %v", offset, len(body), err)
				}
				must(0, r.Close())
			}
		})
	}
}

// setOnce changes the header of the second answer, after which the same piece is asked for again.
func setOnce(n int64, h nats.Header, name, value string) {
	if n == 2 {
		h.Set(name, value)
	}
}

func TestAFileThatIsReplacedOrDamagedIsReadToNoEnd(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	var digest atomic.Pointer[string]
	acme := givesFile(t, url, func(_, offset int64, h nats.Header) {
		if d := digest.Load(); d != nil && (offset > 0 || strings.HasPrefix(*d, "all ")) {
			h.Set("Comfy-File-Digest", *d)
		}
	})
	read := func(d string) (int, error) {
		digest.Store(&d)
		r, _, err := acme.OpenFile(t.Context(), "acme/a", 0)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		body, err := io.ReadAll(r)
		return len(body), err
	}
	n, err := read("of another file")
	if _, conflict := errors.AsType[*jetstream.Conflict](err); !conflict || n != jetstream.FileChunkSize {
		t.Errorf("of a file that was replaced %d bytes were read, %v", n, err)
	}
	if n, err := read("all of them say so"); !errors.Is(err, jetstream.ErrDamaged) || n != len(longFile) {
		t.Errorf("of a file with another digest %d bytes were read, %v", n, err)
	}
}

func TestAFileOfARefusalOrWithoutDispatcherIsAnErrorAtOnce(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	nc := connect(t, url)
	acme := jetstream.NewClient(nc, "acme")
	if r, _, err := acme.OpenFile(t.Context(), "acme/a", 0); !errors.Is(err, nats.ErrNoResponders) || r != nil {
		t.Errorf("read without a dispatcher: %v", err)
	}
	if f, err := acme.PutFile(t.Context(), "acme/a", "", strings.NewReader("x")); !errors.Is(err, nats.ErrNoResponders) || f.Name != "" {
		t.Errorf("put without a dispatcher: %v", err)
	}
	for _, call := range []string{"file.get", "file.put", "file.stat"} {
		answerAll(t, url, "comfy.tenants.acme."+call, func(msg *nats.Msg) {
			refusal := nats.NewMsg(msg.Reply)
			refusal.Header = nats.Header{"Nats-Service-Error": {"no such file"}, "Nats-Service-Error-Code": {"404"}}
			must(0, msg.RespondMsg(refusal))
		})
	}
	_, _, getErr := acme.OpenInput(t.Context(), "acme/a", 0)
	_, putErr := acme.PutFile(t.Context(), "acme/a", "", strings.NewReader("x"))
	_, statErr := acme.StatInput(t.Context(), "acme/a")
	for name, err := range map[string]error{"get": getErr, "put": putErr, "stat": statErr} {
		if _, is := errors.AsType[*jetstream.NotFound](err); !is {
			t.Errorf("%s of a file that is not there: %v", name, err)
		}
	}
	broken := errors.New("the disk is gone")
	if _, err := acme.PutFile(t.Context(), "acme/a", "", io.MultiReader(failing{broken})); !errors.Is(err, broken) {
		t.Errorf("of a source that cannot be read: %v", err)
	}
	nc.Close()
	if _, err := acme.PutFile(t.Context(), "acme/a", "", strings.NewReader("x")); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("on a closed connection: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestAFileIsPutInPiecesAndItsDigestCompared(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		stored string // the digest that the answer has; empty: the right one
		odd    string // the offset of the second answer; empty: the right one
		want   error
	}{
		"Usual":   {"", "", nil},
		"Odd":     {"", "7", nil}, // asked for again
		"Damaged": {"SHA-256=x", "", jetstream.ErrDamaged},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := startNATS(t)
			var got bytes.Buffer
			answers := 0
			answerAll(t, url, "comfy.tenants.acme.file.put", func(msg *nats.Msg) {
				h := msg.Header
				offset := must(strconv.Atoi(h.Get("Comfy-Offset")))
				got.Truncate(offset)
				got.Write(msg.Data)
				answers++
				answer := nats.NewMsg(msg.Reply)
				end := strconv.Itoa(got.Len())
				if answers == 2 && tc.odd != "" {
					end = tc.odd
				}
				answer.Header = nats.Header{"Comfy-Offset": {end}, "Comfy-Cursor": {"at " + end}}
				if offset > 0 && h.Get("Comfy-Cursor") != "at "+strconv.Itoa(offset) || h.Get("Comfy-File") != "acme%2Fa%20b" ||
					h.Get("Comfy-File-Size") != strconv.Itoa(len(longFile)) || h.Get("Comfy-Upload") == "" {
					t.Errorf("the header of a piece is %v", h)
				}
				if h.Get("Comfy-Last") == "true" {
					stored := jetstream.File{Name: "acme/a b", Size: int64(got.Len()), Digest: h.Get("Comfy-File-Digest"), ContentType: h.Get("Content-Type")}
					if tc.stored != "" {
						stored.Digest = tc.stored
					}
					answer.Data = must(json.Marshal(stored))
				}
				must(0, msg.RespondMsg(answer))
			})
			acme := jetstream.NewClient(connect(t, url), "acme")
			f, err := acme.PutFile(t.Context(), "acme/a b", "text/plain", bytes.NewReader(longFile))
			if !errors.Is(err, tc.want) || tc.want == nil && (err != nil || f.Digest != digestOf(longFile) || f.ContentType != "text/plain") {
				t.Errorf("stored as %+v, %v", f, err)
			}
			if !bytes.Equal(got.Bytes(), longFile) {
				t.Errorf("%d bytes came", got.Len())
			}
		})
	}
}

func TestTheCodeOfAnErrorComesBackAsTheSameError(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	acme := jetstream.NewClient(connect(t, url), "acme")
	var code atomic.Pointer[string]
	answerAll(t, url, "comfy.tenants.acme.requeue", func(msg *nats.Msg) {
		refusal := nats.NewMsg(msg.Reply)
		refusal.Header = nats.Header{"Nats-Service-Error": {"why"}, "Nats-Service-Error-Code": {*code.Load()}}
		must(0, msg.RespondMsg(refusal))
	})
	for sent, want := range map[string]string{"400": "400", "404": "404", "409": "409", "413": "413", "429": "429", "500": "500", "418": "500"} {
		code.Store(&sent)
		_, err := acme.Requeue(t.Context(), jetstream.RequeueRequest{Job: "a"})
		if err == nil || jetstream.Code(err) != want || err.Error() != "why" || jetstream.Refused(err) != (want != "500") {
			t.Errorf("code %s came as %s: %v", sent, jetstream.Code(err), err)
		}
	}
	if err := (&jetstream.Stopping{Message: "why"}); jetstream.Code(err) != "503" || err.Error() != "why" {
		t.Errorf("of a dispatcher that stops: %s", jetstream.Code(err))
	}
}

func TestTheSequenceAtATimeIsFoundByHalves(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	acme := jetstream.NewClient(connect(t, url), "acme")
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	events := []uint64{3, 9, 10, 40, 41, 99} // one a minute; the others are other tenants'
	at := func(i int) time.Time { return noon.Add(time.Duration(i) * time.Minute) }
	var none atomic.Bool
	answerAll(t, url, "comfy.tenants.acme.jobs", func(msg *nats.Msg) {
		var a jetstream.JobsAnswer
		if !none.Load() {
			a.Jobs = []jetstream.JobRow{{Job: "a", Tenant: "acme", Last: jetstream.Mark{Sequence: 99, Time: at(5)}}}
		}
		must(0, msg.Respond(must(json.Marshal(a))))
	})
	answerAll(t, url, "comfy.tenants.acme.events", func(msg *nats.Msg) {
		var r jetstream.EventsRequest
		must(0, json.Unmarshal(msg.Data, &r))
		var a jetstream.EventsAnswer
		for i, sequence := range events {
			if sequence > r.After && len(a.Events) == 0 {
				a.Events = []jetstream.EventNote{{Sequence: sequence, Time: at(i)}}
			}
		}
		must(0, msg.Respond(must(json.Marshal(a))))
	})
	for since, want := range map[time.Time][2]uint64{ // the bounds of what is right
		at(0): {0, 2}, at(1): {3, 8}, at(2): {9, 9}, at(3): {10, 39}, at(4).Add(-time.Second): {40, 40}, at(5): {41, 98}, at(6): {99, 99},
	} {
		got, err := acme.SequenceAt(t.Context(), since)
		if err != nil || got < want[0] || got > want[1] {
			t.Errorf("at %s it is %d, %v; want %d to %d", since.Format(time.TimeOnly), got, err, want[0], want[1])
		}
	}
	none.Store(true)
	if got, err := acme.SequenceAt(t.Context(), noon); got != 0 || err != nil {
		t.Errorf("of a tenant without jobs it is %d, %v", got, err)
	}
}
