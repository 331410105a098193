package bench

import (
	"context"
	"fmt"
	"runtime"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// Result is what `dispatcher bench --json` prints.
type Result struct {
	Config Settings `json:"config"`

	JobsPerSecond     float64 `json:"jobs_per_second"` // first publish to last stored completion, or end as dead
	BareJobsPerSecond float64 `json:"bare_jobs_per_second"`
	Ratio             float64 `json:"ratio_to_bare_limit"`
	// With simulated ComfyUI: what the hosts do when their own backlogs are filled directly.
	DirectJobsPerSecond float64   `json:"direct_jobs_per_second,omitempty"`
	RatioToDirect       float64   `json:"ratio_to_direct,omitempty"`
	DirectIdleGap       Spread    `json:"direct_idle_gap,omitzero"`
	EnqueuePerSecond    float64   `json:"enqueue_per_second"`
	PublishToStarted    Spread    `json:"publish_to_started"`
	PublishToEnd        Spread    `json:"publish_to_completed"`         // without dead ones
	StartedWhenIdle     Spread    `json:"publish_to_started_when_idle"` // of jobs that come one by one after the others
	IdleGap             Spread    `json:"idle_gap"`                     // between two jobs on one host
	CPUPerJob           float64   `json:"cpu_us_per_job"`
	AllocsPerJob        float64   `json:"allocs_per_job"`
	AllocatedPerJob     float64   `json:"allocated_bytes_per_job"`
	HeapBytes           uint64    `json:"heap_bytes"`           // live, of everything in this process, at the end
	DispatcherBytes     int64     `json:"dispatcher_bytes"`     // heap of one dispatcher more, started at the end
	StoredPerJob        float64   `json:"stored_bytes_per_job"` // events, as the stream counts them
	DiskPerJob          float64   `json:"disk_bytes_per_job"`   // files of the embedded NATS at the end, of jobs and events; 0 of another
	Parked              int       `json:"parked"`
	OffersAccepted      int       `json:"offers_accepted"`
	OffersRefused       int       `json:"offers_refused"`
	ClaimsWon           int       `json:"claims_won"` // of tickets
	ClaimsLost          int       `json:"claims_lost"`
	LostPerWon          float64   `json:"claims_lost_per_won"`
	Dead                int       `json:"dead"`
	Bare                RawResult `json:"bare"`
	Ratios              Ratios    `json:"ratios_to_bare"`
}

// Ratios are comfyherd's numbers as multiples of the bare ones of the same run; 0 when those were not measured.
type Ratios struct {
	JobsPerSecond    float64 `json:"jobs_per_second"`
	EnqueuePerSecond float64 `json:"enqueue_per_second"`
	StartedP50       float64 `json:"publish_to_started_p50"` // to a bare publish_to_deliver
	StartedP99       float64 `json:"publish_to_started_p99"`
	WhenIdleP50      float64 `json:"publish_to_started_when_idle_p50"` // to four round trips
	WhenIdleP99      float64 `json:"publish_to_started_when_idle_p99"`
	CompletedP50     float64 `json:"publish_to_completed_p50"`
	CompletedP99     float64 `json:"publish_to_completed_p99"`
	CPUPerJob        float64 `json:"cpu_us_per_job"`
	AllocsPerJob     float64 `json:"allocs_per_job"`
	AllocatedPerJob  float64 `json:"allocated_bytes_per_job"`
	HeapBytes        float64 `json:"heap_bytes"`
	StoredPerJob     float64 `json:"stored_bytes_per_job"`
	DiskPerJob       float64 `json:"disk_bytes_per_job"`
}

// Settings are the settings of the measurement.
type Settings struct {
	Jobs        int     `json:"jobs"`
	Payload     int     `json:"payload_bytes"`
	Hosts       int     `json:"hosts"`
	Agents      int     `json:"agents"`
	Slots       int     `json:"slots"`
	Tenants     int     `json:"tenants"`
	Hashes      int     `json:"hashes"`
	Dispatchers int     `json:"dispatchers"`
	FailureRate float64 `json:"failure_rate"`
	Scheduled   float64 `json:"scheduled"`
	Rate        float64 `json:"arrival_per_second"` // 0 = a burst
	HostTime    string  `json:"host_time"`
	Waiting     int     `json:"waiting"` // all the time
	Blocks      int     `json:"blocks"`  // all the time
	Comfy       bool    `json:"comfy"`
	Sync        string  `json:"sync"`
	Compression bool    `json:"compression"`
	Replicas    int     `json:"replicas"`
	Closed      bool    `json:"closed"`
	CPUs        int     `json:"cpus"`
	Go          string  `json:"go"`
}

func settings(cfg *Config) Settings {
	sync := "default"
	switch {
	case cfg.SyncAlways:
		sync = "always"
	case cfg.SyncEvery > 0:
		sync = cfg.SyncEvery.String()
	}
	return Settings{
		Jobs: cfg.Jobs, Payload: cfg.Payload, Hosts: cfg.Hosts, Agents: cfg.Agents, Slots: cfg.Slots, Tenants: cfg.Tenants, Hashes: cfg.Hashes,
		Dispatchers: cfg.Dispatchers, FailureRate: cfg.FailureRate, Scheduled: cfg.Scheduled, Rate: cfg.Rate, HostTime: cfg.HostTime.String(),
		Waiting: cfg.Waiting, Blocks: cfg.Blocks, Comfy: cfg.Comfy, Sync: sync, Compression: cfg.Compression, Replicas: cfg.Replicas, Closed: cfg.Closed, CPUs: runtime.NumCPU(), Go: runtime.Version(),
	}
}

func (r *Result) compare() {
	b := &r.Bare
	r.BareJobsPerSecond = b.JobsPerSecond
	r.Ratio = ratio(r.JobsPerSecond, b.JobsPerSecond)
	r.RatioToDirect = ratio(r.JobsPerSecond, r.DirectJobsPerSecond)
	r.Ratios = Ratios{
		JobsPerSecond: r.Ratio, EnqueuePerSecond: ratio(r.EnqueuePerSecond, b.EnqueuePerSecond),
		StartedP50:  ratio(r.PublishToStarted.P50, b.PublishToDeliver.P50),
		StartedP99:  ratio(r.PublishToStarted.P99, b.PublishToDeliver.P99),
		WhenIdleP50: ratio(r.StartedWhenIdle.P50, b.RoundTrips.P50), WhenIdleP99: ratio(r.StartedWhenIdle.P99, b.RoundTrips.P99),
		CompletedP50: ratio(r.PublishToEnd.P50, b.PublishToEnd.P50), CompletedP99: ratio(r.PublishToEnd.P99, b.PublishToEnd.P99),
		CPUPerJob: ratio(r.CPUPerJob, b.CPUPerJob), AllocsPerJob: ratio(r.AllocsPerJob, b.AllocsPerJob),
		AllocatedPerJob: ratio(r.AllocatedPerJob, b.AllocatedPerJob), DiskPerJob: ratio(r.DiskPerJob, b.DiskPerJob),
		HeapBytes: ratio(float64(r.HeapBytes), float64(b.HeapBytes)), StoredPerJob: ratio(r.StoredPerJob, b.StoredPerJob),
	}
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

func (s *stage) report(ctx context.Context, js natsjs.JetStream, rate float64, used usage, r *Result) error {
	jobs := float64(s.cfg.Jobs)
	r.JobsPerSecond, r.EnqueuePerSecond = s.recorder.perSecond(), rate
	r.PublishToStarted = since(s.recorder.published, s.recorder.started)
	r.PublishToEnd = since(s.recorder.published, s.recorder.ended)
	for _, sim := range s.sims {
		s.gaps.between(sim.Runs())
	}
	r.IdleGap = s.gaps.spread()
	r.CPUPerJob = float64(used.cpu.Microseconds()) / jobs
	r.AllocsPerJob, r.AllocatedPerJob, r.HeapBytes = float64(used.mallocs)/jobs, float64(used.bytes)/jobs, liveHeap()
	r.Dead = int(s.recorder.dead.Load())
	counted := s.counts()
	r.Parked = counted.parked - s.before.parked
	r.OffersAccepted, r.OffersRefused = counted.accepted-s.before.accepted, counted.refused-s.before.refused
	r.ClaimsWon, r.ClaimsLost = counted.won-s.before.won, counted.lost-s.before.lost
	r.LostPerWon = ratio(float64(r.ClaimsLost), float64(r.ClaimsWon))
	stored, err := storedBytes(ctx, js, names.EventsStream)
	if err != nil {
		return err
	}
	r.StoredPerJob = float64(stored-s.before.stored) / jobs
	r.DiskPerJob = float64(s.place.diskBytes()-s.before.disk) / jobs
	return nil
}

func storedBytes(ctx context.Context, js natsjs.JetStream, stream string) (uint64, error) {
	found, err := js.Stream(ctx, stream)
	if err != nil {
		return 0, fmt.Errorf("look up %s: %w", stream, err)
	}
	return found.CachedInfo().State.Bytes, nil
}

// heapOfDispatcher starts one dispatcher more, waits until it has read the state that the others have, and gives by how much the heap grew: a
// dispatcher with its connection and, with an embedded NATS, NATS' side of the connection.
func (s *stage) heapOfDispatcher(ctx context.Context) (int64, error) {
	before := liveHeap()
	if err := s.dispatcher(ctx, s.cfg.Dispatchers); err != nil {
		return 0, err
	}
	if err := s.awaitKnown(ctx, s.cfg.Dispatchers); err != nil {
		return 0, err
	}
	return int64(liveHeap()) - int64(before), nil
}

// counters are what the dispatchers have counted so far, and what their events take.
type counters struct {
	parked, accepted, refused int
	won, lost                 int // claims
	stored                    uint64
	disk                      int64
}

func (s *stage) counts() (c counters) {
	families, err := s.metrics.Gather()
	if err != nil {
		return c // a measurement does not fail for lack of counters
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			n := int(m.GetCounter().GetValue())
			accepted, won := labelled(m.GetLabel(), "answer", string(queue.Accepted)), labelled(m.GetLabel(), "result", "won")
			switch {
			case family.GetName() == "comfyherd_jobs_parked_total":
				c.parked += n
			case family.GetName() == "comfyherd_offers_total" && accepted:
				c.accepted += n
			case family.GetName() == "comfyherd_offers_total":
				c.refused += n
			case family.GetName() == "comfyherd_claims_total" && won:
				c.won += n
			case family.GetName() == "comfyherd_claims_total":
				c.lost += n
			}
		}
	}
	return c
}

// usage is what the process has used so far.
type usage struct {
	cpu            time.Duration
	mallocs, bytes uint64
}

// liveHeap is the size of the heap after garbage collection.
func liveHeap() uint64 {
	runtime.GC()
	runtime.GC() // collects the objects that the first one finalised
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func usageNow() usage {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{cpu: cpuTime(), mallocs: m.Mallocs, bytes: m.TotalAlloc}
}

func (u usage) since(before usage) usage {
	return usage{cpu: u.cpu - before.cpu, mallocs: u.mallocs - before.mallocs, bytes: u.bytes - before.bytes}
}
