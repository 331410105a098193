package integration_test

import (
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// until waits for a time of NATS.
func (f *fleet) until(at time.Time) {
	f.t.Helper()
	f.eventually("it is "+at.String(), func() bool { return f.q.Now().After(at) })
}

// Every way on which a dispatcher meets a job whose time is over, beside an idle host.
func TestAJobWhoseTimeIsOverIsOfferedOnNoWay(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]func(*doomed){
		"Fresh":             func(*doomed) {},
		"Queued":            func(d *doomed) { d.append(job.Queued) },
		"Parked":            func(d *doomed) { d.append(job.Queued); d.put(d.late()); d.park() },
		"ParkedAndBack":     func(d *doomed) { d.append(job.Queued); d.put(d.late()) },
		"ParkedUnknowingly": func(d *doomed) { d.append(job.Queued); d.put(d.ticket()); d.park() },
		"Claimed":           func(d *doomed) { d.append(job.Queued); d.claimed() },
		"FailedAndRetrying": func(d *doomed) { d.append(job.Queued); d.ran("gone", failure.Lost); d.retrying() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, setup{hosts: names("a"), jetstream: shortLeases()})
			r := f.submit("acme", job.Spec{Workflow: picture(1), ExpiresIn: job.Duration(time.Second)})
			if name != "Fresh" {
				before(f.take())
			}
			f.until(f.q.Now().Add(1100 * time.Millisecond))
			f.dispatcher(dispatcher.Config{})
			if end := f.end(r); end.EventKind != job.Dead || end.Reason != string(failure.Expired) {
				t.Errorf("it is %s (%s), want dead (expired)", end.EventKind, end.Reason)
			}
			f.drained()
			if runs := f.runs()["a"]; runs != 0 {
				t.Errorf("it ran %d times", runs)
			}
			if left := f.tickets(); len(left) != 0 {
				t.Errorf("tickets are left: %v", left)
			}
		})
	}
}

// late is the job's ticket with the time at which it expires.
func (d *doomed) late() queue.Ticket {
	t := d.ticket()
	at := d.job.Expires()
	t.Expires = &at
	return t
}
