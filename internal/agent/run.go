package agent

import (
	"context"
	"encoding/binary"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// key names one attempt of a job.
type key struct {
	tenant  job.Tenant
	job     job.ID
	attempt int
}

func (k key) String() string {
	return string(k.tenant) + "/" + string(k.job) + "#" + strconv.Itoa(k.attempt)
}

// run is one accepted attempt.
type run struct {
	key
	offer    *queue.Offer // as accepted; its lease may have been replaced since
	prompt   string       // its id in ComfyUI
	since    time.Time    // accepted, by this machine's clock
	accepted time.Time    // the same by NATS' clock

	lease      atomic.Pointer[queue.Lease] // replaced when NATS delivered the job again
	superseded atomic.Bool                 // a newer attempt has started elsewhere, which has the lease now
	reporting  atomic.Bool                 // ComfyUI is no longer needed
	unstored   bool                        // a result of it cannot be stored; guarded by the admission's lock
	end        context.CancelCauseFunc     // stops the attempt's work with ComfyUI

	following     sync.WaitGroup     // the goroutine that follows the chain, once it has begun
	stopFollowing context.CancelFunc // ends it
}

func newRun(o *queue.Offer, prompt string, now time.Time, end context.CancelCauseFunc) *run {
	r := &run{key: keyOf(o), offer: o, prompt: prompt, since: time.Now(), accepted: now, end: end}
	r.lease.Store(&o.Lease)
	return r
}

func keyOf(o *queue.Offer) key { return key{job.Tenant(o.Message.Tenant), o.Job, o.Attempt} }

func (r *run) currentLease() queue.Lease { return *r.lease.Load() }

// jobEnded is why a run must stop: its job's chain has a terminal event of another process.
type jobEnded struct{ by job.EventKind }

func (e *jobEnded) Error() string { return "the job is " + string(e.by) }

// displaced is why a run must stop on a host that cannot run it any more.
type displaced struct {
	cause  failure.Cause
	reason string
}

func (d *displaced) Error() string { return d.reason }

// agentStopping is why a run must stop when the agent shuts down.
type agentStopping struct{}

func (agentStopping) Error() string { return "the agent is shutting down" }

// abandoned is why an attempt ends without an event: the drain time is over, and NATS or its object store cannot take what is
// left to do. The job's lease runs out, as after a crash, and an agent that is started later finds the prompt again.
type abandoned struct{}

func (abandoned) Error() string { return "the drain time is over" }

// apply takes in an event of the job's chain, which may be this agent's own.
func (r *run) apply(e job.Event) {
	switch {
	case e.EventKind.Terminal() && e.PromptID != r.prompt:
		r.end(&jobEnded{e.EventKind})
	case e.EventKind == job.Started && e.Attempt > r.attempt:
		r.superseded.Store(true)
	}
}

// drawSeed draws a seed: random for each prompt, and the same again when the prompt is resumed. It has 32 bits, which is
// as many as most nodes take; Prepare brings it within the limit of its input.
func (a *attempt) drawSeed() uint64 {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], a.drawn)
	a.drawn++
	seed := uuid.NewSHA1(uuid.MustParse(a.prompt), n[:])
	return uint64(binary.BigEndian.Uint32(seed[:4]))
}
