package growth_test

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// uploadVariable is how many MB each of eight files has; 600 is the proof, the default is quick.
const uploadVariable = "COMFYHERD_GROWTH_UPLOAD_MB"

// Eight large files at once arrive whole, and the process that stores them holds a bounded part of them.
func TestUploadsArriveInBoundedMemory(t *testing.T) {
	t.Parallel()
	const files, most = 8, 100 << 20
	size := int64(24)
	if text := os.Getenv(uploadVariable); text != "" {
		var err error
		if size, err = strconv.ParseInt(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	size <<= 20
	nc, err := nats.Connect(startNATS(t))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	q, err := queue.Open(t.Context(), nc, queue.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	idle := held()
	var peak memory
	var uploads sync.WaitGroup
	for n := range files {
		uploads.Go(func() {
			name := fmt.Sprintf("acme/job-%d/9/video.mp4", n)
			f, err := q.StoreOutput(t.Context(), name, "video/mp4", io.LimitReader(peak.watch(zeros{}), size))
			if err != nil || f.Size != size {
				t.Errorf("file %d was stored as %+v, %v", n, f, err)
			}
		})
	}
	uploads.Wait()
	t.Logf("%d files of %d MB: %d MB above idle", files, size>>20, (peak.most-min(idle, peak.most))>>20)
	if peak.most > idle+most {
		t.Errorf("%d MB of memory above idle", (peak.most-idle)>>20)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// memory looks at the process's memory while bodies are read.
type memory struct {
	mu    sync.Mutex // guards the two below
	reads int
	most  uint64
}

func (m *memory) watch(r io.Reader) io.Reader { return watched{m, r} }

type watched struct {
	m *memory
	r io.Reader
}

func (w watched) Read(p []byte) (int, error) {
	w.m.mu.Lock()
	if w.m.reads++; w.m.reads%64 == 1 {
		w.m.most = max(w.m.most, held())
	}
	w.m.mu.Unlock()
	return w.r.Read(p)
}

// held is what the process has from the operating system and has not given back.
func held() uint64 {
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.Sys - s.HeapReleased
}
