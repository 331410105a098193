package queue_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// oddPlaces are offsets at and beside the ends of parts of 128 KiB.
func oddPlaces(size int) []int64 {
	places := []int64{0, 1, 777_777, int64(size) / 2, int64(size) - 1, int64(size)}
	for _, near := range []int64{128 << 10, 256 << 10, 17 * 128 << 10} {
		places = append(places, near-1, near, near+1)
	}
	return places
}

// Parts of many files lie among each other, as they were stored at the same time.
func TestAFileIsReadFromAnyOffset(t *testing.T) {
	t.Parallel()
	ctx, q := t.Context(), openOn(t, startNATS(t))
	body := noise(3<<20 + 5)
	var uploads sync.WaitGroup
	for n := range 4 {
		uploads.Go(func() {
			if _, err := q.StoreOutput(ctx, fmt.Sprint("acme/", n), "", bytes.NewReader(body[n:])); err != nil {
				t.Error(err)
			}
		})
	}
	uploads.Wait()
	for n := range 4 {
		want := body[n:]
		for _, at := range oddPlaces(len(want)) {
			if got := must(readFrom(t, q, fmt.Sprint("acme/", n), at)); !bytes.Equal(got, want[at:]) {
				t.Errorf("file %d from byte %d: %d other bytes, want %d", n, at, len(got), len(want)-int(at))
			}
		}
	}
	for _, at := range []int64{-1, int64(len(body)) + 1} {
		if _, _, err := q.OpenOutputAt(ctx, "acme/0", at); !isBad(err) {
			t.Errorf("from byte %d: %v", at, err)
		}
	}
}

func readFrom(tb testing.TB, q *queue.Queue, name string, at int64) ([]byte, error) {
	tb.Helper()
	from, _, err := q.OpenOutputAt(tb.Context(), name, at)
	if err != nil {
		return nil, err
	}
	got, err := io.ReadAll(from)
	return got, errors.Join(err, from.Close())
}

func isBad(err error) bool {
	_, bad := errors.AsType[*jetstream.BadRequest](err)
	return bad
}

// Other programs store parts of any size that do not say where they begin.
func TestAFileOfAnotherProgramIsReadFromAnyOffset(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), startNATS(t)
	q, js := openOn(t, url), must(natsjs.New(connect(t, url)))
	former := must(js.Stream(ctx, "OBJ_"+names.OutputsStore)).CachedInfo().Config
	former.AllowRollup = true // or other programs could store none
	must(js.UpdateStream(ctx, former))
	store := must(js.ObjectStore(ctx, names.OutputsStore))
	body := noise(3 << 20)
	for name, chunk := range map[string]uint32{"usual": 0, "small": 70_001} {
		meta := natsjs.ObjectMeta{Name: "acme/" + name, Opts: &natsjs.ObjectMetaOptions{ChunkSize: chunk}}
		must(store.Put(ctx, meta, bytes.NewReader(body)))
		for _, at := range oddPlaces(len(body)) {
			if got := must(readFrom(t, q, meta.Name, at)); !bytes.Equal(got, body[at:]) {
				t.Errorf("%s from byte %d: %d other bytes", name, at, len(got))
			}
		}
	}
}

// A program that may write descriptions of files cannot have the parts of another file read through them.
func TestADescriptionGivesNoPartsOfAnotherFile(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), startNATS(t)
	q, js := openOn(t, url), must(natsjs.New(connect(t, url)))
	must(q.StoreOutput(ctx, "acme/secret", "", bytes.NewReader(noise(300_000))))
	store := must(js.ObjectStore(ctx, names.OutputsStore))
	stolen := *must(store.GetInfo(ctx, "acme/secret"))
	own := stolen.NUID
	for _, id := range []string{own, ">", "*", ""} {
		for _, name := range []string{"bolt/mine", "acme/secret"} {
			stolen.Name, stolen.NUID = name, id
			describe(t, js, "bolt/mine", &stolen)
			for _, at := range []int64{0, 200_000} {
				if got, err := readFrom(t, q, "bolt/mine", at); len(got) > 0 || !errors.Is(err, jetstream.ErrDamaged) {
					t.Errorf("parts %q of %s: %d bytes, %v", id, name, len(got), err)
				}
			}
		}
		stolen.Name = "bolt/mine"
		describe(t, js, "bolt/mine", &stolen)
		must(q.StoreOutput(ctx, "bolt/mine", "", strings.NewReader("another"))) // which removes the parts of what was there
		if got, err := readFrom(t, q, "acme/secret", 0); len(got) != 300_000 || err != nil {
			t.Errorf("after a file with parts %q was replaced the other one has %d bytes: %v", id, len(got), err)
		}
	}
}

// A part with a wrong offset ends the reading as damage, and no bytes are read that the file does not have.
func TestPartsThatSayWhatCannotBeAreDamage(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), startNATS(t)
	q, js := openOn(t, url), must(natsjs.New(connect(t, url)))
	for n, offset := range []string{"-1", "5", "999999999999999999999", "9", "x", "300000"} {
		name := fmt.Sprint("acme/", n)
		info := natsjs.ObjectInfo{ObjectMeta: natsjs.ObjectMeta{Name: name}, Bucket: names.OutputsStore, NUID: fmt.Sprint("id", n), Size: 10, Chunks: 2}
		for _, at := range []string{"0", offset} {
			msg := &nats.Msg{Subject: "$O.COMFY_OUTPUTS.C." + info.NUID, Data: []byte("12345"), Header: nats.Header{"Comfy-Offset": {at}}}
			must(js.PublishMsg(ctx, msg))
		}
		describe(t, js, name, &info)
		got, err := readFrom(t, q, name, 7)
		if offset == "5" {
			if string(got) != "345" || err != nil {
				t.Errorf("as it should be: %q, %v", got, err)
			}
			continue
		}
		if len(got) > 0 || !errors.Is(err, jetstream.ErrDamaged) {
			t.Errorf("the second part at %s: %q, %v", offset, got, err)
		}
	}
}

// describe writes what a file of a name is.
func describe(tb testing.TB, js natsjs.JetStream, name string, info *natsjs.ObjectInfo) {
	tb.Helper()
	key := base64.URLEncoding.EncodeToString([]byte(name))
	msg := &nats.Msg{Subject: "$O.COMFY_OUTPUTS.M." + key, Data: must(json.Marshal(info))}
	must(js.PublishMsg(tb.Context(), msg))
}
