package bench

import (
	"context"
	"fmt"
	"runtime"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/jetstream"
)

// Result is what `dispatcher bench --json` prints.
type Result struct {
	Config Settings `json:"config"`

	JobsPerSecond     float64 `json:"jobs_per_second"` // first publish to last stored completion
	BareJobsPerSecond float64 `json:"bare_jobs_per_second"`
	Ratio             float64 `json:"ratio_to_bare_limit"`
	// With simulated ComfyUI: what the hosts do when their own backlogs are filled directly.
	DirectJobsPerSecond float64   `json:"direct_jobs_per_second,omitempty"`
	RatioToDirect       float64   `json:"ratio_to_direct,omitempty"`
	EnqueuePerSecond    float64   `json:"enqueue_per_second"`
	PublishToStarted    Spread    `json:"publish_to_started"`
	PublishToEnd        Spread    `json:"publish_to_completed"`
	IdleGap             Spread    `json:"idle_gap"` // between two jobs on one host
	CPUPerJob           float64   `json:"cpu_us_per_job"`
	AllocsPerJob        float64   `json:"allocs_per_job"`
	AllocatedPerJob     float64   `json:"allocated_bytes_per_job"`
	HeapBytes           uint64    `json:"heap_bytes"`
	StoredPerJob        float64   `json:"stored_bytes_per_job"`
	Parked              int       `json:"parked"`
	OffersAccepted      int       `json:"offers_accepted"`
	OffersRefused       int       `json:"offers_refused"`
	Dead                int       `json:"dead"`
	Bare                RawResult `json:"bare"`
}

// Settings tell what was measured.
type Settings struct {
	Jobs        int     `json:"jobs"`
	Payload     int     `json:"payload_bytes"`
	Hosts       int     `json:"hosts"`
	Slots       int     `json:"slots"`
	Tenants     int     `json:"tenants"`
	Hashes      int     `json:"hashes"`
	Dispatchers int     `json:"dispatchers"`
	FailureRate float64 `json:"failure_rate"`
	Rate        float64 `json:"arrival_per_second"` // 0 = a burst
	HostTime    string  `json:"host_time"`
	Comfy       bool    `json:"comfy"`
	Sync        string  `json:"sync"`
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
		Jobs: cfg.Jobs, Payload: cfg.Payload, Hosts: cfg.Hosts, Slots: cfg.Slots, Tenants: cfg.Tenants, Hashes: cfg.Hashes,
		Dispatchers: cfg.Dispatchers, FailureRate: cfg.FailureRate, Rate: cfg.Rate, HostTime: cfg.HostTime.String(),
		Comfy: cfg.Comfy, Sync: sync, CPUs: runtime.NumCPU(), Go: runtime.Version(),
	}
}

func (r *Result) compare() {
	r.BareJobsPerSecond = r.Bare.JobsPerSecond
	if r.BareJobsPerSecond > 0 {
		r.Ratio = r.JobsPerSecond / r.BareJobsPerSecond
	}
	if r.DirectJobsPerSecond > 0 {
		r.RatioToDirect = r.JobsPerSecond / r.DirectJobsPerSecond
	}
}

func (s *stage) report(ctx context.Context, q *jetstream.Queue, js natsjs.JetStream, rate float64, used usage, r *Result) error {
	jobs := float64(s.cfg.Jobs)
	r.JobsPerSecond, r.EnqueuePerSecond = s.recorder.perSecond(), rate
	r.PublishToStarted = since(s.recorder.published, s.recorder.started)
	r.PublishToEnd = since(s.recorder.published, s.recorder.ended)
	r.IdleGap = s.gaps.spread()
	r.CPUPerJob = float64(used.cpu.Microseconds()) / jobs
	r.AllocsPerJob, r.AllocatedPerJob, r.HeapBytes = float64(used.mallocs)/jobs, float64(used.bytes)/jobs, used.heap
	r.Dead = int(s.recorder.dead.Load())
	s.count(r)
	q.Close()
	events, err := js.Stream(ctx, jetstream.EventsStream)
	if err != nil {
		return fmt.Errorf("look up events: %w", err)
	}
	r.StoredPerJob = float64(events.CachedInfo().State.Bytes) / jobs
	return nil
}

// count sums what the dispatchers counted.
func (s *stage) count(r *Result) {
	families, err := s.metrics.Gather()
	if err != nil {
		return // counters are beside the point of a measurement
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			n := int(m.GetCounter().GetValue())
			switch family.GetName() {
			case "comfyherd_jobs_parked_total":
				r.Parked += n
			case "comfyherd_offers_total":
				accepted := false
				for _, l := range m.GetLabel() {
					accepted = accepted || l.GetName() == "answer" && l.GetValue() == string(jetstream.Accepted)
				}
				if accepted {
					r.OffersAccepted += n
				} else {
					r.OffersRefused += n
				}
			}
		}
	}
}

// usage is what the process has used so far.
type usage struct {
	cpu            time.Duration
	mallocs, bytes uint64
	heap           uint64
}

func usageNow() usage {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{cpu: cpuTime(), mallocs: m.Mallocs, bytes: m.TotalAlloc, heap: m.HeapAlloc}
}

func (u usage) since(before usage) usage {
	return usage{cpu: u.cpu - before.cpu, mallocs: u.mallocs - before.mallocs, bytes: u.bytes - before.bytes, heap: u.heap}
}
