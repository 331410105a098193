package dispatcher

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/comfyherd/comfyherd/internal/route"
)

// hostRests says which hosts are given no jobs for a while, since they were given some and have not begun them. The
// first rest is as long as an agent has to begin a job, and each further one twice as long. A host that has begun a job
// after its rest starts anew.
type hostRests struct {
	first   time.Duration
	alarms  *alarms
	log     *slog.Logger
	changed func(host string, now time.Time) // called when a rest begins or ends

	records map[string]*record
}

const restLongest = 15 * time.Minute

// doubtsMost is how many doubts count as much as a job that was not begun. A host that was only frozen, or cut off, has few.
const doubtsMost = 3

// record is what counts against a host.
type record struct {
	unbegun int // jobs that it has accepted and not begun, since it last began one
	doubts  int // leases that ran out, or offers without an answer, since then
	rests   int // since then
	until   time.Time
}

func (r *record) text() string {
	if n := r.unbegun + r.doubts; n > 1 {
		return fmt.Sprintf("%d jobs were given to it, and it has begun none of them", n)
	}
	return "it has accepted a job and not begun it"
}

func newHostRests(r hostRests) *hostRests {
	r.records = map[string]*record{}
	return &r
}

// notBegun counts a job against its host, and has the host rest. While it rests, further jobs that it accepted before do not
// make the rest longer. When the host has not confirmed that it has the job, the job counts only as a doubt.
func (r *hostRests) notBegun(host string, accepted bool, now time.Time) {
	x := r.records[host]
	if x == nil {
		x = &record{until: now}
		r.records[host] = x
	}
	if accepted {
		x.unbegun++
	} else {
		x.doubts++
	}
	if !now.Before(x.until) && (accepted || x.doubts >= doubtsMost) {
		pause := min(r.first<<min(x.rests, 16), restLongest)
		x.rests++
		x.until = now.Add(pause)
		r.log.Warn("a host rests: it was given jobs and has not begun them", "host", host, "for", pause)
		r.alarms.at(x.until, func(now time.Time) { r.changed(host, now) })
	}
	r.changed(host, now)
}

// begun forgets what counts against a host that may have jobs and has begun one.
func (r *hostRests) begun(host string, now time.Time) {
	if x := r.records[host]; x != nil && !now.Before(x.until) {
		delete(r.records, host)
	}
}

// hasRecord reports whether something counts against a host.
func (r *hostRests) hasRecord(host string) bool { return r.records[host] != nil }

// of is the record of a host that rests now; nil when it does not.
func (r *hostRests) of(host string, now time.Time) *record {
	if x := r.records[host]; x != nil && now.Before(x.until) {
		return x
	}
	return nil
}

// apply has a host count as resting while it rests, although it reports itself as online.
func (r *hostRests) apply(s *route.HostState, now time.Time) {
	if x := r.of(string(s.ID), now); x != nil && s.State == route.Online {
		s.State, s.Until, s.Why = route.Resting, x.until, x.text()
	}
}

// forgetOld drops the records of hosts whose rest has been over for long.
func (r *hostRests) forgetOld(now time.Time) {
	for host, x := range r.records {
		if now.After(x.until.Add(restLongest)) {
			delete(r.records, host)
		}
	}
}
