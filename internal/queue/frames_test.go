package queue_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// follow gives the frames of tenant acme.
func followFrames(t *testing.T, nc *nats.Conn, q *queue.Queue) <-chan queue.Frame {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	all, done := make(chan queue.Frame, 100), make(chan struct{})
	before := nc.NumSubscriptions()
	go func() {
		defer close(done)
		_ = q.FollowFrames(ctx, "acme", func(f queue.Frame) { all <- f })
	}()
	t.Cleanup(func() { stop(); <-done })
	for nc.NumSubscriptions() == before {
		must(0, nc.Flush())
	}
	must(0, nc.Flush())
	return all
}

// A picture of 1200 × 900 is larger than the messages of most servers.
func TestAFrameOfAnySizeArrivesWhole(t *testing.T) {
	t.Parallel()
	nc := connect(t, startNATS(t))
	q := open(t, nc, queue.Config{})
	frames := followFrames(t, nc, q)
	large := make([]byte, 5<<20+7)
	for i := range large {
		large[i] = byte(rand.Uint32())
	}
	want := []queue.Frame{
		{Job: "one", Attempt: 1, Number: 1, Data: []byte(`{"type":"executing"}`)},
		{Job: "one", Attempt: 1, Number: 2, Binary: true, Data: large},
		{Job: "two", Attempt: 3, Number: 9, Data: []byte{}},
	}
	for i := range want {
		must(0, q.PublishFrame("acme", &want[i]))
	}
	must(0, q.PublishFrame("bolt", &queue.Frame{Job: "one", Attempt: 1, Number: 1}))
	for i := range want {
		if got := <-frames; !bytes.Equal(got.Data, want[i].Data) || got.Number != want[i].Number || got.Binary != want[i].Binary || got.Job != want[i].Job || got.Attempt != want[i].Attempt {
			t.Errorf("frame %d of %s#%d with %d bytes, want %d of %s#%d with %d bytes", got.Number, got.Job, got.Attempt, len(got.Data), want[i].Number, want[i].Job, want[i].Attempt, len(want[i].Data))
		}
	}
	if err := q.PublishFrame("acme", &queue.Frame{Job: "one", Attempt: 1, Number: 1, Data: make([]byte, 64<<20+1)}); err == nil {
		t.Error("a frame of more than 64 MiB is sent")
	}
}

func TestAFrameOfWhichAPartIsMissingIsLeftOut(t *testing.T) {
	t.Parallel()
	nc := connect(t, startNATS(t))
	q := open(t, nc, queue.Config{})
	frames := followFrames(t, nc, q)
	for _, m := range []struct{ attempt, number, part, body string }{
		{"1", "1", "1/2", "a"}, {"1", "1", "2/2", "b"}, // whole
		{"1", "2", "1/3", "a"}, {"1", "2", "3/3", "c"}, // the second is missing
		{"1", "3", "1/2", "a"}, {"1", "4", "", "whole"}, // the second is missing
		{"1", "5", "2/2", "b"}, {"1", "6", "0/2", "x"}, {"1", "6", "3/2", "x"}, {"1", "6", "1/x", "x"}, {"x", "6", "", "x"}, {"1", "", "", "x"}, {"0", "6", "", "x"},
		{"1", "7", "", "last"},
	} {
		msg := nats.NewMsg("comfy.live.jobs.acme.one.frame")
		msg.Header = nats.Header{"Comfy-Attempt": {m.attempt}, "Comfy-Frame": {m.number}, "Comfy-Frame-Kind": {"text"}}
		if m.part != "" {
			msg.Header.Set("Comfy-Frame-Part", m.part)
		}
		msg.Data = []byte(m.body)
		must(0, nc.PublishMsg(msg))
	}
	var got []string
	for range 3 {
		f := <-frames
		got = append(got, strconv.FormatUint(f.Number, 10)+" "+string(f.Data))
	}
	if diff := cmp.Diff([]string{"1 ab", "4 whole", "7 last"}, got); diff != "" {
		t.Error(diff)
	}
}

// An agent that dies leaves parts of a frame that is never complete.
func TestFramesThatAreNeverCompleteMakeRoomForOthers(t *testing.T) {
	t.Parallel()
	j := queue.NewJoiner(100)
	part := func(id, part, body string) (queue.Frame, bool) {
		return j.Take(&nats.Msg{Subject: "comfy.live.jobs.acme." + id + ".frame", Data: []byte(body), Header: nats.Header{
			"Comfy-Attempt": {"1"}, "Comfy-Frame": {"1"}, "Comfy-Frame-Kind": {"text"}, "Comfy-Frame-Part": {part},
		}})
	}
	part("left", "1/2", strings.Repeat("x", 40))
	part("one", "1/3", strings.Repeat("a", 40))
	part("one", "2/3", strings.Repeat("b", 40))
	if f, whole := part("one", "3/3", "c"); !whole || string(f.Data) != strings.Repeat("a", 40)+strings.Repeat("b", 40)+"c" {
		t.Errorf("the frame is %q", f.Data)
	}
	if frames, size := j.Kept(); frames != 0 || size != 0 {
		t.Errorf("%d frames with %d bytes are kept", frames, size)
	}
	for i := range 3000 {
		part("j"+strconv.Itoa(i), "1/2", "")
	}
	if frames, _ := j.Kept(); frames != 1024 {
		t.Errorf("%d frames are kept, want 1024", frames)
	}
	if _, whole := part("j0", "2/2", ""); whole {
		t.Error("the oldest is kept")
	}
	if _, whole := part("j2999", "2/2", ""); !whole {
		t.Error("the newest was dropped")
	}
}

func TestAFileOfACatalogueIsStoredOnceAndReadBack(t *testing.T) {
	t.Parallel()
	nc := connect(t, startNATS(t))
	q := open(t, nc, queue.Config{})
	body := bytes.Repeat([]byte(`{"KSampler":{}}`), 50_000)
	digest := must(q.StoreCatalogBlob(t.Context(), body))
	if again := must(q.StoreCatalogBlob(t.Context(), body)); again != digest {
		t.Errorf("the digests are %s and %s", digest, again)
	}
	if got := must(q.CatalogBlob(t.Context(), digest)); !bytes.Equal(got, body) {
		t.Errorf("%d bytes are read, %d were stored", len(got), len(body))
	}
	descriptions := must(must(natsjs.New(nc)).Stream(t.Context(), "OBJ_COMFY_CATALOG")).CachedInfo().State.NumSubjects
	if descriptions != 2 { // of the parts and of the description
		t.Errorf("the store has %d subjects", descriptions)
	}
	if _, err := q.CatalogBlob(t.Context(), queue.CatalogDigest([]byte("other"))); !errors.Is(err, queue.ErrNoFile) {
		t.Errorf("a file that nobody has stored: %v", err)
	}
	named := queue.CatalogDigest([]byte("first"))
	sum := sha256.Sum256([]byte("other"))
	must(nc.Request(names.PartsSubject(names.CatalogStore, "parts"), []byte("other"), time.Minute))
	must(nc.Request(names.MetaSubject(names.CatalogStore, named), must(json.Marshal(natsjs.ObjectInfo{
		ObjectMeta: natsjs.ObjectMeta{Name: named}, Bucket: names.CatalogStore, NUID: "parts", Size: 5, Chunks: 1,
		Digest: "SHA-256=" + base64.URLEncoding.EncodeToString(sum[:]),
	})), time.Minute))
	if _, err := q.CatalogBlob(t.Context(), named); !errors.Is(err, jetstream.ErrDamaged) {
		t.Errorf("other bytes under the digest: %v", err)
	}
}
