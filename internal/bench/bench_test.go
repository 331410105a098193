package bench_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/comfyherd/comfyherd/internal/bench"
)

// nats.go 1.55 leaks a goroutine when an object is stored so fast that the store's publisher is cleaned up before its
// goroutine has read the channel of the connection's states: it then waits on a nil channel for ever.
//
// The test binary is also a part of a fleet of processes.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == bench.PartArgument {
		if err := bench.ServePart(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m,
		goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect"),
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*stream).trySetupSourceConsumer.func3")) // a NATS that is closed at once still asks itself for the source of COMFY_JOBS
}

func measured(t *testing.T, cfg bench.Config) bench.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cfg.StoreDir = t.TempDir()
	result, err := bench.Run(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// acceptedOnce reports whether each job was accepted once. An answer that comes too late, since the machine stood still,
// counts as none.
func acceptedOnce(r *bench.Result, jobs int) bool {
	unheard := jobs - r.OffersAccepted
	return unheard >= 0 && unheard <= r.OffersRefused
}

func TestEveryJobEndsAndIsCounted(t *testing.T) {
	t.Parallel()
	r := measured(t, bench.Config{Jobs: 300, Hosts: 5, Hashes: 3})
	if !acceptedOnce(&r, 300) || r.Dead != 0 {
		t.Errorf("%d offers were accepted, %d not, and %d jobs are dead, want 300 and 0", r.OffersAccepted, r.OffersRefused, r.Dead)
	}
	if r.JobsPerSecond <= 0 || r.BareJobsPerSecond <= 0 || r.Ratio != r.JobsPerSecond/r.BareJobsPerSecond {
		t.Errorf("%v jobs/s of %v is given as %v", r.JobsPerSecond, r.BareJobsPerSecond, r.Ratio)
	}
	for name, s := range map[string]bench.Spread{
		"started": r.PublishToStarted, "completed": r.PublishToEnd, "deliver": r.Bare.PublishToDeliver,
	} {
		if s.P50 <= 0 || s.P99 < s.P50 || s.Max < s.P99 {
			t.Errorf("publish to %s: %+v is no spread", name, s)
		}
	}
	if r.Ratios.CPUPerJob != r.CPUPerJob/r.Bare.CPUPerJob || r.Ratios.StartedP50 != r.PublishToStarted.P50/r.Bare.PublishToDeliver.P50 {
		t.Errorf("the ratios %+v are not those of %+v and %+v", r.Ratios, r, r.Bare)
	}
	if r.Ratios.AllocatedPerJob != r.AllocatedPerJob/r.Bare.AllocatedPerJob || r.Ratios.DiskPerJob != r.DiskPerJob/r.Bare.DiskPerJob {
		t.Errorf("the ratios %+v are not those of %+v and %+v", r.Ratios, r, r.Bare)
	}
	if r.DiskPerJob < r.StoredPerJob {
		t.Errorf("%v bytes on disk for a job, whose events alone have %v", r.DiskPerJob, r.StoredPerJob)
	}
	if r.StoredPerJob < 600 {
		t.Errorf("%v bytes of events are stored for a job, which is less than three events", r.StoredPerJob)
	}
}

func TestFailingAttemptsAreTriedAgain(t *testing.T) {
	t.Parallel()
	r := measured(t, bench.Config{Jobs: 100, Hosts: 4, FailureRate: 0.3, SkipRaw: true})
	if r.OffersAccepted <= 100 {
		t.Errorf("%d offers for 100 jobs of which three in ten attempts fail", r.OffersAccepted)
	}
}

// TestClaimsOfWaitingJobsAreCounted has half of the jobs wait for their time, which is in the waiting room.
func TestClaimsOfWaitingJobsAreCounted(t *testing.T) {
	t.Parallel()
	r := measured(t, bench.Config{Jobs: 60, Hosts: 4, Dispatchers: 3, Scheduled: 0.5, SkipRaw: true})
	if r.ClaimsWon == 0 || r.Parked == 0 {
		t.Errorf("%d claims were won and %d jobs parked, although half of the jobs had to wait for their time", r.ClaimsWon, r.Parked)
	}
	if want := float64(r.ClaimsLost) / float64(r.ClaimsWon); r.LostPerWon != want {
		t.Errorf("%v claims were lost for each won, want %v", r.LostPerWon, want)
	}
}

func TestACrowdAndBlocksStandBesideWhatIsMeasured(t *testing.T) { //nolint:paralleltest // the heap belongs to the process
	var stages sync.Map
	r := measured(t, bench.Config{
		Jobs: 100, Hosts: 4, Waiting: 300, Blocks: 50, SkipRaw: true,
		Progress: func(p bench.Progress) { stages.Store(p.Stage, p.Total) },
	})
	if !acceptedOnce(&r, 100) || r.Parked > 100 || r.Config.Waiting != 300 || r.Config.Blocks != 50 {
		t.Errorf("100 jobs beside 300 that wait and 50 blocks: %+v", r)
	}
	if r.DispatcherBytes <= 0 {
		t.Errorf("one dispatcher more takes %d bytes", r.DispatcherBytes)
	}
	if total, told := stages.Load("waiting room"); !told || total != 300 {
		t.Errorf("the waiting room was told of with %v jobs", total)
	}
}

func TestSimulatedHostsAreComparedWithThemselves(t *testing.T) {
	t.Parallel()
	r := measured(t, bench.Config{Jobs: 20, Hosts: 2, Hashes: 2, Comfy: true, HostTime: 5 * time.Millisecond, SkipRaw: true})
	if r.IdleGap.Max <= 0 || r.DirectIdleGap.Max <= 0 {
		t.Errorf("the hosts were idle for %+v, and alone for %+v", r.IdleGap, r.DirectIdleGap)
	}
	if r.DirectJobsPerSecond <= 0 || r.RatioToDirect != r.JobsPerSecond/r.DirectJobsPerSecond {
		t.Errorf("%v jobs/s of %v is given as %v", r.JobsPerSecond, r.DirectJobsPerSecond, r.RatioToDirect)
	}
}

func TestTheJSONHasTheFieldsThatScriptsRead(t *testing.T) {
	t.Parallel()
	body, err := json.Marshal(bench.Result{})
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{"jobs_per_second", "bare_jobs_per_second", "ratio_to_bare_limit"} {
		if !strings.Contains(string(body), `"`+field+`"`) {
			t.Errorf("%s is missing in %s", field, body)
		}
	}
}

func TestWrongSettingsAreRefused(t *testing.T) {
	t.Parallel()
	nan := math.NaN()
	for want, cfg := range map[string]bench.Config{
		"at most 5 copies":    {Replicas: 6},
		"rate must be 0":      {FailureRate: nan},
		"a number of jobs":    {Rate: nan},
		"each agent needs":    {Agents: 3, Hosts: 2},
		"without --comfy":     {Comfy: true, Hosts: 2, FailureRate: 0.1},
		"sync policy":         {NATSURL: "nats://127.0.0.1:1", SyncAlways: true},
		"no servers":          {NATSURL: "127.0.0.1:1,nats://localhost:1"},
		"at least 1":          {Jobs: -1},
		"600 to 900 000":      {Payload: 10},
		"failure rate":        {FailureRate: 2},
		"can wait":            {Waiting: 100_001},
		"waiting jobs":        {Blocks: -1},
		"--hosts 64":          {Comfy: true, Hosts: 65},
		"is not this machine": {NATSURL: "nats://192.0.2.1:4222"},
	} {
		if _, err := bench.Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: err = %v, want %q in it", cfg, err, want)
		}
	}
}

