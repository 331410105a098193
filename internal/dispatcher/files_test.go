package dispatcher_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/embedded"
	"github.com/comfyherd/comfyherd/jetstream"
)

// filesOn starts NATS.
func filesOn(t *testing.T) (url string) {
	t.Helper()
	server, err := embedded.Start(embedded.Config{Port: -1, StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server.URL()
}

func connectTo(t *testing.T, url string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, nats.Timeout(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func openQueue(t *testing.T, url string) *jetstream.Queue {
	t.Helper()
	q, err := jetstream.Open(t.Context(), connectTo(t, url), jetstream.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Close)
	return q
}

// serveFiles answers calls on files as a dispatcher of its own does, until stop.
func serveFiles(t *testing.T, url string) (stop func()) {
	t.Helper()
	q := openQueue(t, url)
	ctx, cancel := context.WithCancel(context.Background())
	var over sync.WaitGroup
	over.Go(func() {
		api := jetstream.API{Version: "1.0.0", TenantCalls: dispatcher.FileCalls(q, 1<<30)}
		if err := q.ServeAPI(ctx, api); !errors.Is(err, context.Canceled) {
			t.Errorf("the service ended: %v", err)
		}
	})
	stop = func() { cancel(); over.Wait() }
	t.Cleanup(stop)
	return stop
}

// clientOf is a tenant's client, when somebody answers.
func clientOf(t *testing.T, url string) *jetstream.Client {
	t.Helper()
	c := jetstream.NewClient(connectTo(t, url), "acme")
	for {
		_, err := c.StatFile(t.Context(), "acme/none")
		if _, missing := errors.AsType[*jetstream.NotFound](err); missing {
			return c
		}
		if t.Context().Err() != nil || !errors.Is(err, nats.ErrNoResponders) {
			t.Fatalf("nobody answers: %v", err)
		}
	}
}

// noise differs everywhere.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{9}).Read(b) // never fails
	return b
}

func digestOf(body []byte) string {
	sum := sha256.Sum256(body)
	return "SHA-256=" + base64.URLEncoding.EncodeToString(sum[:])
}

// at calls do once, when a number of bytes has been read.
type at struct {
	io.Reader
	left int
	do   func()
}

func (a *at) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	if a.left -= n; a.left <= 0 && a.do != nil {
		a.do()
		a.do = nil
	}
	return n, err
}

// One dispatcher stops and another begins in the middle of both.
func TestAFileIsPutAndReadWhileDispatchersComeAndGo(t *testing.T) {
	t.Parallel()
	url, body := filesOn(t), noise(9<<20+7)
	stopFirst := serveFiles(t, url)
	c := clientOf(t, url)
	var stopSecond func()
	put, err := c.PutFile(t.Context(), "acme/in/ä b.bin", "application/x-test", &at{bytes.NewReader(body), 4 << 20, func() {
		stopSecond = serveFiles(t, url)
		stopFirst()
	}})
	want := jetstream.File{Name: "acme/in/ä b.bin", Size: int64(len(body)), Digest: digestOf(body), ContentType: "application/x-test"}
	if err != nil || put != want {
		t.Fatalf("it was put as %+v, %v", put, err)
	}
	if found, err := c.StatInput(t.Context(), put.Name); err != nil || found != want {
		t.Errorf("it is %+v, %v", found, err)
	}
	from, opened, err := c.OpenInput(t.Context(), put.Name, 0)
	if err != nil || opened != want {
		t.Fatalf("it was opened as %+v, %v", opened, err)
	}
	got, err := io.ReadAll(&at{from, 2 << 20, func() {
		stopSecond()
		serveFiles(t, url)
	}})
	if err := errors.Join(err, from.Close()); err != nil || !bytes.Equal(got, body) {
		t.Fatalf("%d bytes of %d, %v", len(got), len(body), err)
	}
	for _, offset := range []int64{1, 512<<10 - 1, 512 << 10, 512<<10 + 1, 3_333_333, int64(len(body)) - 1, int64(len(body))} {
		from, _, err := c.OpenInput(t.Context(), put.Name, offset)
		if err != nil {
			t.Fatalf("from byte %d: %v", offset, err)
		}
		if got, err := io.ReadAll(from); errors.Join(err, from.Close()) != nil || !bytes.Equal(got, body[offset:]) {
			t.Errorf("from byte %d: %d bytes, %v", offset, len(got), err)
		}
	}
}

func TestFilesOfSmallSizesAndOfJobsAreRead(t *testing.T) {
	t.Parallel()
	url, ctx := filesOn(t), t.Context()
	q := openQueue(t, url)
	serveFiles(t, url)
	c := clientOf(t, url)
	for _, size := range []int{0, 1, 512 << 10, 1 << 20} { // the last two end with a piece without bytes
		body := noise(size)
		name := fmt.Sprintf("acme/in/%d", size)
		file, err := c.PutFile(ctx, name, "", io.MultiReader(bytes.NewReader(body))) // nobody knows its size
		if err != nil || file.Digest != digestOf(body) || file.Size != int64(size) {
			t.Errorf("%d bytes were put as %+v, %v", size, file, err)
		}
		from, _, err := q.OpenInput(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(from); errors.Join(err, from.Close()) != nil || !bytes.Equal(got, body) {
			t.Errorf("an agent reads %d of %d bytes, %v", len(got), size, err)
		}
	}
	body := noise(2_000_000)
	stored, err := q.StoreOutput(ctx, "acme/one/9/a\x01\nb.png", "image/png", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	from, file, err := c.OpenFile(ctx, stored.Name, 0)
	if err != nil || file != stored {
		t.Fatalf("a job's file is %+v, %v", file, err)
	}
	if got, err := io.ReadAll(from); errors.Join(err, from.Close()) != nil || !bytes.Equal(got, body) {
		t.Errorf("%d bytes of a job's file, %v", len(got), err)
	}
	broken := errors.New("cut")
	if _, err := c.PutFile(ctx, "acme/in/cut", "", io.MultiReader(bytes.NewReader(body), failing{broken})); !errors.Is(err, broken) {
		t.Errorf("a body that breaks off: %v", err)
	}
	if _, err := c.StatInput(ctx, "acme/in/cut"); !isA[*jetstream.NotFound](err) {
		t.Errorf("it is a file: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func isA[E error](err error) bool {
	_, is := errors.AsType[E](err)
	return is
}

// What was read before is of the old file, and nothing is of the new one.
func TestAFileThatIsReplacedIsReadNoFurther(t *testing.T) {
	t.Parallel()
	url, ctx := filesOn(t), t.Context()
	q := openQueue(t, url)
	serveFiles(t, url)
	c := clientOf(t, url)
	old, late := noise(8<<20), bytes.Repeat([]byte("x"), 8<<20)
	if _, err := q.StoreOutput(ctx, "acme/a", "", bytes.NewReader(old)); err != nil {
		t.Fatal(err)
	}
	from, _, err := c.OpenFile(ctx, "acme/a", 0)
	if err != nil {
		t.Fatal(err)
	}
	own, _, err := q.OpenOutput(ctx, "acme/a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(own, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 1<<20)
	if _, err := io.ReadFull(from, got); err != nil {
		t.Fatal(err)
	}
	if _, err := q.StoreOutput(ctx, "acme/a", "", bytes.NewReader(late)); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(from)
	if got = append(got, rest...); !isA[*jetstream.Conflict](err) || !bytes.HasPrefix(old, got) || len(got) == len(old) {
		t.Errorf("a client reads %d bytes and %v", len(got), err)
	}
	rest, err = io.ReadAll(own)
	if !errors.Is(err, jetstream.ErrReplaced) || !bytes.HasPrefix(old[1:], rest) {
		t.Errorf("an agent reads %d bytes and %v", len(rest), err)
	}
	if err := errors.Join(from.Close(), own.Close()); err != nil {
		t.Error(err)
	}
	if _, _, err := c.OpenFile(ctx, "acme/none", 0); !isA[*jetstream.NotFound](err) || !strings.Contains(err.Error(), "acme/none") {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, _, err := c.OpenFile(ctx, "acme/a", 8<<20+1); !isA[*jetstream.BadRequest](err) {
		t.Errorf("from behind the end: %v", err)
	}
}
