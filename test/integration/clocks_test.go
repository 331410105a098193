package integration_test

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
)

// A dispatcher and an agent on a machine whose clock is an hour ahead or behind.
func TestNothingEndsBecauseAClockIsOff(t *testing.T) {
	t.Parallel()
	for name, off := range map[string]time.Duration{"AnHourAhead": time.Hour, "AnHourBehind": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, setup{hosts: names("a"), noAgents: true})
			f.cfg.Clock = func() time.Time { return time.Now().Add(off) }
			f.join("a")
			f.awaitPresence(1)
			f.dispatcher(dispatcher.Config{Policy: quick()})
			busy := f.occupy("a", 1)
			f.await(f.submit("acme", onlyOn("a", picture(2))), job.Started) // is held behind it
			r := f.submit("acme", job.Spec{Workflow: picture(1), ExpiresIn: job.Duration(30 * time.Minute)})
			soon := f.submit("acme", job.Spec{Workflow: picture(3), ExpiresIn: job.Duration(2 * time.Second)})
			queued := f.await(r, job.Queued)
			if far := queued.Time.Sub(f.q.Now()).Abs(); far > testTimeout {
				t.Errorf("its queued event is %v from now", far)
			}
			if end := f.end(soon); end.EventKind != job.Dead || end.Reason != string(failure.Expired) {
				t.Errorf("the job of two seconds is %s (%s)", end.EventKind, end.Reason)
			}
			hosts, err := f.q.Hosts(f.context())
			if err != nil || len(hosts) != 1 || (time.Duration(hosts[0].ClockOff)-off).Abs() > testTimeout {
				t.Errorf("the hosts are %+v (%v), want one whose clock is %v off", hosts, err, off)
			}
			f.cancel(busy)
			if end := f.end(r); end.EventKind != job.Completed {
				t.Errorf("the job of half an hour is %s (%s)", end.EventKind, end.Reason)
			}
		})
	}
}
