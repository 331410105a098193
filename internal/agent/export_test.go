package agent

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfy"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// Lively reads through r and sets timer back with every read.
func Lively(r io.Reader, timer *time.Timer, pause time.Duration) io.Reader {
	return &timedReader{r, timer, pause}
}

// PromptID is the id of an offered attempt in a fleet with this secret.
func PromptID(secret []byte, o *queue.Offer, created time.Time) string {
	return newPromptIDs(secret).of(o, created)
}

// FormerPromptID is the id that an agent without a secret has given.
var FormerPromptID = formerPromptID

// Allows reports whether inputs may be fetched from an address under a policy.
func Allows(policy, address string) (bool, error) {
	r, err := parseReachable(policy)
	if err != nil {
		return false, err
	}
	return r.Allow(netip.MustParseAddr(address)), nil
}

// NewFetcher fetches inputs under a policy, through a proxy where that function gives one.
func NewFetcher(policy string, proxy func(*http.Request) (*url.URL, error)) (*http.Client, error) {
	r, err := parseReachable(policy)
	return newFetcher(r, proxy), err
}

// What small functions make of their input.
// Reduce makes a small picture.
var Reduce = reduce

var (
	Redact    = redact
	InputName = inputName
	Clip      = clip
	StuckText = stuckText
)

// ModelLoads are the loads of models that an attempt at a job reports, by how long it and its nodes ran.
func ModelLoads(j *job.Job, ran time.Duration, nodes map[string]time.Duration) []queue.ModelLoad {
	return (&attempt{job: j, ran: ran, result: &comfy.Result{NodeTimes: nodes}}).modelLoads()
}

// Admission is a host's admission without the host.
type Admission struct {
	all  *admission
	runs []*run // accepted, in their order
}

// NewAdmission is that of a host that was not probed yet.
func NewAdmission(s queue.HostState, c clock) *Admission { return &Admission{all: newAdmission(s, c)} }

// Decide answers an offer; fresh says that a run begins.
func (a *Admission) Decide(o queue.Offer) (answer queue.Answer, reason string, fresh bool) {
	v := a.all.decide(&o, func() *run {
		r := newRun(&o, "prompt", o.Message.Received, func(error) {})
		a.runs = append(a.runs, r)
		return r
	})
	return v.answer, v.reason, v.fresh != nil
}

// Free frees the slot of the nth run, Remove ends its attempt, and Supersede lets another attempt have its lease.
func (a *Admission) Free(n int) (held, read bool) { return a.all.free(a.runs[n]) }
func (a *Admission) Remove(n int)                 { a.all.remove(a.runs[n]) }
func (a *Admission) Supersede(n int)              { a.runs[n].superseded.Store(true) }

// Set changes what else decides, and reports whether dispatchers see a difference.
func (a *Admission) Set(stopping, drained, reading bool, foreign int) bool {
	return a.all.change(func(d *admission) {
		d.stopping, d.drained, d.reading, d.public.Foreign = stopping, drained, reading, foreign
	})
}

// Out puts a condition, or a trial, and Well ends one.
func (a *Admission) Out(cause failure.Cause, reason string, trial bool, blame *queue.Blame) bool {
	return a.all.change(func(d *admission) {
		d.conditions.put(condition{cause: cause, reason: reason, trial: trial, blame: blame})
	})
}
func (a *Admission) Well(cause failure.Cause) bool {
	return a.all.change(func(d *admission) { d.conditions.remove(cause) })
}

// Drain drains the host.
func (a *Admission) Drain(by string) bool {
	return a.all.change(func(d *admission) { d.drained, d.drainedBy = true, by })
}

// FailAlike records a failure of a workflow for which the host may be the reason.
func (a *Admission) FailAlike(hash workflow.Hash, process string, blame *queue.Blame) (proven bool) {
	a.all.change(func(d *admission) {
		proven = d.conditions.failedAlike(condition{cause: failure.Poisoned, reason: "alike", process: process, blame: blame}, hash)
	})
	return proven
}

// Unknown reports whether the attempt of an offer is not here, and then calls begin.
func (a *Admission) Unknown(o queue.Offer, begin func()) bool { return a.all.unknown(&o, begin) }

// Counts are how many runs there are, and how many of them hold a slot.
func (a *Admission) Counts() (all, busy int) { return len(a.all.all()), a.all.busy() }

// Oldest is the job that has had its slot for longest, and the blame that it would get; nothing without any.
func (a *Admission) Oldest() (job.ID, *queue.Blame) {
	r := a.all.running()
	if r == nil {
		return "", blameOf(r)
	}
	return r.job, blameOf(r)
}

func (a *Admission) Has(cause failure.Cause) bool   { return a.all.has(cause) }
func (a *Admission) CanRun() bool                   { return a.all.canRun() }
func (a *Admission) Condition() queue.HostCondition { return a.all.condition() }

// Remove reports whether there was a condition of a cause.
func (c *Conditions) Remove(cause failure.Cause) bool { return c.all.remove(cause) }

func (a *Admission) State() queue.HostState                               { return a.all.state() }
func (a *Admission) Empty() <-chan struct{}                               { return a.all.empty() }
func (a *Admission) Leases() (held []queue.Lease, shortest time.Duration) { return a.all.leases() }

// Conditions is a host's conditions without the host.
type Conditions struct{ all conditions }

// Put adds a condition that was found in a process of ComfyUI and for which a tenant's job is blamed, if any is given.
func (c *Conditions) Put(cause failure.Cause, process string, tenant job.Tenant) {
	c.all.put(condition{cause: cause, process: process, blame: blamed(tenant)})
}

// Fail records a failure of a workflow in a process, at a time.
func (c *Conditions) Fail(hash workflow.Hash, reason string, tenant job.Tenant, since time.Time) (proven bool) {
	return c.all.failedAlike(condition{cause: failure.Poisoned, reason: reason, process: "1", blame: blamed(tenant), since: since}, hash)
}

// Pass records that a workflow that began at a time has completed.
func (c *Conditions) Pass(hash workflow.Hash, began time.Time) (ended bool) {
	return c.all.passed(hash, began)
}

// Restart makes ComfyUI another process.
func (c *Conditions) Restart(process string) { c.all.otherProcess(process) }

// Lasting is the cause of what is stored for the next agent.
func (c *Conditions) Lasting() failure.Cause {
	if l := c.all.lasting(); l != nil {
		return l.cause
	}
	return ""
}

func (c *Conditions) String() string {
	var all []string
	for _, c := range c.all {
		text := fmt.Sprintf("%s of process %q", c.cause, c.process)
		if c.trial {
			text += " on trial"
		}
		if c.reason != "" {
			text += ": " + c.reason
		}
		if c.blame != nil {
			text += " by " + string(c.blame.Tenant)
		}
		all = append(all, text)
	}
	return strings.Join(all, "; ")
}

func blamed(tenant job.Tenant) *queue.Blame {
	if tenant == "" {
		return nil
	}
	return &queue.Blame{Tenant: tenant}
}
