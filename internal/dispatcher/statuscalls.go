package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/jetstream"
)

// positionOf gives a waiting job's place and when it may start.
func (d *Dispatcher) positionOf(ctx context.Context, tenant job.Tenant, id job.ID) (position, of int, eta *time.Time, err error) {
	l := d.loop
	err = d.answer(ctx, func(now time.Time) {
		ticket, waits := l.room.ByJob(route.Tenant(tenant), route.JobID(id))
		if !waits {
			return
		}
		position, of = l.room.Position(l.fleet, ticket.Sequence, now)
		if at := l.room.ETA(l.fleet, ticket.Sequence, now); !at.IsZero() {
			eta = &at
		}
	})
	return position, of, eta, err
}

func checkJob(tenant job.Tenant, id job.ID) error {
	if !tenant.Valid() || !id.Valid() {
		return &jetstream.BadRequest{Message: `give {"tenant":"…","job":"…"}: 1 to 64, and 1 to 120, of A-Z a-z 0-9 _ -`}
	}
	return nil
}

func noJob(tenant job.Tenant, id job.ID) error {
	return &jetstream.NotFound{Message: fmt.Sprintf("not found: tenant %s has no job %s (events are kept for a limited time)", tenant, id)}
}

func (d *Dispatcher) apiStatus(ctx context.Context, r jetstream.StatusRequest) (jetstream.JobStatus, error) {
	chain, err := d.chainOf(ctx, r)
	if err != nil {
		return jetstream.JobStatus{}, err
	}
	return d.statusOf(ctx, chain)
}

// chainOf reads the chain of a job that has one.
func (d *Dispatcher) chainOf(ctx context.Context, r jetstream.StatusRequest) ([]queue.Link, error) {
	if err := checkJob(r.Tenant, r.Job); err != nil {
		return nil, err
	}
	chain, err := d.q.Chain(ctx, r.Tenant, r.Job)
	if err == nil && len(chain) == 0 {
		err = noJob(r.Tenant, r.Job)
	}
	return chain, err
}

func (d *Dispatcher) statusOf(ctx context.Context, chain []queue.Link) (s jetstream.JobStatus, err error) {
	last := &chain[len(chain)-1]
	s = jetstream.JobStatus{Job: last.Job, Tenant: last.Tenant, State: last.EventKind, Event: last.Event}
	if !last.EventKind.Terminal() {
		if s.Position, s.Of, s.ETA, err = d.positionOf(ctx, last.Tenant, last.Job); err != nil {
			return s, err
		}
	}
	s.Events, err = d.newest(chain)
	s.Earlier = len(chain) - len(s.Events)
	return s, err
}

// newest gives the last events of a chain, as many as have room beside the last one, which the answer has already.
func (d *Dispatcher) newest(chain []queue.Link) ([]jetstream.EventRow, error) {
	p, err := d.page(0)
	if err != nil {
		return nil, err
	}
	rows := []jetstream.EventRow{}
	for i := range slices.Backward(chain) {
		row := queue.RowOf(&chain[i])
		fits, err := p.take(&row)
		if err != nil {
			return nil, err
		}
		if !fits {
			break
		}
		rows = append(rows, row)
	}
	slices.Reverse(rows)
	return rows, nil
}

// view says for whom an answer is: for operators, or for a tenant.
type view bool

const (
	ofTenant   view = false // texts of other tenants' failures, and of why hosts are out because of them, are left out
	ofOperator view = true
)

func (d *Dispatcher) apiWhy(ctx context.Context, r jetstream.WhyRequest) (jetstream.WhyAnswer, error) {
	return d.whyFor(ctx, r, ofOperator)
}

