package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/daemon"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// claim is something that must have been observed.
type claim struct {
	what string
	seen bool
	how  string // the particulars of what was seen
}

func (d *demo) scenes() []scene {
	scenes := []scene{
		{"Normal runs", nil, d.lookNormal, d.playNormal, d.claimNormal},
		{"A failure", nil, d.lookFailure, d.playFailure, d.claimFailure},
		{"The block", d.ensureBlock, d.lookBlock, d.playBlock, d.claimBlock},
		{"Recovery", d.ensureBlock, d.lookRecovery, d.playRecovery, d.claimRecovery},
	}
	if d.alone() {
		return scenes
	}
	return append(scenes, scene{"A workflow at fault", nil, d.lookFault, d.playFault, d.claimFault})
}

func (d *demo) lookNormal() string {
	spread := "the work spreads over all of them"
	if d.alone() {
		spread = "there is only one"
	}
	return "Six jobs of three tenants and two workflows. Look at the hosts: " + spread + "."
}

func (d *demo) playNormal(ctx context.Context) error {
	if err := d.submit(ctx, 1, 2, 3, 4, 5, 6); err != nil {
		return err
	}
	return d.until(ctx, func() bool { return d.ended(1, 2, 3, 4, 5, 6) })
}

func (d *demo) claimNormal() []claim {
	var on []string
	completed := 0
	for n := 1; n <= 6; n++ {
		if host := d.record.completedOn(d.jobs[n-1].id()); host != "" {
			completed++
			on = append(on, host)
		}
	}
	slices.Sort(on)
	on = slices.Compact(on)
	wanted := len(d.stage.hosts())
	if len(d.o.Hosts) > 0 {
		wanted = 1 // a real host may have work of its own
	}
	return []claim{
		{"six jobs of three tenants complete", completed == 6, ""},
		{"the hosts share them", len(on) >= wanted, strings.Join(on, ", ")},
	}
}

// lookFailure breaks something on the failing host.
func (d *demo) lookFailure() string {
	then := "another host completes it"
	if d.alone() {
		then = "it ends dead, since there is no other host"
	}
	return fmt.Sprintf("%s Look at job-07: it fails there, and %s.", d.stage.damage(), then)
}

func (d *demo) playFailure(ctx context.Context) error {
	if err := d.submit(ctx, firstToFail); err != nil {
		return err
	}
	return d.until(ctx, func() bool {
		blocked, _ := d.blocked()
		return d.ended(firstToFail) && (blocked != nil || d.failed() == nil)
	})
}

// failed is the first failure of the job that is to fail.
func (d *demo) failed() *job.Event {
	for _, s := range d.record.jobs(d.jobs[firstToFail-1].id(), job.Failed) {
		return s.job
	}
	return nil
}

func (d *demo) blocked() (blocked, unblocked *observation) {
	return d.record.block(d.stage.failingHost(), d.hashes[portrait])
}

// mostRenewals is how often a block is made again.
const mostRenewals = 3

// ensureBlock makes the block again when too little is left of it for a scene: a person has read for long, or the machine is slow.
func (d *demo) ensureBlock(ctx context.Context) error {
	blocked, unblocked := d.blocked()
	if blocked == nil || unblocked == nil && time.Until(blocked.block.Until) >= sceneTime || d.renewals == mostRenewals {
		return nil
	}
	d.renewals++
	if err := d.until(ctx, func() bool { _, over := d.blocked(); return over != nil }); err != nil {
		return err
	}
	d.out.say("")
	d.out.text("   ", "The block has run out meanwhile. Another portrait fails on "+d.stage.failingHost()+", and it is blocked again, for longer.")
	again := plannedJob{
		number: len(d.jobs) + 1, tenant: "acme", workflow: portrait, prefer: d.stage.failingHost(), damaged: true, dies: d.alone(),
	}
	d.jobs = append(d.jobs, again)
	if err := errors.Join(d.expect(&again), d.idle(ctx), d.submit(ctx, again.number)); err != nil {
		return err
	}
	return d.until(ctx, func() bool {
		_, over := d.blocked()
		return d.ended(again.number) && over == nil
	})
}

func (d *demo) claimFailure() []claim {
	failed, end := d.failed(), d.record.end(d.jobs[firstToFail-1].id())
	there := claim{what: "the portrait fails on " + d.stage.failingHost()}
	if failed != nil && failed.Host == d.stage.failingHost() && failed.Kind == failure.ExecutionError {
		there.seen, there.how = true, spaced(failed.Kind)
	}
	after := claim{what: "the same job completes on another host"}
	if d.alone() {
		after.what = "the job ends dead, there being no other host"
		after.seen = end != nil && end.EventKind == job.Dead
		return []claim{there, after}
	}
	if failed != nil && end != nil && end.EventKind == job.Completed && end.Host != failed.Host {
		after.seen, after.how = true, fmt.Sprintf("%s, attempt %d", end.Host, end.Attempt)
	}
	return []claim{there, after}
}

