package route_test

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// A fleet in virtual time. Hosts have one slot, keep the last two checkpoints in memory, and load a missing one
// in 6 to 15 s. Two of three hosts are small: a quarter of the workflows does not fit them. An offer takes 2 ms to
// arrive, during which an idle GPU idles on.

const (
	simHosts     = 24
	simHashes    = 16
	simTenants   = 8
	simModels    = 10 // checkpoints; hash h needs checkpoint h % simModels
	simResident  = 2
	simBigEvery  = 3 // every third host is big
	simFirstBig  = 12
	offerLatency = 2 * time.Millisecond
)

func needsBig(hash int) bool           { return hash >= simFirstBig }
func isBig(host int) bool              { return host%simBigEvery == 0 }
func fits(host, hash int) bool         { return isBig(host) || !needsBig(hash) }
func checkpoint(hash int) int          { return hash % simModels }
func loadTime(model int) time.Duration { return time.Duration(6+model) * time.Second }
func meanRun(hash int) time.Duration   { return time.Duration(6+5*(hash%7)) * time.Second }

type simJob struct {
	sequence uint64
	tenant   int
	priority int
	hash     int
	runs     time.Duration
	arrives  time.Time
	started  time.Time
	cold     bool
}

type simHost struct {
	running *simJob
	held    *simJob
	idle    time.Time // since when, if running is nil
	starts  time.Time // of what runs
	ends    time.Time
	warm    []int // checkpoints in memory, last used first
	recent  []int // hashes, last run first
}

func (h *simHost) has(model int) bool { return slices.Contains(h.warm, model) }

// policy decides. It sees hosts and jobs as the simulation has them, and is called for everything that happens.
type policy interface {
	arrived(s *simulation, j *simJob)
	changed(s *simulation, host int)
	ended(s *simulation, host int, j *simJob, took time.Duration)
	// next is one job to give to one host now; again is when to ask again although nothing has happened.
	next(s *simulation) (j *simJob, host int, again time.Time)
}

type simEvent struct {
	at   time.Time
	host int // whose job ends; -1 = an arrival, -2 = ask again
	job  *simJob
}

type simEvents []simEvent

func (e simEvents) Len() int           { return len(e) }
func (e simEvents) Less(i, k int) bool { return e[i].at.Before(e[k].at) }
func (e simEvents) Swap(i, k int)      { e[i], e[k] = e[k], e[i] }
func (e *simEvents) Push(x any)        { *e = append(*e, x.(simEvent)) }
func (e *simEvents) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

type simulation struct {
	now     time.Time
	hosts   []simHost
	events  simEvents
	policy  policy
	waiting [2]int // jobs that no GPU runs yet: those that fit everywhere, and big ones
	again   time.Time

	loads    int
	wasted   time.Duration // GPU time idle while a job waited that fits
	busy     time.Duration
	finished []*simJob
	used     [simTenants]float64
}

// simulate runs jobs, sorted by arrival, until the last has ended or the time is over.
func simulate(p policy, jobs []*simJob, until time.Time) *simulation {
	return simulateOn(simHosts, p, jobs, until)
}

func simulateOn(hosts int, p policy, jobs []*simJob, until time.Time) *simulation {
	s := &simulation{now: noon, hosts: make([]simHost, hosts), policy: p}
	for i := range s.hosts {
		s.hosts[i].idle = noon
		p.changed(s, i)
	}
	for _, j := range jobs {
		fresh := *j
		s.events = append(s.events, simEvent{j.arrives, -1, &fresh})
	}
	heap.Init(&s.events)
	for len(s.events) > 0 {
		e := heap.Pop(&s.events).(simEvent)
		if !until.IsZero() && e.at.After(until) {
			break
		}
		s.advance(e.at)
		s.happen(e)
		s.decide()
	}
	return s
}

// advance lets time pass. Idle GPUs are wasted as far as waiting jobs could have run on them: one for each job.
func (s *simulation) advance(to time.Time) {
	dt := to.Sub(s.now)
	s.now = to
	small, big := 0, 0
	for i := range s.hosts {
		switch {
		case s.hosts[i].running != nil:
			s.busy += dt
		case isBig(i):
			big++
		default:
			small++
		}
	}
	onBig := min(big, s.waiting[1])
	s.wasted += time.Duration(onBig+min(small+big-onBig, s.waiting[0])) * dt
}

