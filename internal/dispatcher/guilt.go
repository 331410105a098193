package dispatcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// accused is a workflow of a tenant, as far as it may take hosts down.
type accused struct {
	tenant job.Tenant
	hash   workflow.Hash
}

// memory is what the brain keeps of runs and strikes in order to judge. The brain's loop owns it.
type memory struct {
	suspects  map[workflow.Hash]map[string][]route.Suspicion // by the host that went down
	guilty    map[accused]map[string]string                  // what shows it, by the host whose strikes say so
	judging   map[accused]job.ID                             // whose last loss is not settled yet
	completed map[accused]time.Time                          // when a job of it completed last
	ran       map[pair]int64                                 // the biggest job of known size that ran there
}

const (
	// completionsKept and sizesKept bound what is remembered of successes: when there is more, all of it is learnt anew.
	completionsKept, sizesKept = 65_536, 65_536
	// goodName is how long a job that has completed speaks for its workflow: when another of its jobs takes hosts down,
	// it is that job and not the workflow.
	goodName = time.Hour
)

func newMemory() memory {
	return memory{
		suspects: map[workflow.Hash]map[string][]route.Suspicion{}, guilty: map[accused]map[string]string{},
		judging: map[accused]job.ID{}, completed: map[accused]time.Time{}, ran: map[pair]int64{},
	}
}

// succeeded learns from a run that has completed.
func (m *memory) succeeded(host string, e *queue.EndedJob, now time.Time) {
	if len(m.completed) >= completionsKept {
		clear(m.completed)
	}
	m.completed[accused{e.Tenant, e.Hash}] = now
	p := pair{host, e.Hash}
	if e.Size <= m.ran[p] {
		return
	}
	if len(m.ran) >= sizesKept {
		clear(m.ran)
	}
	m.ran[p] = e.Size
}

// proven gives what shows that a tenant's jobs of a hash take hosts down; empty when nothing does.
func (m *memory) proven(who accused) string {
	for _, text := range m.guilty[who] {
		return fmt.Sprintf("jobs of this workflow of tenant %s take hosts down and are not run for now (`dispatcher blocks clear --hash %s` lets them): %s",
			who.tenant, who.hash.Short(), text)
	}
	return ""
}

// others are the losses of a tenant's other jobs of the same workflow.
func (m *memory) others(who accused, except job.ID) []failure.Loss {
	var losses []failure.Loss
	for host, list := range m.suspects[who.hash] {
		for i := range list {
			if s := &list[i]; s.Tenant == route.Tenant(who.tenant) && s.Job != route.JobID(except) {
				losses = append(losses, s.Loss(route.HostID(host)))
			}
		}
	}
	return losses
}

// remember takes in the strikes of a pair.
func (b *brain) remember(p pair, s *route.Strikes) {
	m := &b.memory
	if hosts := m.suspects[p.hash]; len(s.Suspects) > 0 {
		if hosts == nil {
			hosts = map[string][]route.Suspicion{}
			m.suspects[p.hash] = hosts
		}
		hosts[p.host] = s.Suspects
	} else if delete(hosts, p.host); len(hosts) == 0 {
		delete(m.suspects, p.hash)
	}
	for who, texts := range m.guilty {
		if _, still := s.Guilty[route.Tenant(who.tenant)]; who.hash != p.hash || still {
			continue
		}
		if delete(texts, p.host); len(texts) == 0 {
			delete(m.guilty, who)
			b.withhold(who)
		}
	}
	for tenant, text := range s.Guilty {
		who := accused{job.Tenant(tenant), p.hash}
		if m.guilty[who] == nil {
			m.guilty[who] = map[string]string{}
		}
		m.guilty[who][p.host] = text
		b.withhold(who)
	}
}

// withhold keeps the jobs of a workflow that is guilty, or being judged, from every host, and lets those of others go.
func (b *brain) withhold(who accused) {
	_, judged := b.memory.judging[who]
	b.fleet.Withhold(who.hash, route.Tenant(who.tenant), judged || len(b.memory.guilty[who]) > 0)
	b.dirty, b.review = true, true
}

