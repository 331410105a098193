package dispatcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

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

// JobRequest names a job.
type JobRequest struct {
	Tenant job.Tenant `json:"tenant"`
	Job    job.ID     `json:"job"`
	Force  bool       `json:"force,omitempty"` // cancel only
	By     string     `json:"by,omitempty"`    // cancel only
}

func (r *JobRequest) check() error {
	if !r.Tenant.Valid() || !r.Job.Valid() {
		return &jetstream.BadRequest{Message: `give {"tenant":"…","job":"…"}: 1 to 64, and 1 to 120, of A-Z a-z 0-9 _ -`}
	}
	return nil
}

// JobStatus is where a job stands: its last event, and its place when it waits.
type JobStatus struct {
	Job      job.ID        `json:"job"`
	Tenant   job.Tenant    `json:"tenant"`
	State    job.EventKind `json:"state"`
	Event    job.Event     `json:"event"`
	Position int           `json:"position,omitempty"`
	Of       int           `json:"of,omitempty"`
	ETA      *time.Time    `json:"eta,omitempty"`
}

func (d *Dispatcher) apiStatus(ctx context.Context, r JobRequest) (JobStatus, error) {
	if err := r.check(); err != nil {
		return JobStatus{}, err
	}
	link, found, err := d.q.Last(ctx, r.Tenant, r.Job)
	if err != nil {
		return JobStatus{}, err
	}
	if !found {
		return JobStatus{}, noJob(r)
	}
	s := JobStatus{Job: r.Job, Tenant: r.Tenant, State: link.EventKind, Event: link.Event}
	if !link.EventKind.Terminal() {
		s.Position, s.Of, s.ETA = d.brain.positionOf(r.Tenant, r.Job)
	}
	return s, nil
}

func noJob(r JobRequest) error {
	return &jetstream.NotFound{Message: fmt.Sprintf("not found: tenant %s has no job %s (events are kept for a limited time)", r.Tenant, r.Job)}
}

// CancelAnswer tells how the job ended, by this cancel or before it.
type CancelAnswer struct {
	Job   job.ID        `json:"job"`
	State job.EventKind `json:"state"`
	Event job.Event     `json:"event"`
}

func (d *Dispatcher) apiCancel(ctx context.Context, r JobRequest) (CancelAnswer, error) {
	if err := r.check(); err != nil {
		return CancelAnswer{}, err
	}
	by := r.By
	if by == "" {
		by = "api"
	}
	e, err := d.q.Cancel(ctx, r.Tenant, r.Job, by, r.Force)
	if errors.Is(err, jetstream.ErrNoJob) {
		return CancelAnswer{}, noJob(r)
	}
	return CancelAnswer{Job: r.Job, State: e.EventKind, Event: e}, err
}

// HostsAnswer lists the hosts whose presence stands.
type HostsAnswer struct {
	Hosts []HostInfo `json:"hosts"`
}

// HostInfo is a host as the dispatchers see it.
type HostInfo struct {
	jetstream.HostState
	Capability int `json:"capability"` // entries in its capability set; 0 when it told none
	Blocks     int `json:"blocks"`
	Strikes    int `json:"strikes"`
}

func (d *Dispatcher) apiHosts(context.Context, struct{}) (HostsAnswer, error) {
	return HostsAnswer{Hosts: d.brain.listHosts()}, nil
}

// PairRequest names a pair, or all pairs of a host, or of a hash, or all.
type PairRequest struct {
	Host string        `json:"host,omitempty"`
	Hash workflow.Hash `json:"hash,omitempty"` // or its first digits
}

func (r *PairRequest) fits(host string, hash workflow.Hash) bool {
	return (r.Host == "" || r.Host == host) && strings.HasPrefix(string(hash), string(r.Hash))
}

// BlocksAnswer lists blocks as they stand in COMFY_BLOCKS.
type BlocksAnswer struct {
	Blocks []json.RawMessage `json:"blocks"`
}

func (d *Dispatcher) apiBlocks(ctx context.Context, r PairRequest) (BlocksAnswer, error) {
	answer := BlocksAnswer{Blocks: []json.RawMessage{}}
	err := d.eachBlock(ctx, r, func(c jetstream.Change, _ string, _ workflow.Hash) error {
		answer.Blocks = append(answer.Blocks, c.Value)
		return nil
	})
	return answer, err
}

// CountAnswer says how many were concerned.
type CountAnswer struct {
	Count int `json:"count"`
}

