package route_test

import (
	"cmp"
	"slices"
	"sort"
	"strconv"
	"time"

	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// ours is Fleet and Room, as a dispatcher uses them.
type ours struct {
	fleet *route.Fleet
	room  *route.Room
	jobs  map[uint64]*simJob
}

func newOurs() *ours { return newOursOf(simHosts) }

func newOursOf(hosts int) *ours {
	o := &ours{fleet: route.NewFleet(), room: route.NewRoom(), jobs: map[uint64]*simJob{}}
	// Small hosts lack the checkpoints' big variants, which big workflows need beside the checkpoint itself.
	var small, big workflow.CapabilityBuilder
	for _, b := range []*workflow.CapabilityBuilder{&small, &big} {
		b.AddClass("Loader")
	}
	names := make([]string, 0, simModels)
	for m := range simModels {
		names = append(names, modelName(m))
	}
	small.AddChoices("Loader", "ckpt", names)
	big.AddChoices("Loader", "ckpt", append(names, "big.safetensors"))
	kinds := map[bool]workflow.Capability{false: workflow.NewCapability(&small), true: workflow.NewCapability(&big)}
	for i := range hosts {
		o.fleet.PutCapability(route.HostID(hostName(i)), kinds[isBig(i)])
	}
	for h := range simHashes {
		r := workflow.Requirements{Classes: []string{"Loader"}, Models: []workflow.ModelRef{{Class: "Loader", Input: "ckpt", File: modelName(checkpoint(h))}}}
		if needsBig(h) {
			r.Models = append(r.Models, workflow.ModelRef{Class: "Loader", Input: "ckpt", File: "big.safetensors"})
		}
		o.fleet.PutRequirements(hashOf(h), r)
	}
	return o
}

func modelName(m int) string { return "checkpoint-" + strconv.Itoa(m) + ".safetensors" }

func (o *ours) arrived(_ *simulation, j *simJob) {
	o.jobs[j.sequence] = j
	o.room.Put(route.Ticket{
		Sequence: j.sequence, Priority: j.priority, Tenant: tenant(j.tenant), Hash: hashOf(j.hash),
		Job: route.JobID(strconv.FormatUint(j.sequence, 10)), Received: j.arrives,
	})
}

func (o *ours) changed(s *simulation, host int) { o.fleet.PutHost(s.state(host)) }

// state is what the agent of a host reports.
func (s *simulation) state(host int) route.HostState {
	h := &s.hosts[host]
	state := route.HostState{ID: route.HostID(hostName(host)), State: route.Online, Slots: 1, Prefetch: 1}
	for i, j := range []*simJob{h.running, h.held} {
		if j != nil {
			since := h.starts
			if i == 1 {
				since = s.now
			}
			state.Running = append(state.Running, route.Run{
				Tenant: tenant(j.tenant), Job: route.JobID(strconv.FormatUint(j.sequence, 10)), Priority: j.priority,
				Hash: hashOf(j.hash), Since: since,
			})
		}
	}
	for _, hash := range h.recent {
		state.Recent = append(state.Recent, hashOf(hash))
	}
	return state
}

func (o *ours) ended(s *simulation, host int, j *simJob, took time.Duration) {
	o.room.Charge(tenant(j.tenant), j.priority, took.Seconds(), s.now)
	o.fleet.ObserveRun(hashOf(j.hash), route.HostID(hostName(host)), took)
}

func (o *ours) next(s *simulation) (*simJob, int, time.Time) {
	t, id, ok := o.room.Pick(o.fleet, s.now)
	if !ok {
		return nil, 0, o.room.NextDue()
	}
	o.room.Remove(t.Sequence)
	host, _ := strconv.Atoi(string(id[len("host-"):]))
	return o.jobs[t.Sequence], host, time.Time{}
}

// roundRobin gives jobs, first come first served, to the next host in a circle that is idle and fits.
type roundRobin struct {
	queue []*simJob
	last  int
}

func (r *roundRobin) arrived(_ *simulation, j *simJob) {
	at := sort.Search(len(r.queue), func(i int) bool {
		k := r.queue[i]
		return cmp.Or(cmp.Compare(j.priority, k.priority), cmp.Compare(k.sequence, j.sequence)) > 0
	})
	r.queue = slices.Insert(r.queue, at, j)
}

func (r *roundRobin) changed(*simulation, int)                       {}
func (r *roundRobin) ended(*simulation, int, *simJob, time.Duration) {}

func (r *roundRobin) next(s *simulation) (*simJob, int, time.Time) {
	for _, big := range []bool{false, true} {
		at := slices.IndexFunc(r.queue, func(j *simJob) bool { return needsBig(j.hash) == big })
		for i := 1; at >= 0 && i <= simHosts; i++ {
			host := (r.last + i) % simHosts
			if s.hosts[host].running == nil && fits(host, r.queue[at].hash) {
				j := r.queue[at]
				r.last, r.queue = host, slices.Delete(r.queue, at, at+1)
				return j, host, time.Time{}
			}
		}
	}
	return nil, 0, time.Time{}
}

// oracle knows when every job comes and how long it and every load takes, and cares for neither tenants nor
// priorities. An idle host takes the oldest job that is warm on it, whatever else waits. Only when there is none
// does it load a checkpoint: for the oldest job whose warm hosts are all busy for longer than loading takes, on
// the idle host whose memory will be missed last.
type oracle struct {
	queue []*simJob
	uses  [simModels][]time.Time // arrivals of jobs that need a checkpoint
}

func newOracle(jobs []*simJob) *oracle {
	o := &oracle{}
	for _, j := range jobs {
		m := checkpoint(j.hash)
		o.uses[m] = append(o.uses[m], j.arrives)
	}
	return o
}

func (o *oracle) arrived(_ *simulation, j *simJob)               { o.queue = append(o.queue, j) }
func (o *oracle) changed(*simulation, int)                       {}
func (o *oracle) ended(*simulation, int, *simJob, time.Duration) {}

func (o *oracle) next(s *simulation) (*simJob, int, time.Time) {
	for host := range s.hosts {
		if h := &s.hosts[host]; h.running == nil {
			at := slices.IndexFunc(o.queue, func(j *simJob) bool { return fits(host, j.hash) && h.has(checkpoint(j.hash)) })
			if at >= 0 {
				return o.take(at), host, time.Time{}
			}
		}
	}
	for at, j := range o.queue {
		if host := o.place(s, j); host >= 0 {
			return o.take(at), host, time.Time{}
		}
	}
	return nil, 0, time.Time{}
}

func (o *oracle) take(at int) *simJob {
	j := o.queue[at]
	o.queue = slices.Delete(o.queue, at, at+1)
	return j
}

// place is the host that loads for a job, or -1 when it waits for a warm or any host.
func (o *oracle) place(s *simulation, j *simJob) int {
	best, missed := -1, time.Time{}
	for host := range s.hosts {
		h := &s.hosts[host]
		switch {
		case !fits(host, j.hash):
		case h.running != nil:
			if h.has(checkpoint(j.hash)) && h.ends.Sub(s.now) < loadTime(checkpoint(j.hash)) {
				return -1
			}
		default:
			if next := o.nextUse(h, s.now); best < 0 || next.After(missed) {
				best, missed = host, next
			}
		}
	}
	return best
}

// nextUse is when the checkpoint that a load would push out of memory is needed next.
func (o *oracle) nextUse(h *simHost, now time.Time) time.Time {
	if len(h.warm) < simResident {
		return now.Add(1000 * time.Hour)
	}
	uses := o.uses[h.warm[simResident-1]]
	at := sort.Search(len(uses), func(i int) bool { return uses[i].After(now) })
	if at == len(uses) {
		return now.Add(999 * time.Hour)
	}
	return uses[at]
}