// judge keeps a workflow of a tenant from all hosts when a host has gone down with a job of it, until that is settled:
// the next job of it must not slip through to another host in between.
func (b *brain) judge(e *queue.EndedJob, now time.Time) {
	who := accused{e.Tenant, e.Hash}
	b.memory.judging[who] = e.Job
	b.withhold(who)
	b.at(now.Add(suspectTime), func(time.Time) { b.judged(who, e.Job) })
}

// judged is told when a loss was settled, or should be by now.
func (b *brain) judged(who accused, id job.ID) {
	if b.memory.judging[who] == id {
		delete(b.memory.judging, who)
		b.withhold(who)
	}
}

// evidence is what is known beside a job's own attempts, and whether a job of its workflow has completed lately.
func (b *brain) evidence(o *owned, attempts []failure.Attempt) (known failure.Evidence, goodNamed bool, err error) {
	last := &attempts[len(attempts)-1]
	who := accused{o.job.Tenant, o.job.Graph.Hash()}
	heard := b.ask(func(now time.Time) {
		for i := range attempts {
			if attempts[i].Lost() && b.isBack(attempts[i].Host) {
				known.Back = append(known.Back, attempts[i].Host)
			}
		}
		at, completed := b.memory.completed[who]
		goodNamed = completed && now.Sub(at) < goodName
		if last.Lost() && !goodNamed {
			known.Others = b.memory.others(who, o.job.ID)
		}
		if last.Kind == failure.Refused {
			b.learnNeeds(o)
			b.lacking(o)
			left, better := b.fleet.Prospects(wantOf(o), failure.RefusedBy(attempts), o.listedBy)
			known.None, known.Better = !left, better
		}
	})
	if !heard {
		return known, false, errStopped
	}
	return known, goodNamed, nil
}

var errStopped = errors.New("the dispatcher has stopped")

func (b *brain) isBack(host string) bool {
	h := b.hosts[host]
	return h != nil && h.state.State == queue.Online && !h.state.Trial
}

// learnNeeds tells the fleet what the workflow of a job needs.
func (b *brain) learnNeeds(o *owned) {
	if hash := o.job.Graph.Hash(); !b.fleet.Known(hash) {
		b.fleet.PutRequirements(hash, o.job.Graph.Requirements())
	}
}

// condemn remembers that a tenant's jobs of a workflow take hosts down, beside the strikes of the host that went last.
func (d *Dispatcher) condemn(ctx context.Context, o *owned, host string, text string) error {
	hash, tenant := o.job.Graph.Hash(), route.Tenant(o.job.Tenant)
	for {
		old, revision, err := d.strikesOf(ctx, host, hash)
		if err != nil || old.Guilty[tenant] != "" {
			return err
		}
		strikes := old.Condemn(tenant, fmt.Sprintf("job %s: %s", o.job.ID, text))
		stored, err := d.putStrikes(ctx, host, hash, &strikes, revision)
		if err != nil {
			return err
		}
		if stored {
			d.log.Warn("a workflow takes hosts down; further jobs of it end at once", "tenant", tenant, "hash", hash.Short(), "why", text)
			return nil
		}
	}
}

func (d *Dispatcher) putStrikes(ctx context.Context, host string, hash workflow.Hash, s *route.Strikes, revision uint64) (bool, error) {
	value, err := json.Marshal(s)
	if err != nil {
		return false, fmt.Errorf("encode strikes: %w", err)
	}
	return d.q.PutStrikes(ctx, host, hash, value, d.cfg.Policy.StrikesFor(s.Level), revision)
}

// guiltyPairs lists the pairs without a block whose strikes say that a workflow takes hosts down.
func (b *brain) guiltyPairs(fits func(host string, hash workflow.Hash) bool) []pair {
	var pairs []pair
	for who, hosts := range b.memory.guilty {
		for host := range hosts {
			if fits(host, who.hash) && !b.blocked[pair{host, who.hash}] {
				pairs = append(pairs, pair{host, who.hash})
			}
		}
	}
	return pairs
}
