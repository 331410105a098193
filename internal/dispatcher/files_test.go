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
	"github.com/comfyherd/comfyherd/internal/natsserver"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// filesOn starts NATS.
func filesOn(tb testing.TB) (url string) {
	tb.Helper()
	server, err := natsserver.Start(natsserver.Config{Port: -1, StoreDir: tb.TempDir()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := server.Close(); err != nil {
			tb.Error(err)
		}
	})
	return server.URL()
}

func connectTo(tb testing.TB, url string) *nats.Conn {
	tb.Helper()
	nc, err := nats.Connect(url, nats.Timeout(time.Minute))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(nc.Close)
	return nc
}

func openQueue(tb testing.TB, url string) *queue.Queue {
	tb.Helper()
	q, err := queue.Open(tb.Context(), connectTo(tb, url), queue.Config{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(q.Close)
	return q
}

// serveFiles answers calls on files as a dispatcher of its own does, until stop.
func serveFiles(tb testing.TB, url string) (stop func()) {
	tb.Helper()
	start, stop := filesServer(tb, url)
	start()
	return stop
}

// filesServer is a dispatcher that answers calls on files once it is started.
func filesServer(tb testing.TB, url string) (start, stop func()) {
	tb.Helper()
	q := openQueue(tb, url)
	ctx, cancel := context.WithCancel(context.Background())
	var over sync.WaitGroup
	start = func() {
		over.Go(func() {
			api := queue.API{Version: "1.0.0", TenantCalls: dispatcher.FileCalls(q, 1<<30)}
			if err := q.ServeAPI(ctx, api); !errors.Is(err, context.Canceled) {
				tb.Errorf("the service ended: %v", err)
			}
		})
	}
	stop = func() { cancel(); over.Wait() }
	tb.Cleanup(stop)
	return start, stop
}

// clientOf gives a tenant's client, once a dispatcher answers.
func clientOf(tb testing.TB, url string) *jetstream.Client {
	tb.Helper()
	c := jetstream.NewClient(connectTo(tb, url), "acme")
	for {
		_, err := c.StatFile(tb.Context(), "acme/none")
		if _, missing := errors.AsType[*jetstream.NotFound](err); missing {
			return c
		}
		if tb.Context().Err() != nil || !errors.Is(err, nats.ErrNoResponders) {
			tb.Fatalf("nobody answers: %v", err)
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

// One dispatcher stops in the middle of both, for a while none answers, and another begins.
func TestAFileIsPutAndReadWhileDispatchersComeAndGo(t *testing.T) {
	t.Parallel()
	url, body := filesOn(t), noise(9<<20+7)
	stopFirst := serveFiles(t, url)
	c := clientOf(t, url)
	startSecond, stopSecond := filesServer(t, url)
	startThird, _ := filesServer(t, url)
	var changes sync.WaitGroup
	defer changes.Wait()
	change := func(stop, start func()) func() {
		return func() {
			stop()
			changes.Go(func() {
				for err := error(nil); !errors.Is(err, nats.ErrNoResponders) && t.Context().Err() == nil; {
					_, err = c.StatInput(t.Context(), "acme/none")
				}
				start()
			})
		}
	}
	put, err := c.PutFile(t.Context(), "acme/in/ä b.bin", "application/x-test", &at{bytes.NewReader(body), 4 << 20, change(stopFirst, startSecond)})
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
	got, err := io.ReadAll(&at{from, 2 << 20, change(stopSecond, startThird)})
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
		file, err := c.PutFile(ctx, name, "", io.MultiReader(bytes.NewReader(body))) // its size is not known
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
	if _, err := io.ReadFull(from, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if _, err := q.StoreOutput(ctx, "acme/a", "", bytes.NewReader(late)); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(from)
	if !isA[*jetstream.Conflict](err) || !bytes.HasPrefix(old[1<<20:], rest) || len(rest) == 7<<20 {
		t.Errorf("a client reads %d bytes more and %v", len(rest), err)
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
