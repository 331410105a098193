package dispatcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

func (d *Dispatcher) api() jetstream.API {
	return jetstream.API{Version: d.cfg.Version, Calls: d.endpoints(), TenantCalls: d.tenantEndpoints()}
}

// endpoints are the calls of comfy.api.<name>.
func (d *Dispatcher) endpoints() map[string]jetstream.Endpoint {
	return map[string]jetstream.Endpoint{
		"status":   answering(d.apiStatus),
		"hosts":    answering(d.apiHosts),
		"blocks":   answering(d.apiBlocks),
		"unblock":  answering(d.apiUnblock),
		"why":      answering(d.apiWhy),
		"queue":    answering(d.apiQueue),
		"cancel":   answering(d.apiCancel),
		"dead":     answering(d.apiDead),
		"requeue":  answering(d.apiRequeue),
		"affinity": answering(d.apiAffinity),
		"tenants":  answering(d.apiTenants),
		"drain":    answering(d.apiDrain),
	}
}

// answering decodes the request for a typed endpoint; an empty request is an empty object.
func answering[Request, Answer any](call func(context.Context, Request) (Answer, error)) jetstream.Endpoint {
	return func(ctx context.Context, body []byte) (any, error) {
		var request Request
		if err := jetstream.DecodeRequest(body, &request); err != nil {
			return nil, err
		}
		return call(ctx, request)
	}
}

func checkJob(tenant job.Tenant, id job.ID) error {
	if !tenant.Valid() || !id.Valid() {
		return &jetstream.BadRequest{Message: `give {"tenant":"…","job":"…"}: 1 to 64, and 1 to 120, of A-Z a-z 0-9 _ -`}
	}
	return nil
}

func (d *Dispatcher) apiStatus(ctx context.Context, r jetstream.StatusRequest) (jetstream.JobStatus, error) {
	if err := checkJob(r.Tenant, r.Job); err != nil {
		return jetstream.JobStatus{}, err
	}
	link, found, err := d.q.Last(ctx, r.Tenant, r.Job)
	if err != nil {
		return jetstream.JobStatus{}, err
	}
	if !found {
		return jetstream.JobStatus{}, noJob(r.Tenant, r.Job)
	}
	s := jetstream.JobStatus{Job: r.Job, Tenant: r.Tenant, State: link.EventKind, Event: link.Event}
	if !link.EventKind.Terminal() {
		s.Position, s.Of, s.ETA = d.brain.positionOf(r.Tenant, r.Job)
	}
	return s, nil
}

func noJob(tenant job.Tenant, id job.ID) error {
	return &jetstream.NotFound{Message: fmt.Sprintf("not found: tenant %s has no job %s (events are kept for a limited time)", tenant, id)}
}

func (d *Dispatcher) apiCancel(ctx context.Context, r jetstream.CancelRequest) (jetstream.CancelAnswer, error) {
	if err := checkJob(r.Tenant, r.Job); err != nil {
		return jetstream.CancelAnswer{}, err
	}
	by := r.By
	if by == "" {
		by = "api"
	}
	e, err := d.q.Cancel(ctx, r.Tenant, r.Job, by, r.Force)
	if errors.Is(err, jetstream.ErrNoJob) {
		return jetstream.CancelAnswer{}, noJob(r.Tenant, r.Job)
	}
	return jetstream.CancelAnswer{Job: r.Job, State: e.EventKind, Event: e}, err
}

func (d *Dispatcher) apiHosts(context.Context, struct{}) (jetstream.HostsAnswer, error) {
	return jetstream.HostsAnswer{Hosts: d.brain.listHosts()}, nil
}

// pairs chooses among pairs; an empty field fits all.
type pairs struct {
	host string
	hash workflow.Hash // or its first digits
}

func (p pairs) fit(host string, hash workflow.Hash) bool {
	return (p.host == "" || p.host == host) && strings.HasPrefix(string(hash), string(p.hash))
}

func (d *Dispatcher) apiBlocks(ctx context.Context, r jetstream.BlocksRequest) (jetstream.BlocksAnswer, error) {
	answer := jetstream.BlocksAnswer{Blocks: []json.RawMessage{}}
	err := d.eachBlock(ctx, pairs{r.Host, r.Hash}, func(c jetstream.Change, _ string, _ workflow.Hash) error {
		if _, ok := jetstream.BlockOf(c); ok { // what somebody else has put there is left out, and is no JSON perhaps
			answer.Blocks = append(answer.Blocks, c.Value)
		}
		return nil
	})
	return answer, err
}

