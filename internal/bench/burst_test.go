package bench_test

import (
	"testing"

	"github.com/comfyherd/comfyherd/internal/bench"
)

// BenchmarkBurst is comfyherd's side of `dispatcher bench`, for profiles: go test -run '^$' -bench Burst -cpuprofile.
func BenchmarkBurst(b *testing.B) {
	for b.Loop() {
		r, err := bench.Run(b.Context(), bench.Config{SkipRaw: true, StoreDir: b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(r.JobsPerSecond, "jobs/s")
		b.ReportMetric(r.CPUPerJob, "cpu-us/job")
	}
}
