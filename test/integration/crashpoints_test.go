package integration_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// doomed is a dispatcher, and where it says so an agent, that writes what they write, in their order, and dies.
type doomed struct {
	f        *fleet
	delivery queue.Delivery
	job      *job.Job
	last     uint64
	failed   uint64
}

// take pulls the one job there is, as a dispatcher does.
func (f *fleet) take() *doomed {
	f.t.Helper()
	d := &doomed{f: f}
	puller, err := f.q.Puller(job.Usual, func(delivery queue.Delivery) { d.delivery = delivery })
	if err != nil {
		f.t.Fatal(err)
	}
	n, err := puller.Pull(f.context(), 1, testTimeout)
	puller.Close()
	if err != nil || n != 1 {
		f.t.Fatalf("no job was delivered: %v", err)
	}
	if d.job, err = job.Parse(d.delivery.Message); err != nil {
		f.t.Fatal(err)
	}
	return d
}

func (d *doomed) append(kind job.EventKind, edit ...func(*job.Event)) {
	d.f.t.Helper()
	e := d.job.NewEvent(kind, time.Now())
	e.Sequence = d.job.Sequence
	for _, change := range edit {
		change(&e)
	}
	var err error
	if d.last, err = d.f.q.Append(d.f.context(), &e, d.last, "test", d.delivery.Lease); err != nil {
		d.f.t.Fatal(err)
	}
}

// ran appends started on a host, and with a kind that this attempt failed.
func (d *doomed) ran(host string, kind failure.Kind) {
	d.f.t.Helper()
	d.append(job.Started, func(e *job.Event) { e.Host, e.Attempt = host, 1 })
	if kind == "" {
		return
	}
	d.append(job.Failed, func(e *job.Event) { e.Host, e.Attempt, e.Kind, e.Message = host, 1, kind, "negative light" })
	d.failed = d.last
}

func (d *doomed) ticket() queue.Ticket {
	return queue.Ticket{
		Priority: d.job.Priority, Tenant: d.job.Tenant, Hash: d.job.Graph.Hash(), Sequence: d.job.Sequence,
		Job: d.job.ID, Lease: d.delivery.Lease, Attempt: 1, Received: d.job.Received,
	}
}

// put writes the ticket and gives its revision.
func (d *doomed) put(t queue.Ticket) uint64 {
	d.f.t.Helper()
	revision, err := d.f.q.PutTicket(d.f.context(), &t)
	if err != nil {
		d.f.t.Fatal(err)
	}
	return revision
}

func (d *doomed) park() {
	d.f.t.Helper()
	if err := d.f.q.Park(d.delivery.Lease, time.Hour); err != nil {
		d.f.t.Fatal(err)
	}
}

// claimed parks the job and claims it again.
func (d *doomed) claimed() {
	d.f.t.Helper()
	t := d.ticket()
	revision := d.put(t)
	d.park()
	if err := d.f.q.ExtendSurely(d.f.context(), d.delivery.Lease); err != nil {
		d.f.t.Fatal(err)
	}
	if end, err := d.f.q.Claim(d.f.context(), t.Key(), revision); err != nil || end == 0 {
		d.f.t.Fatalf("claim: %v, %v", end, err)
	}
}

// strike counts the failure without opening the block that follows from it.
func (d *doomed) strike(host string) {
	d.f.t.Helper()
	strikes, block := route.Strikes{}.Add(route.Strike{
		Host: route.HostID(host), Hash: d.job.Graph.Hash(), Tenant: route.Tenant(d.job.Tenant), Job: route.JobID(d.job.ID), Mark: d.failed,
		Attempt: failure.Attempt{Host: host, Kind: failure.ExecutionError, Message: "negative light"},
	}, time.Now(), route.Production())
	value, err := json.Marshal(strikes)
	if err != nil || block == nil {
		d.f.t.Fatalf("the strike makes %v, %v", block, err)
	}
	if stored, err := d.f.q.PutStrikes(d.f.context(), host, d.job.Graph.Hash(), value, time.Hour, 0); err != nil || !stored {
		d.f.t.Fatalf("strikes: %v, %v", stored, err)
	}
}

func (d *doomed) retrying() {
	d.f.t.Helper()
	now := time.Now()
	d.append(job.Retrying, func(e *job.Event) { e.Attempt, e.NotBefore = 2, &now })
}

