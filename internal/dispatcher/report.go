package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/jetstream"
)

// positionOf tells a waiting job's place and when it may start.
func (b *brain) positionOf(tenant job.Tenant, id job.ID) (position, of int, eta *time.Time) {
	b.ask(func(now time.Time) {
		ticket, waits := b.waiting.ByJob(route.Tenant(tenant), route.JobID(id))
		if !waits {
			return
		}
		position, of = b.waiting.Position(b.fleet, ticket.Sequence, now)
		if at := b.waiting.ETA(b.fleet, ticket.Sequence, now); !at.IsZero() {
			eta = &at
		}
	})
	return position, of, eta
}

func (b *brain) waitingCount() int { return int(b.depth.Load()) }

func (b *brain) listHosts() []jetstream.HostInfo {
	infos := []jetstream.HostInfo{}
	b.ask(func(time.Time) {
		for name, h := range b.hosts {
			info := jetstream.HostInfo{HostState: h.state, Capability: b.capabilities[name].Len()}
			info.Blocks, info.Strikes = countPairs(b.blocked, name), countPairs(b.struck, name)
			infos = append(infos, info)
		}
	})
	slices.SortFunc(infos, func(x, y jetstream.HostInfo) int { return strings.Compare(x.Host, y.Host) })
	return infos
}

func countPairs(pairs map[pair]bool, host string) int {
	n := 0
	for p := range pairs {
		if p.host == host {
			n++
		}
	}
	return n
}

func (d *Dispatcher) apiWhy(ctx context.Context, r jetstream.WhyRequest) (jetstream.WhyAnswer, error) {
	if len(r.Workflow) > 0 {
		return d.whyWorkflow(r)
	}
	return d.whyJob(ctx, jetstream.StatusRequest{Tenant: r.Tenant, Job: r.Job})
}

func (d *Dispatcher) whyWorkflow(r jetstream.WhyRequest) (jetstream.WhyAnswer, error) {
	tenant := r.Tenant
	if tenant == "" {
		tenant = "default"
	}
	j, err := job.Parse(job.Message{Tenant: string(tenant), Priority: job.Usual, Received: d.clock(), Body: r.Workflow})
	if err != nil {
		return jetstream.WhyAnswer{}, &jetstream.BadRequest{Message: err.Error()}
	}
	return d.brain.why(&owned{job: j}), nil
}

func (d *Dispatcher) whyJob(ctx context.Context, r jetstream.StatusRequest) (jetstream.WhyAnswer, error) {
	status, err := d.apiStatus(ctx, r)
	if err != nil {
		return jetstream.WhyAnswer{}, err
	}
	answer := jetstream.WhyAnswer{Job: r.Job, State: status.State, Text: stateText(&status.Event), Hosts: []route.HostVerdict{}}
	if !waits(status.State) {
		return answer, nil
	}
	chain, err := d.q.Chain(ctx, r.Tenant, r.Job)
	if err != nil {
		return jetstream.WhyAnswer{}, err
	}
	message, err := d.q.Stored(ctx, sequenceIn(chain))
	if err != nil {
		return jetstream.WhyAnswer{}, err
	}
	j, err := job.Parse(message)
	if err != nil {
		return jetstream.WhyAnswer{}, err
	}
	o := &owned{job: j, notBefore: j.NotBefore()}
	err = d.recall(ctx, o)
	if errors.Is(err, errUnderWay) {
		answer.Text = "it has just stopped waiting: ask again"
		return answer, nil
	}
	if err != nil {
		return jetstream.WhyAnswer{}, err
	}
	answer = d.brain.why(o)
	answer.Job, answer.State = r.Job, status.State
	answer.Position, answer.Of, answer.ETA = status.Position, status.Of, status.ETA
	return answer, nil
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

func (b *brain) why(o *owned) jetstream.WhyAnswer {
	answer := jetstream.WhyAnswer{Text: "it only waits its turn: hosts that may take it are busy"}
	b.ask(func(now time.Time) {
		b.learnNeeds(o)
		b.lacking(o)
		want := wantOf(o)
		answer.Hosts = b.fleet.Explain(want, now)
		b.addReasons(answer.Hosts)
		b.addLacks(o, answer.Hosts)
		hold := b.fleet.Hold(want, now)
		some := func(code route.Code) bool {
			return slices.ContainsFunc(answer.Hosts, func(v route.HostVerdict) bool { return v.Code == code })
		}
		guilt := b.memory.proven(accused{o.job.Tenant, want.Hash})
		switch {
		case guilt != "":
			answer.Text = guilt
		case hold.Reason != "":
			answer.Reason, answer.Text = hold.Reason, hold.Text
		case some(route.Eligible):
			answer.Text = "a host may take it at once"
		case some(route.CodeCold):
			answer.Text = "it waits for a host that has its models in memory, which is faster than to load them on an idle one"
		}
		if !hold.Until.IsZero() {
			answer.Until = &hold.Until
		}
	})
	return answer
}

// addReasons says why hosts take no job at all, or one at a time, in their own words.
func (b *brain) addReasons(verdicts []route.HostVerdict) {
	for i := range verdicts {
		v := &verdicts[i]
		h := b.hosts[string(v.Host)]
		if h == nil {
			continue
		}
		s := &h.state
		switch sick := v.Code == route.CodeSick || v.Code == route.CodeDrain; {
		case sick && s.Cause != "" && v.Code == route.CodeSick:
			v.Text += fmt.Sprintf(" (%s): %s", s.Cause, s.Reason)
		case sick && s.Reason != "":
			v.Text += ": " + s.Reason
		case !sick && s.Trial:
			v.Text += fmt.Sprintf("; on trial (%s): it takes one job at a time, and the next of another workflow decides: %s", s.Cause, s.Reason)
		}
	}
}

func (d *Dispatcher) apiQueue(context.Context, struct{}) (jetstream.QueueAnswer, error) {
	answer := jetstream.QueueAnswer{}
	d.brain.ask(func(now time.Time) { answer.Lanes = d.brain.waiting.Lanes(d.brain.fleet, now) })
	return answer, nil
}
