package dispatcher

import (
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
)

// suspectTime is how long a pair that has just failed gets no job, unless its block says more.
const suspectTime = time.Second

// suspect keeps a pair free of jobs until its failure is settled: the slot is told to be free some milliseconds
// before the failed event has become a strike and perhaps a block, and the next job of the hash must not slip in. Where a
// host has gone down with the job, no host gets one of that tenant and hash meanwhile.
func (b *brain) suspect(host string, e *queue.EndedJob, now time.Time) {
	block := route.Block{
		Host: route.HostID(host), Hash: e.Hash, Kind: e.Kind, Message: "a failure is being settled", Tenant: route.Tenant(e.Tenant),
		Tenants: []route.Tenant{route.Everyone}, Until: now.Add(suspectTime),
	}
	if lost := (failure.Attempt{Kind: e.Kind}); lost.Lost() {
		b.judge(e, now)
	}
	switch e.Kind.Verdict().Strike {
	case failure.NoStrike, failure.Suspected:
		return
	case failure.PerTenant:
		block.Tenants = []route.Tenant{route.Tenant(e.Tenant)}
	case failure.UntilCapable:
	}
	if e.Kind == failure.OutOfMemory {
		block.Size = e.Size
	}
	if e.Kind == "" || b.blocked[pair{host, e.Hash}] {
		return
	}
	b.fleet.PutBlock(block)
	b.suspects[pair{host, e.Hash}] = true
	b.at(now.Add(suspectTime), func(time.Time) { b.settled(pair{host, e.Hash}) })
}

// settled ends a suspicion: what the strikes and blocks say counts from now on.
func (b *brain) settled(p pair) {
	if b.suspects[p] && !b.blocked[p] {
		b.fleet.RemoveBlock(route.HostID(p.host), p.hash)
		b.dirty = true
	}
	delete(b.suspects, p)
}

// blame gives whose job a host ran when it became unhealthy.
func (g grantTable) blame(s *queue.HostState) route.Blame {
	if s.Blame == nil || !g.serve(s.Host, s.Blame.Tenant) {
		return route.Blame{}
	}
	return route.Blame{Tenant: route.Tenant(s.Blame.Tenant), Job: route.JobID(s.Blame.Job)}
}