func (d *Dispatcher) whyFor(ctx context.Context, r jetstream.WhyRequest, to view) (answer jetstream.WhyAnswer, err error) {
	p, err := d.page(r.Limit)
	if err != nil {
		return answer, err
	}
	hosts := whyHosts{to: to, after: route.HostID(r.After), most: p.rows + 1}
	if len(r.Workflow) > 0 {
		answer, err = d.whyWorkflow(ctx, r, hosts)
	} else {
		answer, err = d.whyJob(ctx, jetstream.StatusRequest{Tenant: r.Tenant, Job: r.Job}, hosts)
	}
	if err != nil {
		return answer, err
	}
	all := answer.Hosts
	if answer.Hosts, err = takeFirst(p, all); len(answer.Hosts) < len(all) && err == nil {
		answer.Next = string(answer.Hosts[len(answer.Hosts)-1].Host)
	}
	return answer, err
}

func (d *Dispatcher) whyWorkflow(ctx context.Context, r jetstream.WhyRequest, hosts whyHosts) (answer jetstream.WhyAnswer, err error) {
	tenant := r.Tenant
	if tenant == "" {
		tenant = "default"
	}
	var j *job.Job
	if late := d.answers.compute(ctx, func() {
		j, err = job.Parse(job.Message{Tenant: string(tenant), Priority: job.Usual, Received: d.clock(), Body: r.Workflow})
	}); late != nil {
		return answer, late
	}
	if err != nil {
		return answer, &jetstream.BadRequest{Message: err.Error()}
	}
	if j.Graph == nil {
		return answer, &jetstream.BadRequest{Message: "the workflow is in a file: send the workflow itself"}
	}
	return d.why(ctx, &owned{job: j}, hosts)
}

func (d *Dispatcher) whyJob(ctx context.Context, r jetstream.StatusRequest, hosts whyHosts) (answer jetstream.WhyAnswer, err error) {
	chain, err := d.chainOf(ctx, r)
	if err != nil {
		return answer, err
	}
	status, err := d.statusOf(ctx, chain)
	if err != nil {
		return answer, err
	}
	answer = jetstream.WhyAnswer{Job: r.Job, State: status.State, Text: stateText(&status.Event), Hosts: []route.HostVerdict{}}
	if !waits(status.State) {
		return answer, nil
	}
	o, err := d.waitingOf(ctx, chain)
	if errors.Is(err, errUnderWay) {
		answer.Text = "it has just stopped waiting: ask again"
		return answer, nil
	}
	if err != nil {
		return answer, err
	}
	answer, err = d.why(ctx, o, hosts)
	answer.Job, answer.State = r.Job, status.State
	answer.Position, answer.Of, answer.ETA = status.Position, status.Of, status.ETA
	return answer, err
}

// waitingOf reads a job that waits.
func (d *Dispatcher) waitingOf(ctx context.Context, chain []queue.Link) (*owned, error) {
	message, err := d.q.Stored(ctx, sequenceIn(chain))
	if errors.Is(err, queue.ErrGone) {
		return nil, errUnderWay // its end is being written
	}
	if err != nil {
		return nil, err
	}
	var j *job.Job
	if late := d.answers.compute(ctx, func() { j, err = job.Parse(message) }); late != nil {
		return nil, late
	}
	if last := &chain[len(chain)-1]; err != nil || j.Tenant != last.Tenant || j.ID != last.Job {
		return nil, errUnderWay // of a stream that was made again: its end will be written
	}
	if j.Graph == nil {
		if j, _, err = d.parse(ctx, message); err != nil {
			return nil, err
		}
	}
	o := &owned{job: j, notBefore: j.NotBefore()}
	return o, d.readAttempts(ctx, o)
}

func stateText(e *job.Event) string {
	switch e.EventKind {
	case job.Started:
		return "it runs on host " + e.Host
	case job.Completed:
		return "it has completed on host " + e.Host
	case job.Cancelled:
		return "it was cancelled by " + e.By
	case job.Dead:
		return "it is dead (" + e.Reason + "): " + e.Message
	}
	return "it is " + string(e.EventKind)
}

// whyHosts says for whom it is answered why a job waits, and for which hosts: the first ones after a name.
type whyHosts struct {
	to    view
	after route.HostID
	most  int
}

