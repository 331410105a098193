package growth_test

import (
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// A tenant puts a large file and gets it back through a dispatcher, and both of them, which are this process, hold a small
// part of it at any time. COMFYHERD_GROWTH_UPLOAD_MB=600 is the proof.
func TestAFileGoesThroughADispatcherInBoundedMemory(t *testing.T) { //nolint:paralleltest // it measures the heap of the process
	const most = 32 << 20
	size := int64(64)
	if text := os.Getenv(uploadVariable); text != "" {
		var err error
		if size, err = strconv.ParseInt(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	size <<= 20
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	url := startNATS(t)
	defer dispatching(ctx, t, url)()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	c := jetstream.NewClient(nc, "acme")
	for err = nats.ErrNoResponders; errors.Is(err, nats.ErrNoResponders) && ctx.Err() == nil; {
		_, err = c.StatInput(ctx, "acme/large")
	}
	live := &liveHeap{every: 8 << 20}
	live.look()
	idle := live.most
	begun := time.Now()
	put, err := c.PutFile(ctx, "acme/large", "video/mp4", io.TeeReader(io.LimitReader(zeros{}, size), live))
	if err != nil || put.Size != size {
		t.Fatalf("it was put as %+v, %v", put, err)
	}
	between := time.Now()
	from, got, err := c.OpenInput(ctx, "acme/large", 0)
	if err != nil || got != put {
		t.Fatalf("it is %+v, %v", got, err)
	}
	n, err := io.Copy(live, from)
	if err := errors.Join(err, from.Close()); err != nil || n != size {
		t.Errorf("%d of %d bytes came back: %v", n, size, err)
	}
	mb := float64(size) / 1e6
	t.Logf("put %.0f MB/s, get %.0f MB/s, at most %.1f MB of live heap above idle", mb/between.Sub(begun).Seconds(), mb/time.Since(between).Seconds(), float64(live.most-idle)/1e6)
	if live.most > idle+most {
		t.Errorf("%d MB of live heap above idle", (live.most-idle)>>20)
	}
}

// dispatching runs a dispatcher until it is told to stop.
func dispatching(ctx context.Context, t *testing.T, url string) (stop func()) {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	q, err := queue.Open(ctx, nc, queue.Config{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := dispatcher.New(q, dispatcher.Config{})
	if err != nil {
		t.Fatal(err)
	}
	run, end := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		if err := d.Run(run, ctx); err != nil {
			t.Errorf("the dispatcher has ended: %v", err)
		}
	})
	return func() {
		end()
		running.Wait()
		q.Close()
		nc.Close()
	}
}

// liveHeap looks at what the process holds when that many bytes have been written to it, again and again.
type liveHeap struct {
	every, left int
	most        uint64
}

func (l *liveHeap) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left <= 0 {
		l.left = l.every
		l.look()
	}
	return len(p), nil
}

func (l *liveHeap) look() {
	var s runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&s)
	l.most = max(l.most, s.HeapAlloc)
}
