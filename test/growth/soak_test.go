package growth_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/bench"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

const (
	soakRate  = 150  // jobs a second
	soakHosts = 12   // few enough that each has had some hundred jobs within the first minute, and all that it keeps of them
	soakRows  = 5000 // jobs that lists know of: so many that the first minute has them all
	churnRate = 5    // blocks a second that are written and run out
)

// soakTime is SOAK_TIME, or what a test among others may take.
func soakTime(t *testing.T) time.Duration {
	t.Helper()
	if text := os.Getenv("SOAK_TIME"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("SOAK_TIME: %v", err)
		}
		return d
	}
	if testing.Short() {
		return 6 * time.Second
	}
	return 12 * time.Second
}

// TestSoakEndsAsItBegan runs a steady load: jobs of which some attempts fail, 1 000 jobs that wait all the time, blocks
// that come and run out. The live heap of two dispatchers, their agents and the publisher, after a collection each,
// must be at the median of the last minute within 5 % of what it was in the first; in a short run, whose minutes are
// seconds and hold a handful of samples of a machine that may be busy, it must not have doubled.
func TestSoakEndsAsItBegan(t *testing.T) { //nolint:paralleltest // it measures the heap of the process
	total := soakTime(t)
	minute, limit := time.Minute, 1.05
	if total < 3*time.Minute {
		minute, limit = total/3, 2
	}
	ctx, cancel := context.WithTimeout(t.Context(), total+5*time.Minute)
	defer cancel()
	url := startNATS(t)
	stop := churn(ctx, t, url)
	defer stop()
	var taken samples
	result, err := bench.Run(ctx, bench.Config{
		NATSURL: url, SkipRaw: true, Jobs: int(soakRate * total.Seconds()), Rate: soakRate, Hosts: soakHosts, HostTime: 50 * time.Millisecond,
		FailureRate: 0.005, Waiting: 1000, HistoryRows: soakRows, Progress: taken.take,
	})
	if err != nil {
		t.Fatal(err)
	}
	if result.Dead > 0 {
		t.Errorf("%d jobs are dead", result.Dead)
	}
	end := taken.at[len(taken.at)-1] // later than planned on a machine that is busy
	first, last := taken.between(0, minute), taken.between(end-minute, end+1)
	t.Logf("%d jobs in %s, %.0f µs of CPU each; dispatchers and agents: %s in the first %s, %s in the last; %s",
		result.Config.Jobs, total, result.CPUPerJob, first, minute, last, &taken)
	if len(first) == 0 || len(last) == 0 || last.median() > limit*first.median() {
		t.Errorf("the heap went from %s to %s, which is beyond %.0f %%", first, last, 100*(limit-1))
	}
}

// churn writes blocks that run out after some seconds until it is stopped; the pairs come back after a while.
func churn(ctx context.Context, t *testing.T, url string) (stop func()) {
	t.Helper()
	nc, err := nats.Connect(url, nats.Timeout(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	q, err := queue.Open(ctx, nc, queue.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	var writer sync.WaitGroup
	writer.Go(func() {
		tick := time.NewTicker(time.Second / churnRate)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if err := openBlock(ctx, q, i); err != nil && ctx.Err() == nil {
				t.Errorf("open a block: %v", err)
				return
			}
		}
	})
	return func() {
		cancel()
		writer.Wait()
		q.Close()
		nc.Close()
	}
}

func openBlock(ctx context.Context, q *queue.Queue, i int) error {
	const ttl = 4 * time.Second
	sum := sha256.Sum256([]byte(strconv.Itoa(i % 100)))
	b := route.Block{
		Host: route.HostID(fmt.Sprintf("bench-%04d", i%soakHosts)), Hash: workflow.Hash(hex.EncodeToString(sum[:])),
		Kind: failure.ExecutionError, Message: "blocked by the soak", Tenants: []route.Tenant{route.Everyone}, Failures: 1, Until: time.Now().Add(ttl),
	}
	value, err := json.Marshal(b)
	if err != nil {
		return err
	}
	_, err = q.OpenBlock(ctx, string(b.Host), b.Hash, value, ttl)
	return err
}

// samples are the live heap at times; only one goroutine takes them, and they are read when it has ended.
type samples struct {
	start time.Time
	at    []time.Duration
	heap  []uint64
}

const samplePause = 2 * time.Second

// take samples while measured jobs are under way; it is called some times a second. When all have ended, the
// benchmark makes its report and starts one more dispatcher, whose memory is none of the load's.
func (s *samples) take(p bench.Progress) {
	if p.Stage != "comfyherd" || p.Done == p.Total {
		return
	}
	if s.start.IsZero() {
		s.start = time.Now()
	}
	at := time.Since(s.start)
	if n := len(s.at); n > 0 && at-s.at[n-1] < min(samplePause, s.at[n-1]/4+200*time.Millisecond) {
		return
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s.at, s.heap = append(s.at, at), append(s.heap, m.HeapAlloc)
}

// span is the samples of a while, sorted.
type span []uint64

func (s span) median() float64 {
	if len(s) == 0 {
		return 0
	}
	return float64(s[len(s)/2])
}

func (s span) String() string { return fmt.Sprintf("%.2f MB", s.median()/1e6) }

func (s *samples) between(from, to time.Duration) (found span) {
	for i, at := range s.at {
		if at >= from && at < to {
			found = append(found, s.heap[i])
		}
	}
	slices.Sort(found)
	return found
}

// String tells the way, in ten steps.
func (s *samples) String() string {
	text := "on the way"
	end := s.at[len(s.at)-1]
	for i := range 10 {
		text += " " + s.between(end*time.Duration(i)/10, end*time.Duration(i+1)/10).String()
	}
	return text
}
