package dispatcher_test

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// footprint is the state of a fleet whose memory in a dispatcher is measured.
type footprint struct {
	hosts, installations, blocks, waiting, workflows int
}

// TestADispatcherKeepsAFleetInLittleMemory starts a dispatcher on one state of a fleet after the other, each with one kind
// of thing more. COMFYHERD_SCALE=1 measures the largest fleet that is aimed at.
func TestADispatcherKeepsAFleetInLittleMemory(t *testing.T) { //nolint:paralleltest // it measures the heap of the process
	whole := footprint{hosts: 500, installations: 2, blocks: 5000, waiting: 2000, workflows: 50}
	if os.Getenv("COMFYHERD_SCALE") != "" {
		whole = footprint{hosts: 10_000, installations: 50, blocks: 100_000, waiting: 100_000, workflows: 500}
	}
	f := footprint{workflows: whole.workflows}
	alone := heapOf(t, f)
	f.hosts, f.installations = whole.hosts, whole.installations
	hosts := heapOf(t, f)
	f.blocks = whole.blocks
	blocks := heapOf(t, f)
	all := heapOf(t, whole)
	t.Logf("%+v: %.1f MB", whole, float64(all)/1e6)
	for _, c := range []struct {
		what        string
		bytes, most int64
	}{
		{"a host, with its part of the capabilities", (hosts - alone) / int64(whole.hosts), 2500},
		{"a block, with the strikes behind it", (blocks - hosts) / int64(whole.blocks), 150},
		{"a waiting job, with its row in the lists", (all - blocks) / int64(whole.waiting), 600},
		{"all", all, 200e6},
	} {
		t.Logf("%s: %d bytes", c.what, c.bytes)
		if c.bytes > c.most {
			t.Errorf("%s takes %d bytes, at most %d are expected", c.what, c.bytes, c.most)
		}
	}
}

// heapOf is how many bytes of the heap a dispatcher has that has taken in the state of a fleet.
func heapOf(t *testing.T, f footprint) (bytes int64) {
	t.Helper()
	inBubble(t, func(s *scene) {
		f.store(t, s)
		before := liveHeap()
		s.dispatcher(dispatcher.Config{})
		synctest.Wait()
		bytes = liveHeap() - before
		runtime.KeepAlive(s.main)
	})
	return bytes
}

func liveHeap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// store writes the fleet's state into NATS.
func (f *footprint) store(t *testing.T, s *scene) {
	t.Helper()
	var installed [][]byte
	for i := range f.installations {
		installed = append(installed, installation(t, i))
	}
	hashes := make([]workflow.Hash, f.workflows)
	for i := range hashes {
		hashes[i] = hashOf(t, i)
	}
	for i := range f.hosts {
		s.set(names.CapabilitiesBucket, hostName(i), installed[i%len(installed)], -1)
		f.put(t, s, names.HostsBucket, hostName(i), &queue.HostState{
			Host: hostName(i), Instance: fmt.Sprintf("instance-%d", i), Serial: 1, State: queue.Online, Slots: 1, Time: s.Now(),
			Version: "0.3.60", Agent: "1.0.0", Device: "NVIDIA GeForce RTX 4090", URL: "http://127.0.0.1:8188", Memory: 24 << 30,
			Labels: []string{"gpu=4090", "zone=a"}, Recent: hashes[i%len(hashes):][:1],
			Running: []queue.RunningJob{{Tenant: "acme", Job: job.ID(fmt.Sprintf("running-%d", i)), Hash: hashes[i%len(hashes)], Attempt: 1, Since: s.Now()}},
		})
	}
	for i := range f.blocks {
		host, hash := hostName(i%f.hosts), hashes[(i/f.hosts+i)%len(hashes)]
		block := &route.Block{
			Host: route.HostID(host), Hash: hash, Kind: failure.ExecutionError, Job: route.JobID(jobName(i)), Tenant: "acme", Tenants: []route.Tenant{"acme"},
			Message:  "KSampler: RuntimeError: CUDA error: an illegal memory access was encountered",
			Failures: 2, Until: s.Now().Add(time.Hour),
		}
		f.put(t, s, names.BlocksBucket, host+"."+string(hash), block)
		f.put(t, s, names.StrikesBucket, host+"."+string(hash), &route.Strikes{Tenants: map[route.Tenant]int{"acme": 2}, Level: 1, Open: block, Marks: []uint64{uint64(i)}})
	}
	for i := range f.waiting {
		f.wait(t, s, i, hashes[i%len(hashes)])
	}
}

func (f *footprint) put(t *testing.T, s *scene, bucket, key string, value any) {
	t.Helper()
	body, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	s.set(bucket, key, body, -1)
}

// wait stores a job with its ticket and its first event.
func (f *footprint) wait(t *testing.T, s *scene, i int, hash workflow.Hash) {
	t.Helper()
	sequence := uint64(i + 1)
	body := fmt.Sprintf(`{"id":%q,"workflow":%s}`, jobName(i), graph(i%f.workflows))
	s.mu.Lock()
	s.last = sequence
	s.jobs[sequence] = &stored{
		message: job.Message{Tenant: "acme", Priority: job.Usual, Body: []byte(body), Sequence: sequence, Received: s.Now()}, until: s.Now().Add(time.Hour),
	}
	e := job.Event{EventKind: job.Queued, Job: job.ID(jobName(i)), Tenant: "acme", Priority: job.Usual, Hash: hash, Sequence: sequence, Time: s.Now(), Bytes: int64(len(body))}
	s.append(&e, 0, "")
	s.mu.Unlock()
	ticket := &queue.Ticket{
		Priority: job.Usual, Tenant: "acme", Hash: hash, Sequence: sequence, Job: job.ID(jobName(i)), Lease: leaseOf(int(sequence), 1),
		Attempt: 1, Received: s.Now(), Size: 64 * 64,
	}
	f.put(t, s, names.WaitingBucket, ticket.Key(), ticket)
}

func hostName(i int) string { return fmt.Sprintf("gpu-%05d", i) }

func jobName(i int) string { return fmt.Sprintf("0d1f8b7e-5c3a-4e8e-9d55-%012d", i) }

// installation is a marshalled capability of 5000 values, as a host with many nodes has.
func installation(t *testing.T, i int) []byte {
	t.Helper()
	var knows workflow.CapabilityBuilder
	knows.AddClass("SaveImage")
	for n := range 5000 {
		knows.AddClass(fmt.Sprintf("EmptyImage%d", n+i))
	}
	value, err := workflow.NewCapability(&knows).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return value
}