func (s *simulation) happen(e simEvent) {
	switch e.host {
	case -1:
		s.waiting[bigness(e.job)]++
		s.policy.arrived(s, e.job)
	case -2:
		if s.again.Equal(e.at) { // otherwise an earlier moment was asked for meanwhile
			s.again = time.Time{}
		}
	default:
		h := &s.hosts[e.host]
		j := h.running
		h.running, h.idle = nil, s.now
		s.finished = append(s.finished, j)
		took := s.now.Sub(h.starts)
		s.used[j.tenant] += took.Seconds()
		s.policy.ended(s, e.host, j, took)
		if held := h.held; held != nil {
			h.held = nil
			s.start(e.host, held, 0)
		}
		s.policy.changed(s, e.host)
	}
}

func bigness(j *simJob) int {
	if needsBig(j.hash) {
		return 1
	}
	return 0
}

func (s *simulation) decide() {
	for {
		j, host, again := s.policy.next(s)
		if j == nil {
			if !again.IsZero() && (s.again.IsZero() || again.Before(s.again)) {
				s.again = again
				heap.Push(&s.events, simEvent{at: again, host: -2})
			}
			return
		}
		if !fits(host, j.hash) || s.hosts[host].held != nil {
			panic("a job was given to a host that cannot take it")
		}
		if s.hosts[host].running != nil {
			s.hosts[host].held = j
		} else {
			s.start(host, j, offerLatency)
		}
		s.policy.changed(s, host)
	}
}

func (s *simulation) start(host int, j *simJob, after time.Duration) {
	h := &s.hosts[host]
	s.waiting[bigness(j)]--
	s.wasted += after
	model := checkpoint(j.hash)
	took := j.runs
	if j.cold = !h.has(model); j.cold {
		s.loads++
		took += loadTime(model)
	}
	h.warm = front(h.warm, model, simResident)
	h.recent = slices.DeleteFunc(front(h.recent, j.hash, 4), func(hash int) bool { return !h.has(checkpoint(hash)) })
	h.running, h.starts = j, s.now.Add(after)
	j.started = h.starts
	h.ends = h.starts.Add(took)
	heap.Push(&s.events, simEvent{at: h.ends, host: host})
}

// front puts x before the others and keeps so many.
func front(list []int, x, keep int) []int {
	list = slices.Insert(slices.DeleteFunc(list, func(k int) bool { return k == x }), 0, x)
	return list[:min(len(list), keep)]
}

// day is a day of mixed traffic: four tenants by day, two by night, two in bursts, of different taste, with
// priorities; load is about three quarters of the fleet on average, and more than all of it at noon.
func day(seed uint64) []*simJob { return dayOf(seed, 1, 24*time.Hour) }

// dayOf is the beginning of a day with so many times the traffic.
func dayOf(seed uint64, times float64, long time.Duration) []*simJob {
	r := rand.New(rand.NewPCG(seed, 3))
	var jobs []*simJob
	for tenant := range simTenants {
		at := noon
		for {
			at = at.Add(time.Duration(r.ExpFloat64() / (times * rate(tenant, at)) * float64(time.Second)))
			if at.Sub(noon) > long {
				break
			}
			hash := (tenant*3 + int(math.Abs(r.NormFloat64())*3)) % simHashes
			jobs = append(jobs, &simJob{
				tenant: tenant, priority: []int{5, 5, 5, 5, 5, 5, 3, 8}[r.IntN(8)], hash: hash,
				runs: time.Duration(float64(meanRun(hash)) * math.Exp(r.NormFloat64()*0.2)), arrives: at,
			})
		}
	}
	slices.SortFunc(jobs, func(a, b *simJob) int { return a.arrives.Compare(b.arrives) })
	for i, j := range jobs {
		j.sequence = uint64(i + 1)
	}
	return jobs
}

// rate is jobs per second.
func rate(tenant int, at time.Time) float64 {
	hour := at.Sub(noon).Hours()
	sun := 0.5 + 0.5*math.Cos(hour/24*2*math.Pi)
	switch {
	case tenant < 4:
		return 0.02 + 0.14*sun
	case tenant < 6:
		return 0.02 + 0.12*(1-sun)
	case int(hour)%4 == tenant-6:
		return 0.3
	}
	return 0.005
}

func quantile(list []time.Duration, q float64) time.Duration {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[min(int(q*float64(len(list))), len(list)-1)]
}

func (s *simulation) waits(of func(j *simJob) bool) []time.Duration {
	var list []time.Duration
	for _, j := range s.finished {
		if of(j) {
			list = append(list, j.started.Sub(j.arrives))
		}
	}
	return list
}

func anyJob(*simJob) bool { return true }

func (s *simulation) wastedShare() float64 {
	return s.wasted.Seconds() / (float64(len(s.hosts)) * s.now.Sub(noon).Seconds())
}

func (s *simulation) busyShare() float64 {
	return s.busy.Seconds() / (float64(len(s.hosts)) * s.now.Sub(noon).Seconds())
}

