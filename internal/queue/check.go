package queue

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// What comes over the wire is checked where it is decoded, so that later code can rely on the values. The limits are far beyond what
// any fleet has.
const (
	mostSlots    = 1 << 16
	mostBacklog  = 1 << 20
	mostAttempts = 1 << 20
	mostListed   = 1 << 12
	mostOutputs  = 1 << 16
	mostText     = 1 << 20
	mostMemory   = 1 << 50
	longest      = 100 * 365 * 24 * time.Hour
)

// checks collects the first impossible value. Checks that every message passes test the value themselves and call wrong only when
// it fails, since its arguments are allocated at each call: if wrong were called for every value, a job would cost 40 more
// allocations.
type checks struct{ err error }

func (c *checks) wrong(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf(format, args...)
	}
}

func (c *checks) that(holds bool, format string, args ...any) {
	if !holds {
		c.wrong(format, args...)
	}
}

func (c *checks) count(what string, n, most int64) {
	if n < 0 || n > most {
		c.wrong("%s is %d, and must be 0 to %d", what, n, most)
	}
}

func (c *checks) short(what string, n, most int) {
	if n > most {
		c.wrong("%s has %d entries, and at most %d are allowed", what, n, most)
	}
}

func (c *checks) duration(what string, d job.Duration) {
	if d < 0 || time.Duration(d) > longest {
		c.wrong("%s is %v, and must be 0 to %v", what, time.Duration(d), longest)
	}
}

func (c *checks) hash(h workflow.Hash) {
	if h != "" && !h.Valid() {
		c.wrong("%.80q is no hash", h)
	}
}

func (c *checks) jobOf(tenant job.Tenant, id job.ID, hash workflow.Hash) {
	if !tenant.Valid() {
		c.wrong("%.80q is no tenant", tenant)
	}
	if !id.Valid() {
		c.wrong("%.80q is no job id", id)
	}
	c.hash(hash)
}

func (c *checks) priority(p job.Priority) {
	if !p.Valid() {
		c.wrong("the priority is %d, and must be 0 to 9", p)
	}
}

func (c *checks) attempt(n int) { c.count("the attempt", int64(n), mostAttempts) }

// when refuses times before 1970 and from 2300 on; the zero time stands for none.
func (c *checks) when(what string, t time.Time) {
	if !t.IsZero() && (t.Year() < 1970 || t.Year() >= 2300) {
		c.wrong("%s is %v, and must be a time from 1970 to 2299", what, t)
	}
}

func (s *HostState) check() error {
	var c checks
	if !job.ValidHost(s.Host) {
		c.wrong("%.80q is no host", s.Host)
	}
	if s.State != Online && s.State != Draining && s.State != Unhealthy {
		c.wrong("the state %.80q is unknown", s.State)
	}
	c.count("slots", int64(s.Slots), mostSlots)
	c.count("prefetch", int64(s.Prefetch), mostSlots)
	c.count("foreign", int64(s.Foreign), mostBacklog)
	c.short("running", len(s.Running), mostSlots)
	c.short("labels", len(s.Labels), mostListed)
	c.short("recent", len(s.Recent), mostListed)
	if s.Memory < 0 || s.Memory > mostMemory {
		c.wrong("memory is %d bytes, and must be 0 to %d", s.Memory, int64(mostMemory))
	}
	if s.Used < 0 || s.Used > s.Memory {
		c.wrong("memory_used is %d bytes, and must be 0 to %d", s.Used, s.Memory)
	}
	c.when("the time", s.Time)
	for i := range s.Running {
		r := &s.Running[i]
		c.jobOf(r.Tenant, r.Job, r.Hash)
		c.priority(r.Priority)
		c.attempt(r.Attempt)
		c.when("since", r.Since)
	}
	for _, h := range s.Recent {
		c.hash(h)
	}
	if s.Blame != nil {
		c.jobOf(s.Blame.Tenant, s.Blame.Job, s.Blame.Hash)
	}
	if s.Ended != nil {
		s.Ended.check(&c)
	}
	return c.err
}

func (e *EndedJob) check(c *checks) {
	c.jobOf(e.Tenant, e.Job, e.Hash)
	c.priority(e.Priority)
	c.count("the size", e.Size, math.MaxInt64)
	c.duration("ran_for", e.RanFor)
	c.short("loads", len(e.Loads), mostOutputs)
	for i := range e.Loads {
		c.duration("took", e.Loads[i].Took)
	}
}

// check requires a state unless the agent may answer without one.
func (r *Reply) check() error {
	switch r.Answer {
	case Accepted, Busy, Drain, Unfit, NotThere:
	default:
		return fmt.Errorf("the answer %.80q is unknown", r.Answer)
	}
	if r.State.Host == "" && (r.Answer == Unfit || r.Answer == Accepted) {
		return nil // an answer to a control, or to an offer that could not be read
	}
	return r.State.check()
}

func (o *Offer) check() error {
	var c checks
	c.jobOf(job.Tenant(o.Message.Tenant), o.Job, o.Hash)
	c.priority(o.Message.Priority)
	c.attempt(o.Attempt)
	if o.Attempt <= 0 {
		c.wrong("the attempt is %d, and must be at least 1", o.Attempt)
	}
	c.that(o.Message.Sequence > 0, "%s is missing", names.SequenceHeader)
	if o.AckWait < shortestAckWait || o.AckWait > longestAckWait {
		c.wrong("%s is %v, and must be 1s to 1h", names.AckWaitHeader, o.AckWait)
	}
	c.when(names.ReceivedHeader, o.Message.Received)
	return c.err
}

