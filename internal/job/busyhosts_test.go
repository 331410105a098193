package job_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyherd/comfyherd/internal/job"
)

func TestHowLongAHostRanJobsIsSummedBySteps(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	f := job.NewFold(100)
	sequence := uint64(0)
	add := func(id string, kind job.EventKind, host string, after time.Duration) {
		sequence++
		f.Add(&job.StoredEvent{Tenant: "acme", Job: job.ID(id), Kind: kind, Sequence: sequence, Time: noon.Add(after), Readable: true, Brief: job.Brief{Host: host}})
	}
	add("one", job.Started, "gpu-1", -10*time.Minute)
	add("two", job.Started, "gpu-1", -9*time.Minute)
	add("two", job.Failed, "gpu-1", -8*time.Minute)      // 60 s of the step from -10 on
	add("one", job.Completed, "gpu-1", -7*time.Minute)   // 120 s of that step, and 60 s of the next
	add("three", job.Started, "gpu-2", -3*time.Hour)     // only its last hour counts
	add("three", job.Cancelled, "gpu-2", -1*time.Minute) // half of the last step
	add("four", job.Queued, "", -5*time.Minute)
	add("four", job.Dead, "gpu-1", -4*time.Minute) // it never ran
	busy := func(host string, since ...time.Time) map[int]string {
		steps := map[int]string{}
		for i, ran := range f.Busy(host, since, noon) {
			if ran != 0 {
				steps[i] = ran.String()
			}
		}
		return steps
	}
	if diff := cmp.Diff(map[int]string{25: "3m0s", 26: "1m0s"}, busy("gpu-1")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[int]string{25: "3m0s", 26: "1m0s", 28: "1m0s", 29: "2m0s"}, busy("gpu-1", noon.Add(-3*time.Minute))); diff != "" {
		t.Error(diff)
	}
	want := map[int]string{}
	for i := range 30 {
		want[i] = "2m0s"
	}
	want[29] = "1m0s"
	if diff := cmp.Diff(want, busy("gpu-2")); diff != "" {
		t.Error(diff)
	}
	if got := busy("gpu-3"); len(got) != 0 || len(f.Busy("gpu-3", nil, noon)) != 30 {
		t.Errorf("a host that never ran: %v", got)
	}
}

// Events may name any number of hosts.
func TestHostsThatRanNothingForAnHourAreForgottenWhenThereAreMany(t *testing.T) {
	t.Parallel()
	f := job.NewFold(10)
	at := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	sequence := uint64(0)
	run := func(host string) {
		for _, kind := range []job.EventKind{job.Started, job.Completed} {
			sequence++
			at = at.Add(time.Millisecond)
			f.Add(&job.StoredEvent{Tenant: "acme", Job: "one", Kind: kind, Sequence: sequence, Time: at, Readable: true, Brief: job.Brief{Host: host}})
		}
	}
	for i := range 10_100 {
		run(fmt.Sprint("h", i))
	}
	if n := f.BusyHosts(); n != 10_000 {
		t.Errorf("%d hosts are kept, want 10 000", n)
	}
	at = at.Add(2 * time.Hour)
	run("late")
	if n := f.BusyHosts(); n != 1 {
		t.Errorf("%d hosts are kept, want the one that ran lately", n)
	}
}
