package bench_test

import (
	"testing"

	"github.com/comfyherd/comfyherd/internal/bench"
)

// BenchmarkBurst is comfyherd's side of `dispatcher bench`, for profiles: go test -run '^$' -bench Burst -cpuprofile.
func BenchmarkBurst(b *testing.B) { burst(b, bench.Config{}) }

// BenchmarkReplicated is the same with three servers.
func BenchmarkReplicated(b *testing.B) { burst(b, bench.Config{Replicas: 3, Jobs: 2000}) }

func burst(b *testing.B, cfg bench.Config) {
	b.Helper()
	for b.Loop() {
		cfg.SkipRaw, cfg.StoreDir = true, b.TempDir()
		r, err := bench.Run(b.Context(), cfg)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(r.JobsPerSecond, "jobs/s")
		b.ReportMetric(r.CPUPerJob, "cpu-us/job")
	}
}

// BenchmarkBare is the raw limit alone, for profiles beside the others.
func BenchmarkBare(b *testing.B) { bare(b, bench.Config{}) }

// BenchmarkBareReplicated is the same with three servers.
func BenchmarkBareReplicated(b *testing.B) { bare(b, bench.Config{Replicas: 3, Jobs: 2000}) }

func bare(b *testing.B, cfg bench.Config) {
	b.Helper()
	for b.Loop() {
		cfg.StoreDir = b.TempDir()
		jobs, cpu, err := bench.Bare(b.Context(), cfg)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(jobs, "jobs/s")
		b.ReportMetric(cpu, "cpu-us/job")
	}
}
