package job_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
)

// day adds events by their time before noon.
type day struct {
	*job.Fold
	sequence uint64
}

func (d *day) noon() time.Time { return time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC) }

func (d *day) add(id string, kind job.EventKind, after time.Duration, b job.Brief) {
	d.sequence++
	d.Add(&job.StoredEvent{Tenant: "acme", Job: job.ID(id), Kind: kind, Sequence: d.sequence, Time: d.noon().Add(after), Readable: true, Brief: b})
}

func TestThePaceOfATenantIsWhatItsJobsRanAndWaited(t *testing.T) {
	t.Parallel()
	d := &day{Fold: job.NewFold(1000)}
	on := job.Brief{Host: "gpu-1", Attempt: 1}
	d.add("yesterday", job.Started, -25*time.Hour, on)
	d.add("yesterday", job.Completed, -24*time.Hour-time.Minute, on) // too long ago
	d.add("old", job.Queued, -10*time.Hour, job.Brief{})
	d.add("old", job.Started, -9*time.Hour, on) // it waited an hour, and that is no matter of the last hour
	d.add("old", job.Failed, -8*time.Hour, on)
	d.add("old", job.Started, -7*time.Hour, job.Brief{Host: "gpu-2", Attempt: 2})
	d.add("old", job.Cancelled, -6*time.Hour, on)
	for i := range 100 { // 95 wait a second, five 100 seconds
		took := time.Second
		if i >= 95 {
			took = 100 * time.Second
		}
		id := fmt.Sprint("job-", i)
		d.add(id, job.Queued, -10*time.Minute, job.Brief{})
		d.add(id, job.Started, -10*time.Minute+took, on)
	}
	got := d.Pace("acme", d.noon())
	if got.GPU != 2*time.Hour || got.Started != 100 {
		t.Errorf("%s of GPU time, and %d began", got.GPU, got.Started)
	}
	if got.WaitP95 < time.Second || got.WaitP95 > 1200*time.Millisecond || got.WaitMost < 100*time.Second || got.WaitMost > 120*time.Second {
		t.Errorf("95 %% waited %s, and all %s", got.WaitP95, got.WaitMost)
	}
	if later := d.Pace("acme", d.noon().Add(2*time.Hour)); later.Started != 0 || later.WaitP95 != 0 || later.GPU != 2*time.Hour {
		t.Errorf("two hours later it is %+v", later)
	}
	if none := d.Pace("nobody", d.noon()); none != (job.Pace{}) {
		t.Errorf("of nobody: %+v", none)
	}
}

func TestTheLastAttemptsOfAHostAreKept(t *testing.T) {
	t.Parallel()
	d := &day{Fold: job.NewFold(1000)}
	for i := range 60 {
		id, begun := fmt.Sprint("job-", i), time.Duration(i-100)*time.Minute
		d.add(id, job.Started, begun, job.Brief{Host: "gpu-1", Attempt: 1, Hash: hashA})
		end, b := job.Completed, job.Brief{Host: "gpu-1", Attempt: 1, Hash: hashA}
		if i == 59 {
			end, b.Kind = job.Failed, failure.OutOfMemory
		}
		d.add(id, end, begun+30*time.Second, b)
	}
	got := d.Attempts("gpu-1")
	if len(got) != job.AttemptsKept {
		t.Fatalf("%d attempts", len(got))
	}
	want := job.HostAttempt{
		Tenant: "acme", Job: "job-59", Hash: hashA, Attempt: 1, End: job.Failed, Kind: failure.OutOfMemory,
		Begun: d.noon().Add(-41 * time.Minute), Ended: d.noon().Add(-41*time.Minute + 30*time.Second),
	}
	if got[0].Begun = got[0].Begun.UTC(); got[0] != want {
		t.Errorf("the last one is %+v, want %+v", got[0], want)
	}
	if got[49].Job != "job-10" || got[49].End != job.Completed || len(d.Attempts("gpu-2")) != 0 {
		t.Errorf("the oldest is %+v", got[49])
	}
}

func TestWorkflowsCountWhatEndedInTheLastHour(t *testing.T) {
	t.Parallel()
	d := &day{Fold: job.NewFold(1000)}
	for i, ago := range []time.Duration{3 * time.Hour, 59 * time.Minute, 39 * time.Minute, time.Minute} {
		id := fmt.Sprint("job-", i)
		d.add(id, job.Queued, -ago, job.Brief{Hash: hashA})
		d.add(id, []job.EventKind{job.Completed, job.Dead}[i%2], -ago, job.Brief{Hash: hashA})
	}
	for after, want := range map[time.Duration]int{0: 3, 19 * time.Minute: 2, 39 * time.Minute: 1, 3 * time.Hour: 0} {
		if got := d.Workflows("", "", 0, 10, d.noon().Add(after))[0].Hourly; got != want {
			t.Errorf("after %s there are %d, want %d", after, got, want)
		}
	}
}