func (d *demo) lookBlock() string {
	portraits := "run elsewhere"
	if d.alone() {
		portraits = "wait"
	}
	return fmt.Sprintf("All three jobs wish for %[1]s. Look at job-08 and job-10: acme's portraits %[2]s now, while a poster still runs on %[1]s.",
		d.stage.failingHost(), portraits)
}

// playBlock ends when the poster has ended, and each portrait has ended or waits with a reason.
func (d *demo) playBlock(ctx context.Context) error {
	if err := d.submit(ctx, 8, 9, 10); err != nil {
		return err
	}
	placed := func(n int) bool { return d.ended(n) || len(d.record.jobs(d.jobs[n-1].id(), job.Waiting)) > 0 }
	return d.until(ctx, func() bool { return d.ended(9) && placed(8) && placed(10) })
}

func (d *demo) claimBlock() []claim {
	failing := d.stage.failingHost()
	blocked, unblocked := d.blocked()
	block := claim{what: "portraits are blocked on " + failing, seen: blocked != nil}
	if blocked != nil {
		block.how = fmt.Sprintf("for %s, %s", holders(blocked.block), daemon.Span(blocked.block.Until.Sub(blocked.time).Round(100*time.Millisecond)))
	}
	avoided := claim{what: "portraits avoid " + failing}
	if blocked != nil && len(d.record.startedOn(failing, d.hashes[portrait], blocked, unblocked)) == 0 {
		avoided.seen, avoided.how = d.avoided(blocked, unblocked)
	}
	others := claim{what: "posters still run on " + failing}
	for _, s := range d.record.startedOn(failing, d.hashes[poster], blocked, unblocked) {
		if d.record.completedOn(s.job.Job) == failing {
			others.seen, others.how = true, fmt.Sprintf("%s of %s", s.job.Job, s.job.Tenant)
		}
	}
	return []claim{block, avoided, others}
}

// avoided says on which other hosts the two portraits ran while the block was in force, or, when there is no other host, that they waited.
func (d *demo) avoided(blocked, unblocked *observation) (seen bool, how string) {
	var where []string
	for _, n := range []int{8, 10} {
		id := d.jobs[n-1].id()
		if d.alone() {
			waits := d.record.jobs(id, job.Waiting)
			if len(waits) == 0 || !within(waits[0], blocked, unblocked) {
				return false, ""
			}
			where = append(where, fmt.Sprintf("%s waits", id))
			continue
		}
		starts := d.record.jobs(id, job.Started)
		if len(starts) == 0 || !within(starts[0], blocked, unblocked) || d.record.completedOn(id) != starts[0].job.Host {
			return false, ""
		}
		where = append(where, fmt.Sprintf("%s on %s", id, starts[0].job.Host))
	}
	return true, strings.Join(where, ", ")
}

// lookRecovery repairs what was broken.
func (d *demo) lookRecovery() string {
	return fmt.Sprintf("%s Look at job-11: it may run on %s only, waits for the end of the block, and starts at once.",
		d.stage.repair(), d.stage.failingHost())
}

// playRecovery ends when all jobs and the block have ended.
func (d *demo) playRecovery(ctx context.Context) error {
	if err := d.submit(ctx, 11); err != nil {
		return err
	}
	over := func() bool {
		blocked, unblocked := d.blocked()
		return blocked == nil || unblocked != nil
	}
	if err := d.until(ctx, func() bool { return over() && d.ended(8, 10, 11) }); err != nil {
		return err
	}
	if err := d.idle(ctx); err != nil {
		return err
	}
	if err := d.submit(ctx, 12); err != nil {
		return err
	}
	return d.until(ctx, func() bool { return d.ended(12) })
}

func (d *demo) claimRecovery() []claim {
	failing := d.stage.failingHost()
	blocked, unblocked := d.blocked()
	over := claim{what: "the block runs out by itself, told once"}
	told := d.record.all(func(s *observation) bool {
		return s.unblocked != nil && blocked != nil && s.sequence > blocked.sequence
	})
	if unblocked != nil && len(told) == 1 {
		over.seen = unblocked.unblocked.Cause == queue.Expired
		over.how = fmt.Sprintf("after %s", daemon.Span(unblocked.unblocked.Time.Sub(blocked.time)))
	}
	again := claim{what: "portraits run on " + failing + " again"}
	if unblocked != nil && d.record.completedOn(d.jobs[10].id()) == failing && d.record.completedOn(d.jobs[11].id()) == failing {
		// The event unblocked and the job's event started may be stored in either order; the time at which the block ended is a field
		// of the first.
		starts := d.record.jobs(d.jobs[10].id(), job.Started)
		if late := starts[0].time.Sub(unblocked.unblocked.Time); late >= 0 {
			again.seen, again.how = true, fmt.Sprintf("job-11 started %s after the end of the block", daemon.Span(late))
		}
	}
	return []claim{over, again}
}

// printClaims prints which claims were observed.
func (d *demo) printClaims(claims []claim) {
	for _, c := range claims {
		d.out.claim(c)
		if !c.seen {
			d.unobserved = append(d.unobserved, c.what)
		}
	}
}
