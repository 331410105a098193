package bench

import (
	"context"
	"log/slog"
	"slices"
	"time"
)

// TimesOfADeadJob are the times from publish to completed of a job that is dead.
func TimesOfADeadJob() (s Spread, dead int64) {
	r := newRecorder(&load{jobs: 1})
	r.publish(0)
	r.base = r.base.Add(-time.Hour) // so that it ends an hour later
	r.endedOtherwise(0)
	return since(r.published, r.ended), r.dead.Load()
}

// HostsOfAgents are how many hosts each agent has.
func HostsOfAgents(hosts, agents int) (counts []int) {
	first := 0
	for i := range hosts {
		if lastOfAgent(i, hosts, agents) {
			counts, first = append(counts, i+1-first), i+1
		}
	}
	return counts
}

// Alarm is what ends a stage when its embedded NATS complains.
func Alarm(fail context.CancelCauseFunc) slog.Handler { return alarm{fail: fail} }

// JobsOneByOne is how many jobs come one by one after the others.
func JobsOneByOne(cfg Config) int { return idleJobs(&cfg) }

// Counted is what a meter counts of a stream of bytes that comes in pieces.
func Counted(stream string, size int) map[string]Flow {
	m := newMeter()
	for piece := range slices.Chunk([]byte(stream), size) {
		m.take(piece)
	}
	return m.total()
}

// Bare runs the raw limit alone.
func Bare(ctx context.Context, cfg Config) (jobsPerSecond, cpuPerJob float64, err error) {
	cfg = cfg.withDefaults()
	l, err := newLoad(&cfg)
	if err != nil {
		return 0, 0, err
	}
	side, err := runRaw(ctx, &cfg, l)
	return side.JobsPerSecond, side.CPUPerJob, err
}