// Valid reports whether a lease has the form of an ack subject of a consumer of COMFY_JOBS. A lease that came over the wire is
// published to only when it is valid.
func (l Lease) Valid() bool {
	_, ok := l.Sequence()
	return ok
}

// Of reports whether a lease is that of the message with a sequence of COMFY_JOBS, and of no other.
func (l Lease) Of(sequence uint64) bool {
	own, ok := l.Sequence()
	return ok && own == sequence
}

// Sequence is the job's sequence in a lease $JS.ACK.[<domain>.<account>.]COMFY_JOBS.dispatch_<p>.<delivered>.<sequence>.<sequence of
// the consumer>.<time>.<pending>[.<random>]. The tokens in brackets depend on the version of the server.
func (l Lease) Sequence() (uint64, bool) {
	rest, ok := strings.CutPrefix(string(l), "$JS.ACK.")
	if !ok || len(rest) > mostLease {
		return 0, false
	}
	var room [12]string
	tokens := room[:0]
	for token := range strings.SplitSeq(rest, ".") {
		if len(tokens) == len(room) || !plainToken(token) {
			return 0, false
		}
		tokens = append(tokens, token)
	}
	switch len(tokens) {
	case 7:
	case 9, 10:
		tokens = tokens[2:9]
	default:
		return 0, false
	}
	priority, ok := strings.CutPrefix(tokens[1], "dispatch_")
	if !ok || len(priority) != 1 || priority[0] < '0' || priority[0] > '9' || tokens[0] != names.JobsStream {
		return 0, false
	}
	for _, number := range tokens[2:] {
		if _, err := strconv.ParseUint(number, 10, 64); err != nil {
			return 0, false
		}
	}
	sequence, err := strconv.ParseUint(tokens[3], 10, 64)
	return sequence, err == nil && sequence > 0
}

const mostLease = 512

// plainToken reports whether a token of a subject is printable ASCII without wildcards.
func plainToken(token string) bool {
	for i := range len(token) {
		if c := token[i]; c <= ' ' || c >= 0x7f || c == '*' || c == '>' {
			return false
		}
	}
	return token != ""
}

func (t *Ticket) check() error {
	var c checks
	c.jobOf(t.Tenant, t.Job, t.Hash)
	c.that(t.Hash != "", "the hash is missing")
	c.priority(t.Priority)
	c.attempt(t.Attempt)
	if !t.Lease.Of(t.Sequence) {
		c.wrong("%.80q is no lease of the job at sequence %d", t.Lease, t.Sequence)
	}
	c.count("the size", t.Size, math.MaxInt64)
	for _, hosts := range [][]string{t.PreferHosts, t.OnlyHosts, t.ExcludeHosts, t.AvoidHosts} {
		c.short("a list of hosts", len(hosts), mostListed)
	}
	for _, at := range []*time.Time{t.AvoidUntil, t.NotBefore, t.Expires, &t.Received} {
		if at != nil {
			c.when("a time", *at)
		}
	}
	return c.err
}

func checkBlock(b *route.Block) error {
	var c checks
	c.that(b.Kind.Valid(), "the kind %.80q is unknown", b.Kind)
	c.that(len(b.Tenants) > 0, "tenants is empty")
	c.short("tenants", len(b.Tenants), mostListed)
	c.count("failures", int64(b.Failures), mostBacklog)
	c.count("the level", int64(b.Level), mostBacklog)
	c.count("the size", b.Size, math.MaxInt64)
	c.that(!b.Until.IsZero(), "until is missing")
	c.when("until", b.Until)
	return c.err
}

func (s *TenantSettings) check() error {
	var c checks
	c.that(s.Weight > 0 && s.Weight <= mostBacklog, "the weight is %v, and must be above 0 and at most %d", s.Weight, mostBacklog)
	c.count("max_running", int64(s.MaxRunning), math.MaxInt32)
	c.that(s.MaxPriority == nil || s.MaxPriority.Valid(), "max_priority must be 0 to 9")
	c.count("max_unfinished", int64(s.MaxUnfinished), math.MaxInt32)
	c.count("max_bytes", s.MaxBytes, math.MaxInt64)
	c.count("max_file_bytes", s.MaxFileBytes, math.MaxInt64)
	return c.err
}

func (a *Affinity) check() error {
	var c checks
	c.short("prefer", len(a.Prefer), mostListed)
	c.short("exclude", len(a.Exclude), mostListed)
	return c.err
}

func (s *DispatcherState) check() error {
	var c checks
	c.that(job.ValidHost(s.Dispatcher), "%.80q is no dispatcher", s.Dispatcher)
	c.count("waiting", int64(s.Waiting), math.MaxInt64)
	c.when("started", s.Started)
	return c.err
}

func (h *HostCondition) check() error {
	var c checks
	c.short("hashes", len(h.Hashes), mostListed)
	for _, hash := range h.Hashes {
		c.hash(hash)
	}
	if h.Blame != nil {
		c.jobOf(h.Blame.Tenant, h.Blame.Job, h.Blame.Hash)
	}
	c.short("prompts", len(h.Prompts), mostListed)
	c.that(len(h.Reason)+len(h.Process) <= mostText, "reason and process have %d bytes, and at most %d are allowed", len(h.Reason)+len(h.Process), mostText)
	c.when("the time", h.Time)
	return c.err
}

func (c *Control) check() error {
	if c.Drain && c.Resume {
		return errors.New("a control asks for drain and resume at once")
	}
	return nil
}