func (d *Dispatcher) apiUnblock(ctx context.Context, r jetstream.UnblockRequest) (jetstream.CountAnswer, error) {
	if r.Host == "" && r.Hash == "" {
		return jetstream.CountAnswer{}, &jetstream.BadRequest{Message: `give {"host":"…"} or {"hash":"…"} or both: unblock does not lift everything at once`}
	}
	var answer jetstream.CountAnswer
	for _, p := range d.brain.guiltyPairs(pairs{r.Host, r.Hash}.fit) {
		if err := d.forgive(ctx, p.host, p.hash); err != nil {
			return answer, err
		}
		answer.Count++
	}
	err := d.eachBlock(ctx, pairs{r.Host, r.Hash}, func(c jetstream.Change, host string, hash workflow.Hash) error {
		if err := d.forgive(ctx, host, hash); err != nil {
			return err
		}
		lifted, err := d.q.LiftBlock(ctx, host, hash, c.Revision, jetstream.Cleared)
		if lifted {
			answer.Count++
		}
		return err
	})
	return answer, err
}

func (d *Dispatcher) eachBlock(ctx context.Context, which pairs, do func(jetstream.Change, string, workflow.Hash) error) error {
	var matched []jetstream.Change
	err := d.q.Blocks(ctx, func(c jetstream.Change) {
		host, hash, ok := jetstream.PairOf(c.Key)
		if ok && which.fit(host, hash) {
			matched = append(matched, c)
		}
	})
	for _, c := range matched {
		host, hash, _ := jetstream.PairOf(c.Key)
		err = errors.Join(err, do(c, host, hash))
	}
	return err
}

func (d *Dispatcher) apiDrain(ctx context.Context, r jetstream.DrainRequest) (jetstream.CountAnswer, error) {
	if !job.ValidHost(r.Host) {
		return jetstream.CountAnswer{}, &jetstream.BadRequest{Message: `give {"host":"…"}`}
	}
	_, err := d.q.Control(ctx, r.Host, jetstream.Control{Drain: !r.Resume, Resume: r.Resume})
	if errors.Is(err, jetstream.ErrNoAgent) {
		return jetstream.CountAnswer{}, &jetstream.NotFound{Message: "not found: no agent serves host " + r.Host}
	}
	return jetstream.CountAnswer{Count: 1}, err
}

func (d *Dispatcher) apiAffinity(ctx context.Context, r jetstream.AffinityRequest) (jetstream.AffinityAnswer, error) {
	var err error
	switch {
	case r.Hash == "" && (r.Remove || len(r.Prefer)+len(r.Exclude) > 0), r.Hash != "" && !r.Hash.Valid():
		return jetstream.AffinityAnswer{}, &jetstream.BadRequest{Message: `give {"hash":"<64 hex digits>","prefer":[…],"exclude":[…]} or {"hash":"…","remove":true}, or {} to list`}
	case r.Remove:
		err = d.q.RemoveAffinity(ctx, r.Hash)
	case len(r.Prefer)+len(r.Exclude) > 0:
		if bad := slices.IndexFunc(append(slices.Clone(r.Prefer), r.Exclude...), notHostLike); bad >= 0 {
			return jetstream.AffinityAnswer{}, &jetstream.BadRequest{Message: "prefer and exclude name hosts, or labels like gpu=4090"}
		}
		err = d.q.SetAffinity(ctx, r.Hash, jetstream.Affinity{Prefer: r.Prefer, Exclude: r.Exclude})
	}
	if err != nil {
		return jetstream.AffinityAnswer{}, err
	}
	rules, err := d.q.Affinities(ctx)
	if r.Hash != "" {
		rules = only(rules, r.Hash)
	}
	return jetstream.AffinityAnswer{Affinity: rules}, err
}

func notHostLike(s string) bool { return !job.ValidHost(s) && !job.ValidLabel(s) }

func only[K comparable, V any](all map[K]V, key K) map[K]V {
	if v, found := all[key]; found {
		return map[K]V{key: v}
	}
	return map[K]V{}
}

func (d *Dispatcher) apiTenants(ctx context.Context, r jetstream.TenantsRequest) (jetstream.TenantsAnswer, error) {
	if r.Weight != nil || r.MaxRunning != nil {
		if err := d.setTenant(ctx, r); err != nil {
			return jetstream.TenantsAnswer{}, err
		}
	}
	all, err := d.q.Tenants(ctx)
	if r.Tenant != "" {
		all = only(all, r.Tenant)
	}
	return jetstream.TenantsAnswer{Tenants: all}, err
}

func (d *Dispatcher) setTenant(ctx context.Context, r jetstream.TenantsRequest) error {
	all, err := d.q.Tenants(ctx)
	if err != nil {
		return err
	}
	s, found := all[r.Tenant]
	if !found {
		s.Weight = 1
	}
	if r.Weight != nil {
		s.Weight = *r.Weight
	}
	if r.MaxRunning != nil {
		s.MaxRunning = *r.MaxRunning
	}
	if !r.Tenant.Valid() || s.Weight <= 0 || s.Weight > 1e6 || s.MaxRunning < 0 {
		return &jetstream.BadRequest{Message: `give {"tenant":"…","weight":above 0,"max_running":0 or more (0 = no cap)}`}
	}
	return d.q.SetTenant(ctx, r.Tenant, s)
}
