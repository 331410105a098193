package dispatcher

import (
	"fmt"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// tenantHash stands for one tenant's jobs of one workflow.
type tenantHash struct {
	tenant job.Tenant
	hash   workflow.Hash
}

// guilt holds which workflows take hosts down. The proof is stored in the strikes of the hosts that went down: their
// suspicions, and from the second host on the verdict. While a loss is being settled no further job of that tenant's
// workflow runs anywhere: it could take the next host down meanwhile.
type guilt struct {
	fleet   *route.Fleet
	changes *changes
	alarms  *alarms

	suspicions map[workflow.Hash]map[string][]route.Suspicion // by the host that went down
	proofs     map[workflow.Hash]tenantProofs
	unsettled  map[tenantHash]job.ID // the job of the last loss
}

// tenantProofs are the proofs, by tenant, that jobs of a workflow take hosts down: texts, by the host whose strikes have them.
type tenantProofs map[job.Tenant]map[string]string

func newGuilt(p guilt) *guilt {
	p.suspicions, p.proofs = map[workflow.Hash]map[string][]route.Suspicion{}, map[workflow.Hash]tenantProofs{}
	p.unsettled = map[tenantHash]job.ID{}
	return &p
}

// lost takes in that a host went down with a job, until that is settled.
func (p *guilt) lost(e *queue.EndedJob, now time.Time) {
	which, id := tenantHash{e.Tenant, e.Hash}, e.Job
	p.unsettled[which] = id
	p.withhold(which)
	p.alarms.at(now.Add(haltTime), func(time.Time) { p.settled(which, id) })
}

// settled takes in that the loss of a job was settled, or should be by now.
func (p *guilt) settled(which tenantHash, id job.ID) {
	if p.unsettled[which] == id {
		delete(p.unsettled, which)
		p.withhold(which)
	}
}

// putStrikes takes in the strikes of a pair.
func (p *guilt) putStrikes(at pair, s *route.Strikes) {
	if hosts := p.suspicions[at.hash]; len(s.Suspects) > 0 {
		if hosts == nil {
			hosts = map[string][]route.Suspicion{}
			p.suspicions[at.hash] = hosts
		}
		hosts[at.host] = s.Suspects
	} else if delete(hosts, at.host); len(hosts) == 0 {
		delete(p.suspicions, at.hash)
	}
	for tenant, texts := range p.proofs[at.hash] {
		if _, still := s.Guilty[route.Tenant(tenant)]; still {
			continue
		}
		if delete(texts, at.host); len(texts) == 0 {
			p.forget(tenantHash{tenant, at.hash})
		}
	}
	for tenant, text := range s.Guilty {
		p.prove(tenantHash{job.Tenant(tenant), at.hash}, at.host, text)
	}
}

// prove takes in a proof that a tenant's jobs of a workflow take hosts down.
func (p *guilt) prove(which tenantHash, host, text string) {
	tenants := p.proofs[which.hash]
	if tenants == nil {
		tenants = tenantProofs{}
		p.proofs[which.hash] = tenants
	}
	if tenants[which.tenant] == nil {
		tenants[which.tenant] = map[string]string{}
	}
	tenants[which.tenant][host] = text
	p.withhold(which)
}

// forget takes in that there is no proof of it any more.
func (p *guilt) forget(which tenantHash) {
	if delete(p.proofs[which.hash], which.tenant); len(p.proofs[which.hash]) == 0 {
		delete(p.proofs, which.hash)
	}
	p.withhold(which)
}

// withhold keeps a tenant's jobs of a workflow from every host while a loss of it is unsettled or it is proven to take
// hosts down, and lets them run otherwise.
func (p *guilt) withhold(which tenantHash) {
	_, unsettled := p.unsettled[which]
	p.fleet.Withhold(which.hash, route.Tenant(which.tenant), unsettled || len(p.proofs[which.hash][which.tenant]) > 0)
	p.changes.all()
}

// proof gives a proof that a tenant's jobs of a hash take hosts down; empty when there is none.
func (p *guilt) proof(which tenantHash) string {
	for _, text := range p.proofs[which.hash][which.tenant] {
		return fmt.Sprintf("jobs of this workflow of tenant %s take hosts down and are not run for now (`dispatcher blocks clear --hash %s` lets them): %s",
			which.tenant, which.hash.Short(), text)
	}
	return ""
}

// otherLosses are the losses of a tenant's other jobs of the same workflow.
func (p *guilt) otherLosses(which tenantHash, except job.ID) []failure.Loss {
	var losses []failure.Loss
	for host, list := range p.suspicions[which.hash] {
		for i := range list {
			if s := &list[i]; s.Tenant == route.Tenant(which.tenant) && s.Job != route.JobID(except) {
				losses = append(losses, s.Loss(route.HostID(host)))
			}
		}
	}
	return losses
}

// pairs lists the pairs whose strikes prove that a workflow takes hosts down.
func (p *guilt) pairs(fits func(host string, hash workflow.Hash) bool) []pair {
	var list []pair
	for hash, tenants := range p.proofs {
		for _, hosts := range tenants {
			for host := range hosts {
				if fits(host, hash) {
					list = append(list, pair{host, hash})
				}
			}
		}
	}
	return list
}
