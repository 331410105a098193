package queue_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// noise is n bytes that compress badly and differ everywhere.
func noise(n int) []byte {
	b := make([]byte, n)
	source := rand.NewChaCha8([32]byte{7})
	_, _ = source.Read(b) // never fails
	return b
}

func TestAFileOfAnySizeIsReadWithoutAConsumer(t *testing.T) {
	t.Parallel()
	q := openOn(t, startNATS(t))
	const chunk = 128 << 10 // of nats.go
	for name, n := range map[string]int{"empty": 0, "small": 10, "batch": 16 * chunk, "more": 40*chunk + 1} {
		body := noise(n)
		stored, err := q.StoreOutput(t.Context(), "acme/"+name, "image/png", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		from, file, err := q.OpenOutput(t.Context(), "acme/"+name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(from)
		if err != nil || !bytes.Equal(got, body) {
			t.Errorf("%s: %d of %d bytes, %v", name, len(got), n, err)
		}
		if file != stored || file.Size != int64(n) || file.ContentType != "image/png" {
			t.Errorf("%s is %+v, stored was %+v", name, file, stored)
		}
		if err := from.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestAFileThatIsReadNoFurtherIsClosed(t *testing.T) {
	t.Parallel()
	q := openOn(t, startNATS(t))
	if _, err := q.StoreInput(t.Context(), "big", "", bytes.NewReader(noise(8<<20))); err != nil {
		t.Fatal(err)
	}
	from, _, err := q.OpenInput(t.Context(), "big")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(from, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if err := from.Close(); err != nil {
		t.Error(err)
	}
	if _, _, err := q.OpenInput(t.Context(), "none"); !errors.Is(err, queue.ErrNoFile) {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestAFileWithOtherBytesThanItsDigestIsDamaged(t *testing.T) {
	t.Parallel()
	url := startNATS(t)
	q := openOn(t, url)
	if _, err := q.StoreOutput(t.Context(), "acme/a", "", strings.NewReader("as it was")); err != nil {
		t.Fatal(err)
	}
	nc := connect(t, url)
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "OBJ_COMFY_OUTPUTS")
	if err != nil {
		t.Fatal(err)
	}
	chunk, err := stream.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), chunk.Subject, []byte("as it isn't")); err != nil {
		t.Fatal(err)
	}
	from, _, err := q.OpenOutput(t.Context(), "acme/a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(from); !errors.Is(err, jetstream.ErrDamaged) {
		t.Errorf("reading gives %v", err)
	}
	if err := from.Close(); err != nil {
		t.Error(err)
	}
}