func (d *doomed) bury() {
	d.f.t.Helper()
	e := d.job.NewEvent(job.Dead, time.Now())
	e.Reason = string(failure.NotRetryable)
	if _, err := d.f.q.Bury(d.f.context(), &d.delivery.Message, &e, d.last); err != nil {
		d.f.t.Fatal(err)
	}
}

// Every two effects that follow each other in a job's walk, with a crash in between. Host "gone" ran the first
// attempt and is no more; the next dispatcher, and host a, repair what the dead ones left.
func TestACrashBetweenAnyTwoEffectsIsRepaired(t *testing.T) {
	t.Parallel()
	const routed = "queued started@a completed@a"
	const again = "queued started@gone failed@gone retrying started@a completed@a"
	for name, c := range map[string]struct {
		until   func(*doomed) // what is done before the crash
		story   string
		blocked string // for whom the pair (gone, hash) is
	}{
		"PulledAndNothingElse":  {until: func(*doomed) {}, story: routed},
		"QueuedIsAppended":      {until: func(d *doomed) { d.append(job.Queued) }, story: routed},
		"TheTicketIsPut":        {until: func(d *doomed) { d.append(job.Queued); d.put(d.ticket()) }, story: routed},
		"TheDeliveryIsParked":   {until: func(d *doomed) { d.append(job.Queued); d.put(d.ticket()); d.park() }, story: routed},
		"TheTicketIsClaimed":    {until: func(d *doomed) { d.append(job.Queued); d.claimed() }, story: routed},
		"StartedByAnAgentGone":  {until: func(d *doomed) { d.append(job.Queued); d.ran("gone", "") }, story: again},
		"FailedAndNotSettled":   {until: func(d *doomed) { d.append(job.Queued); d.ran("gone", failure.ExecutionError) }, story: again, blocked: "acme"},
		"TheStrikeIsCounted":    {until: func(d *doomed) { d.append(job.Queued); d.ran("gone", failure.ExecutionError); d.strike("gone") }, story: again, blocked: "acme"},
		"RetryingIsAppended":    {until: func(d *doomed) { d.append(job.Queued); d.ran("gone", failure.Lost); d.retrying() }, story: again},
		"TheRetrysTicketIsPut":  {until: func(d *doomed) { d.append(job.Queued); d.ran("gone", failure.Lost); d.retrying(); d.put(d.ticket()) }, story: again},
		"InvalidAndNotSettled":  {until: func(d *doomed) { d.append(job.Queued); d.ran("gone", failure.InvalidWorkflow) }, story: "queued started@gone failed@gone dead@gone"},
		"TheDeadLetterIsStored": {until: func(d *doomed) { d.append(job.Queued); d.ran("gone", failure.InvalidWorkflow); d.bury() }, story: "queued started@gone failed@gone dead@gone"},
		"DeadIsAppended": {
			until: func(d *doomed) {
				d.append(job.Queued)
				d.ran("gone", failure.InvalidWorkflow)
				d.bury()
				d.append(job.Dead, func(e *job.Event) { e.Host = "gone" })
			},
			story: "queued started@gone failed@gone dead@gone",
		},
		"CompletedIsAppended": {
			until: func(d *doomed) {
				d.append(job.Queued)
				d.ran("gone", "")
				d.append(job.Completed, func(e *job.Event) { e.Host = "gone" })
			},
			story: "queued started@gone completed@gone",
		},
		"CancelledBeforeTheAck": {until: func(d *doomed) { d.append(job.Queued); d.put(d.ticket()); d.append(job.Cancelled) }, story: "queued cancelled"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, setup{hosts: names("a"), jetstream: shortLeases()})
			r := f.submit("acme", job.Spec{Workflow: picture(0x123456)})
			c.until(f.take())
			f.dispatcher(setup{}.config)
			chain := f.chain(r)
			if got := story(slices.DeleteFunc(chain, func(e job.Event) bool { return e.EventKind == job.Waiting })); got != c.story {
				t.Errorf("chain is %q, want %q", got, c.story)
			}
			f.drained()
			if runs, want := f.runs()["a"], strings.Count(c.story, "completed@a"); runs != want {
				t.Errorf("host a ran it %d times, want %d", runs, want)
			}
			f.wantBlockOf("gone", picture(0x123456), c.blocked)
		})
	}
}
