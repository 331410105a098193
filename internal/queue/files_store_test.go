package queue_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// Files of many parts, of none, and of one name at a time after another: each is read as it was stored, by us and by
// whatever else reads NATS' object stores, and a file that is replaced leaves nothing behind.
func TestAFileOfManyPartsIsReadAsItWasStored(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), startNATS(t)
	q, js := openOn(t, url), must(natsjs.New(connect(t, url)))
	store := must(js.ObjectStore(ctx, names.OutputsStore))
	for _, size := range []int{3_000_001, 0, 1, 128 << 10} {
		body := bytes.Repeat([]byte("comfyherd"), size/9+1)[:size]
		sum := sha256.Sum256(body)
		f, err := q.StoreOutput(ctx, "acme/one/9/a b.png", "image/png", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if f.Size != int64(size) || f.Digest != "SHA-256="+base64.URLEncoding.EncodeToString(sum[:]) || f.ContentType != "image/png" {
			t.Errorf("%d bytes were stored as %+v", size, f)
		}
		opened, _, err := q.OpenOutput(ctx, "acme/one/9/a b.png")
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(opened)
		if err := errors.Join(err, opened.Close()); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%d bytes were read as %d, %v", size, len(got), err)
		}
		got, err = store.GetBytes(ctx, "acme/one/9/a b.png")
		if err != nil || !bytes.Equal(got, body) {
			t.Errorf("another program reads %d bytes as %d, %v", size, len(got), err)
		}
	}
	info := must(js.Stream(ctx, "OBJ_"+names.OutputsStore)).CachedInfo()
	if info.State.Msgs != 2 { // the last file's one part, and where it is
		t.Errorf("%d messages are left", info.State.Msgs)
	}
}

func TestAStoreThatIsMissingIsMadeAgain(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), startNATS(t)
	q, js := openOn(t, url), must(natsjs.New(connect(t, url)))
	for _, store := range []string{names.OutputsStore, names.InputsStore} {
		must(0, js.DeleteObjectStore(ctx, store))
	}
	must(q.StoreOutput(ctx, "a", "", strings.NewReader("out")))
	must(q.StoreInput(ctx, "a", "", strings.NewReader("in")))
	opened, _, err := q.OpenInput(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	if got := must(io.ReadAll(opened)); string(got) != "in" {
		t.Errorf("it holds %q", got)
	}
	must(0, opened.Close())
}

// A file that does not fit says which store is full, how much it may hold and what to do, and leaves none of its parts.
func TestAFullStoreSaysSo(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), startNATS(t)
	q, js := openOn(t, url), must(natsjs.New(connect(t, url)))
	cfg := must(js.Stream(ctx, "OBJ_"+names.OutputsStore)).CachedInfo().Config
	cfg.MaxBytes, cfg.Discard = 1_000_000, natsjs.DiscardNew
	must(js.UpdateStream(ctx, cfg))
	_, err := q.StoreOutput(ctx, "acme/one/9/big.mp4", "", bytes.NewReader(make([]byte, 4_000_000)))
	if !errors.Is(err, jetstream.ErrNoSpace) {
		t.Fatalf("it ended with %v", err)
	}
	for _, part := range []string{"acme/one/9/big.mp4", "COMFY_OUTPUTS is full", "1000000 bytes", "nats stream edit OBJ_COMFY_OUTPUTS --max-bytes"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is missing in: %v", part, err)
		}
	}
	if n := must(js.Stream(ctx, "OBJ_"+names.OutputsStore)).CachedInfo().State.Msgs; n != 0 {
		t.Errorf("%d parts are left", n)
	}
	must(q.StoreOutput(ctx, "small", "", strings.NewReader("fits")))
}

// A body that breaks off, in the middle of uploads that go on.
func TestABodyThatBreaksOffIsNoFile(t *testing.T) {
	t.Parallel()
	ctx, q := t.Context(), openOn(t, startNATS(t))
	var others sync.WaitGroup
	for n := range 8 {
		others.Go(func() {
			if _, err := q.StoreOutput(ctx, strings.Repeat("x", n+1), "", bytes.NewReader(make([]byte, 2_000_000))); err != nil {
				t.Error(err)
			}
		})
	}
	cut := errors.New("cut")
	_, err := q.StoreOutput(ctx, "cut", "", io.MultiReader(bytes.NewReader(make([]byte, 1_000_000)), broken{cut}))
	if !errors.Is(err, cut) {
		t.Errorf("it ended with %v", err)
	}
	others.Wait()
	if _, _, err := q.OpenOutput(ctx, "cut"); !errors.Is(err, queue.ErrNoFile) {
		t.Errorf("it can be opened: %v", err)
	}
}

type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }
