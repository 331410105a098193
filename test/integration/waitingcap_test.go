package integration_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

// Beyond its part of the waiting room bolt's jobs rest in the stream, and acme's are taken as if there were none. Then an
// operator purges all that bolt has, and the waiting room with it.
func TestWhoFillsTheWaitingRoomKeepsNobodyElseOut(t *testing.T) {
	t.Parallel()
	const waitingCap, jobs = 20, 60
	f := start(t, setup{dispatchers: 2, config: dispatcher.Config{WaitingCap: waitingCap}, hosts: names("a"), foreign: true})
	at := time.Now().Add(365 * 24 * time.Hour)
	for n := range jobs {
		lane := job.Lane{Tenant: "bolt", Priority: job.Priority(n % 10)}
		if _, err := f.q.Submit(f.context(), lane, job.Spec{ID: job.ID(fmt.Sprint("b-", n)), Workflow: picture(1), RunAt: &at}); err != nil {
			t.Fatal(err)
		}
	}
	f.reaches("jobs of bolt that are queued", jobs, func() int { return len(f.subjects("COMFY_EVENTS", "comfy.events.jobs.bolt.*.queued")) })
	for _, p := range []job.Priority{job.Usual, 0} {
		r, err := f.q.Submit(f.context(), job.Lane{Tenant: "acme", Priority: p}, job.Spec{Workflow: picture(2)})
		if err != nil {
			t.Fatal(err)
		}
		if end := f.end(r); end.EventKind != job.Completed {
			t.Errorf("a job of acme at priority %d is %s (%s)", p, end.EventKind, end.Reason)
		}
	}
	if n := len(f.tickets()); n == 0 || n > 2*waitingCap {
		t.Errorf("bolt has %d tickets with a waiting cap of %d", n, waitingCap)
	}
	for _, stream := range []string{"COMFY_JOBS", waitingRoom} {
		var done map[string]any
		f.request(nats.NewMsg("$JS.API.STREAM.PURGE."+stream), &done)
	}
	f.eventually("nothing is counted that is not there", func() bool {
		return len(call[jetstream.QueueAnswer](f, "queue", struct{}{}).Lanes) == 0
	})
}