// verdictsMost is how many hosts the loop judges for a call at a time.
const verdictsMost = 64

// why says why a job waits, and then for the hosts, some at a time, why they do not run it.
func (d *Dispatcher) why(ctx context.Context, o *owned, hosts whyHosts) (answer jetstream.WhyAnswer, err error) {
	if err := d.answer(ctx, func(now time.Time) { answer = d.loop.why(o, hosts.to, now) }); err != nil {
		return answer, err
	}
	answer.Hosts = []route.HostVerdict{}
	for left := hosts.most; left > 0; left = hosts.most - len(answer.Hosts) {
		var some []route.HostVerdict
		part := whyHosts{hosts.to, hosts.after, min(left, verdictsMost)}
		if err := d.answer(ctx, func(now time.Time) { some = d.loop.verdicts(o, part, now) }); err != nil {
			return answer, err
		}
		if answer.Hosts = append(answer.Hosts, some...); len(some) < part.most {
			break
		}
		hosts.after = some[len(some)-1].Host
	}
	return answer, nil
}

// verdicts says of some hosts why they do not run a job.
func (l *loop) verdicts(o *owned, hosts whyHosts, now time.Time) []route.HostVerdict {
	l.needs.learn(o.job)
	l.setLacks(o)
	want := wantOf(o)
	want.Whole = bool(hosts.to)
	verdicts := l.fleet.ExplainSome(want, hosts.after, hosts.most, now)
	l.addReasons(verdicts, o.job.Tenant, hosts.to)
	l.addLacks(o, verdicts)
	return verdicts
}

func (l *loop) why(o *owned, to view, now time.Time) jetstream.WhyAnswer {
	answer := jetstream.WhyAnswer{Text: "it only waits its turn: hosts that may take it are busy"}
	l.needs.learn(o.job)
	l.setLacks(o)
	want := wantOf(o)
	want.Whole = bool(to)
	hold := l.fleet.Hold(want, now)
	eligible, cold := l.fleet.Outlook(want, now)
	proof := l.guilt.proof(o.tenantHash())
	switch {
	case proof != "":
		answer.Text = proof
	case l.ticketing.rests(o, now):
		answer.Text = l.ticketing.restText(o)
	case hold.Reason != "":
		answer.Reason, answer.Text = hold.Reason, hold.Text
	case eligible:
		answer.Text = "a host may take it at once"
	case cold:
		answer.Text = "it waits for a host that has its models in memory, which is faster than to load them on an idle one"
	}
	if !hold.Until.IsZero() {
		answer.Until = &hold.Until
	}
	if most := l.room.CountsAs(want.Tenant, want.Priority); most < want.Priority {
		answer.Text += fmt.Sprintf("; its priority %d counts as %d, the most of tenant %s", want.Priority, most, want.Tenant)
	}
	return answer
}

// addReasons adds to verdicts why hosts take no job at all, or one at a time. The text that a host reports may describe how a
// job failed: operators get it, and a tenant when the job was its own. Others get the cause alone.
func (l *loop) addReasons(verdicts []route.HostVerdict, tenant job.Tenant, to view) {
	for i := range verdicts {
		v := &verdicts[i]
		s, reason := l.hosts.state(string(v.Host)), ""
		if s == nil {
			continue
		}
		if s.Reason != "" && (to == ofOperator || s.Blame != nil && s.Blame.Tenant == tenant) {
			reason = ": " + s.Reason
		}
		switch sick := v.Code == route.CodeSick || v.Code == route.CodeDrain; {
		case sick && s.Cause != "" && v.Code == route.CodeSick:
			v.Text += fmt.Sprintf(" (%s)%s", s.Cause, reason)
		case sick:
			v.Text += reason
		case s.Trial:
			v.Text += fmt.Sprintf("; on trial (%s): it takes one job at a time, and the next of another workflow decides%s", s.Cause, reason)
		}
	}
}