func (d *Dispatcher) apiUnblock(ctx context.Context, r PairRequest) (CountAnswer, error) {
	if r.Host == "" && r.Hash == "" {
		return CountAnswer{}, &jetstream.BadRequest{Message: `give {"host":"…"} or {"hash":"…"} or both: unblock does not lift everything at once`}
	}
	var answer CountAnswer
	for _, p := range d.brain.guiltyPairs(r.fits) {
		if err := d.forgive(ctx, p.host, p.hash); err != nil {
			return answer, err
		}
		answer.Count++
	}
	err := d.eachBlock(ctx, r, func(c jetstream.Change, host string, hash workflow.Hash) error {
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

func (d *Dispatcher) eachBlock(ctx context.Context, r PairRequest, do func(jetstream.Change, string, workflow.Hash) error) error {
	var matched []jetstream.Change
	err := d.q.Blocks(ctx, func(c jetstream.Change) {
		host, hash, ok := jetstream.PairOf(c.Key)
		if ok && r.fits(host, hash) {
			matched = append(matched, c)
		}
	})
	for _, c := range matched {
		host, hash, _ := jetstream.PairOf(c.Key)
		err = errors.Join(err, do(c, host, hash))
	}
	return err
}

// DrainRequest asks a host's agent to take no more jobs, or to take them again.
type DrainRequest struct {
	Host   string `json:"host"`
	Resume bool   `json:"resume,omitempty"`
}

func (d *Dispatcher) apiDrain(ctx context.Context, r DrainRequest) (CountAnswer, error) {
	if !job.ValidHost(r.Host) {
		return CountAnswer{}, &jetstream.BadRequest{Message: `give {"host":"…"}`}
	}
	_, err := d.q.Control(ctx, r.Host, jetstream.Control{Drain: !r.Resume, Resume: r.Resume})
	if errors.Is(err, jetstream.ErrNoAgent) {
		return CountAnswer{}, &jetstream.NotFound{Message: "not found: no agent serves host " + r.Host}
	}
	return CountAnswer{Count: 1}, err
}

// AffinityRequest sets, removes or (all empty) lists rules.
type AffinityRequest struct {
	Hash    workflow.Hash `json:"hash,omitempty"`
	Prefer  []string      `json:"prefer,omitempty"`
	Exclude []string      `json:"exclude,omitempty"`
	Remove  bool          `json:"remove,omitempty"`
}

// AffinityAnswer lists the rules that stand.
type AffinityAnswer struct {
	Affinity map[workflow.Hash]jetstream.Affinity `json:"affinity"`
}

func (d *Dispatcher) apiAffinity(ctx context.Context, r AffinityRequest) (AffinityAnswer, error) {
	var err error
	switch {
	case r.Hash == "" && (r.Remove || len(r.Prefer)+len(r.Exclude) > 0), r.Hash != "" && !r.Hash.Valid():
		return AffinityAnswer{}, &jetstream.BadRequest{Message: `give {"hash":"<64 hex digits>","prefer":[…],"exclude":[…]} or {"hash":"…","remove":true}, or {} to list`}
	case r.Remove:
		err = d.q.RemoveAffinity(ctx, r.Hash)
	case len(r.Prefer)+len(r.Exclude) > 0:
		if bad := slices.IndexFunc(append(slices.Clone(r.Prefer), r.Exclude...), notHostLike); bad >= 0 {
			return AffinityAnswer{}, &jetstream.BadRequest{Message: "prefer and exclude name hosts, or labels like gpu=4090"}
		}
		err = d.q.SetAffinity(ctx, r.Hash, jetstream.Affinity{Prefer: r.Prefer, Exclude: r.Exclude})
	}
	if err != nil {
		return AffinityAnswer{}, err
	}
	rules, err := d.q.Affinities(ctx)
	if r.Hash != "" {
		rules = only(rules, r.Hash)
	}
	return AffinityAnswer{Affinity: rules}, err
}

func notHostLike(s string) bool { return !job.ValidHost(s) && !job.ValidLabel(s) }

func only[K comparable, V any](all map[K]V, key K) map[K]V {
	if v, found := all[key]; found {
		return map[K]V{key: v}
	}
	return map[K]V{}
}

// TenantsRequest sets a tenant's weight or cap, or (all empty) lists.
type TenantsRequest struct {
	Tenant     job.Tenant `json:"tenant,omitempty"`
	Weight     *float64   `json:"weight,omitempty"`
	MaxRunning *int       `json:"max_running,omitempty"`
}

// TenantsAnswer lists the tenants with settings of their own.
type TenantsAnswer struct {
	Tenants map[job.Tenant]jetstream.TenantSettings `json:"tenants"`
}

func (d *Dispatcher) apiTenants(ctx context.Context, r TenantsRequest) (TenantsAnswer, error) {
	if r.Weight != nil || r.MaxRunning != nil {
		if err := d.setTenant(ctx, r); err != nil {
			return TenantsAnswer{}, err
		}
	}
	all, err := d.q.Tenants(ctx)
	if r.Tenant != "" {
		all = only(all, r.Tenant)
	}
	return TenantsAnswer{Tenants: all}, err
}

func (d *Dispatcher) setTenant(ctx context.Context, r TenantsRequest) error {
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
