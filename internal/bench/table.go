package bench

import (
	"fmt"
	"slices"
	"strings"

	"github.com/comfyherd/comfyherd/internal/daemon"
)

// Print writes the result as a table for people. What was not measured is left out.
func (r *Result) Print(c *daemon.Console) error {
	set := r.Config
	c.Print("%d jobs of %d bytes, %d hosts of %d slots, %d agents, %d dispatchers, %d tenants, %d workflows, host time %s",
		set.Jobs, set.Payload, set.Hosts, set.Slots, set.Agents, set.Dispatchers, set.Tenants, set.Hashes, set.HostTime)
	c.Print("")
	rows := r.measured()
	if r.DiskPerJob == 0 { // of another NATS, whose files cannot be read
		rows = slices.DeleteFunc(rows, func(row []string) bool { return row[0] == filesRow })
	}
	if r.StartedWhenIdle == (Spread{}) {
		rows = slices.DeleteFunc(rows, func(row []string) bool { return row[0] == idleRow })
	}
	if r.Bare.JobsPerSecond == 0 {
		for i := range rows {
			rows[i] = rows[i][:2]
		}
	}
	if r.DirectJobsPerSecond > 0 {
		rows = append(rows, []string{"share of the hosts alone", fmt.Sprintf("%.1f %% of %.1f jobs/s", 100*r.RatioToDirect, r.DirectJobsPerSecond)},
			[]string{"idle gap on a host alone (p50 / p99 / max)", spread(r.DirectIdleGap)})
	}
	return c.Table(append(rows, [][]string{
		{"idle gap on a host (p50 / p99 / max)", spread(r.IdleGap)},
		{"heap of one dispatcher more", size(float64(r.DispatcherBytes))},
		{"offers accepted / refused", fmt.Sprintf("%d / %d", r.OffersAccepted, r.OffersRefused)},
		{"claims won / lost", fmt.Sprintf("%d / %d (%.2f lost for each won)", r.ClaimsWon, r.ClaimsLost, r.LostPerWon)},
		{"parked", fmt.Sprint(r.Parked)},
		{"dead", fmt.Sprint(r.Dead)},
	}...))
}

// measured are the rows that compare with bare NATS.
func (r *Result) measured() [][]string {
	limit := fmt.Sprintf("%.1f %% of the limit", 100*r.Ratio)
	if r.Config.Rate > 0 { // both were as fast as the jobs came
		limit = times(r.Ratio)
	}
	raw, to := &r.Bare, &r.Ratios
	return [][]string{
		{"", "comfyherd", "bare NATS", "ratio"},
		{"jobs a second", count(r.JobsPerSecond), count(raw.JobsPerSecond), limit},
		{"published a second", count(r.EnqueuePerSecond), count(raw.EnqueuePerSecond), times(to.EnqueuePerSecond)},
		{"publish to started (p50 / p99 / max)", spread(r.PublishToStarted), spread(raw.PublishToDeliver) + " (deliver)", times(to.StartedP50, to.StartedP99)},
		{idleRow, spread(r.StartedWhenIdle), spread(raw.RoundTrips) + " (four round trips)", times(to.WhenIdleP50, to.WhenIdleP99)},
		{"publish to completed (p50 / p99 / max)", spread(r.PublishToEnd), spread(raw.PublishToEnd), times(to.CompletedP50, to.CompletedP99)},
		{"CPU a job", count(r.CPUPerJob) + " µs", count(raw.CPUPerJob) + " µs", times(to.CPUPerJob)},
		{"allocations a job", count(r.AllocsPerJob), count(raw.AllocsPerJob), times(to.AllocsPerJob)},
		{"allocated a job", size(r.AllocatedPerJob), size(raw.AllocatedPerJob), times(to.AllocatedPerJob)},
		{"live heap of this process at the end", size(float64(r.HeapBytes)), size(float64(raw.HeapBytes)), times(to.HeapBytes)},
		{filesRow, size(r.DiskPerJob), size(raw.DiskPerJob), times(to.DiskPerJob)},
		{"events stored a job", size(r.StoredPerJob), size(raw.StoredPerJob), times(to.StoredPerJob)},
	}
}

func spread(s Spread) string { return fmt.Sprintf("%.2f / %.2f / %.2f ms", s.P50, s.P99, s.Max) }

func size(n float64) string { return daemon.Size(n).String() }

func count(n float64) string {
	if n < 10 {
		return fmt.Sprintf("%.2f", n)
	}
	return fmt.Sprintf("%.0f", n)
}

// Rows that are left out when they were not measured.
const (
	filesRow = "files of NATS a job"
	idleRow  = "one by one: publish to started (p50 / p99 / max)"
)

// times writes ratios, of a p50 and a p99 when there are two.
func times(ratios ...float64) string {
	texts := make([]string, len(ratios))
	for i, r := range ratios {
		texts[i] = fmt.Sprintf("× %.2f", r)
	}
	return strings.Join(texts, " / ")
}