func TestAClosedFleetIsMeasuredWithCredentials(t *testing.T) {
	t.Parallel()
	r := measured(t, bench.Config{Jobs: 200, Hosts: 3, Tenants: 2, Closed: true, SkipRaw: true})
	if !acceptedOnce(&r, 200) || r.Dead != 0 || !r.Config.Closed || r.Config.Agents != 3 {
		t.Errorf("%d offers were accepted and %d jobs are dead, want 200 and 0; %+v", r.OffersAccepted, r.Dead, r.Config)
	}
	_, err := bench.Run(t.Context(), bench.Config{Hosts: 3, Agents: 2, Closed: true})
	if err == nil || !strings.Contains(err.Error(), "credentials of its own") {
		t.Errorf("two agents for three hosts: %v", err)
	}
}

func TestJobsThatComeOneByOneAreComparedWithFourRoundTrips(t *testing.T) {
	t.Parallel()
	r := measured(t, bench.Config{Jobs: 100, Hosts: 2, Dispatchers: 1})
	for name, s := range map[string]bench.Spread{"comfyherd": r.StartedWhenIdle, "four round trips": r.Bare.RoundTrips} {
		if s.P50 <= 0 || s.P99 < s.P50 || s.Max < s.P99 {
			t.Errorf("%s: %+v is no spread", name, s)
		}
	}
	if r.Ratios.WhenIdleP50 != r.StartedWhenIdle.P50/r.Bare.RoundTrips.P50 || r.Ratios.WhenIdleP99 != r.StartedWhenIdle.P99/r.Bare.RoundTrips.P99 {
		t.Errorf("the ratios %+v are not those of %+v and %+v", r.Ratios, r.StartedWhenIdle, r.Bare.RoundTrips)
	}
	if r.OffersAccepted > 100 {
		t.Errorf("%d offers were accepted for 100 jobs: those that came later count too", r.OffersAccepted)
	}
}

func TestOneByOneFewJobsComeWhenHostsAreSlow(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		cfg  bench.Config
		want int
	}{
		{bench.Config{Jobs: 10_000}, 200},
		{bench.Config{Jobs: 300}, 30},
		{bench.Config{Jobs: 5}, 0},
		{bench.Config{Jobs: 10_000, HostTime: 95 * time.Millisecond}, 50},
		{bench.Config{Jobs: 10_000, HostTime: time.Hour}, 0},
		{bench.Config{Jobs: 10_000, FailureRate: 0.1}, 0},
	} {
		if got := bench.JobsOneByOne(tc.cfg); got != tc.want {
			t.Errorf("%+v: %d jobs, want %d", tc.cfg, got, tc.want)
		}
	}
}