func (s *simulation) report(t *testing.T, name string) {
	t.Helper()
	waits := s.waits(anyJob)
	t.Logf("%-12s %6d jobs, GPUs busy %.1f %%, idle while eligible work waited %.2f %%, %6d model loads, wait p50 %s p99 %s, last job done after %s",
		name, len(s.finished), 100*s.busyShare(), 100*s.wastedShare(), s.loads,
		quantile(waits, 0.5).Round(10*time.Millisecond), quantile(waits, 0.99).Round(time.Second), s.now.Sub(noon).Round(time.Second))
}

func TestSimulationOfADay(t *testing.T) {
	t.Parallel()
	jobs := day(1)
	ours := simulate(newOurs(), jobs, time.Time{})
	robin := simulate(&roundRobin{}, jobs, time.Time{})
	oracle := simulate(newOracle(jobs), jobs, time.Time{})
	ours.report(t, "comfyherd")
	robin.report(t, "round robin")
	oracle.report(t, "oracle")
	for _, p := range []int{8, 5, 3} {
		waits := ours.waits(func(j *simJob) bool { return j.priority == p })
		t.Logf("comfyherd    priority %d: %d jobs, wait p50 %s, p99 %s", p, len(waits),
			quantile(waits, 0.5).Round(10*time.Millisecond), quantile(waits, 0.99).Round(time.Second))
	}
	if len(ours.finished) != len(jobs) {
		t.Errorf("%d of %d jobs ended", len(ours.finished), len(jobs))
	}
	if share := ours.wastedShare(); share >= 0.01 {
		t.Errorf("GPUs idled %.2f %% of the time while eligible work waited", 100*share)
	}
	if 2*ours.loads > robin.loads {
		t.Errorf("%d model loads, and %d by round robin", ours.loads, robin.loads)
	}
}

// jain is Jain's index of the tenants' GPU-seconds.
func (s *simulation) jain() float64 {
	sum, squares := 0.0, 0.0
	for _, used := range s.used {
		sum += used
		squares += used * used
	}
	return sum * sum / (simTenants * squares)
}

// TestSimulationOfBackloggedTenants has eight tenants of equal weight whose jobs differ in length and taste, all
// of them with more work than the fleet can do in four hours.
func TestSimulationOfBackloggedTenants(t *testing.T) {
	t.Parallel()
	s := simulate(newOurs(), backlog(40_000), noon.Add(4*time.Hour))
	jain := s.jain()
	t.Logf("GPU-seconds by tenant %.0f: Jain's index %.5f; idle while eligible work waited %.2f %%, %d jobs, %d model loads",
		s.used, jain, 100*s.wastedShare(), len(s.finished), s.loads)
	if jain <= 0.99 {
		t.Errorf("Jain's index is %.4f", jain)
	}
}

// backlog is jobs of tenants of equal weight, all published at noon.
func backlog(n int) []*simJob {
	r := rand.New(rand.NewPCG(1, 5))
	var jobs []*simJob
	for i := range n {
		tenant := i % simTenants
		hash := tenant + r.IntN(4)
		jobs = append(jobs, &simJob{
			sequence: uint64(i + 1), tenant: tenant, priority: 5, hash: hash, arrives: noon,
			runs: time.Duration(float64(meanRun(hash)) * math.Exp(r.NormFloat64()*0.2)),
		})
	}
	return jobs
}

// TestSimulationOfAFlood has one tenant publish 20 000 jobs at once, and another a job now and then.
func TestSimulationOfAFlood(t *testing.T) {
	t.Parallel()
	var jobs []*simJob
	for i := range 20_000 {
		jobs = append(jobs, &simJob{tenant: 0, priority: 5, hash: 1 + i%3, runs: 20 * time.Second, arrives: noon})
	}
	for i := range 200 {
		jobs = append(jobs, &simJob{tenant: 1, priority: 5, hash: 2, runs: 20 * time.Second, arrives: noon.Add(time.Duration(i+1) * 41 * time.Second)})
	}
	for i, j := range jobs {
		j.sequence = uint64(i + 1)
	}
	s := simulate(newOurs(), jobs, noon.Add(3*time.Hour))
	waits := s.waits(func(j *simJob) bool { return j.tenant == 1 })
	worst := quantile(waits, 1)
	t.Logf("%d jobs beside a flood of 20 000: wait p50 %s, longest %s; jobs take 20 s on %d hosts", len(waits), quantile(waits, 0.5), worst, simHosts)
	if len(waits) != 200 || worst > 20*time.Second {
		t.Errorf("%d jobs ran, the longest wait was %s", len(waits), worst)
	}
}
