package queue_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

func TestRangesOfAFileAreServed(t *testing.T) {
	t.Parallel()
	ctx, q := t.Context(), openOn(t, startNATS(t))
	body := noise(300_000)
	for _, store := range []func() error{
		func() error { _, err := q.StoreOutput(ctx, "acme/a", "image/png", bytes.NewReader(body)); return err },
		func() error { _, err := q.StoreInput(ctx, "acme/b", "image/png", bytes.NewReader(body)); return err },
	} {
		if err := store(); err != nil {
			t.Fatal(err)
		}
	}
	for store, name := range map[string]string{names.OutputsStore: "acme/a", names.InputsStore: "acme/b"} {
		for asked, want := range map[string][]byte{
			"":                     body,
			"bytes=0-9":            body[:10],
			"bytes=131071-131073":  body[131071:131074],
			"bytes=-5":             body[len(body)-5:],
			"bytes=299999-":        body[299999:],
			"bytes=200000-200000":  body[200000:200001],
			"bytes=100000-9999999": body[100000:],
		} {
			file := must(q.SeekFile(ctx, store, name))
			w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil)
			if asked != "" {
				r.Header.Set("Range", asked)
			}
			http.ServeContent(w, r, "a.png", time.Time{}, file)
			if !bytes.Equal(w.Body.Bytes(), want) {
				t.Errorf("%s %s %q: %d bytes that differ, want %d", store, name, asked, w.Body.Len(), len(want))
			}
			if err := file.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestAFileThatIsReplacedIsNotReadOn(t *testing.T) {
	t.Parallel()
	ctx, q := t.Context(), openOn(t, startNATS(t))
	file := func(text string) {
		must(q.StoreOutput(ctx, "acme/a", "", strings.NewReader(text)))
	}
	file("the first")
	f := must(q.SeekFile(ctx, names.OutputsStore, "acme/a"))
	if at, err := f.Seek(-5, io.SeekEnd); at != 4 || err != nil {
		t.Errorf("at %d, %v", at, err)
	}
	if at, err := f.Seek(1, io.SeekCurrent); at != 5 || err != nil {
		t.Errorf("at %d, %v", at, err)
	}
	if _, err := f.Seek(-1, io.SeekStart); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("before the beginning: %v", err)
	}
	if rest := must(io.ReadAll(f)); string(rest) != "irst" {
		t.Errorf("read %q", rest)
	}
	file("the other") // of the same size
	must(f.Seek(0, io.SeekStart))
	if rest, err := io.ReadAll(f); !errors.Is(err, jetstream.ErrReplaced) {
		t.Errorf("read %q of a file that was replaced: %v", rest, err)
	}
	if _, err := q.SeekFile(ctx, names.OutputsStore, "acme/none"); !errors.Is(err, queue.ErrNoFile) {
		t.Errorf("no file: %v", err)
	}
}
