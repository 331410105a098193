package dispatcher

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

// pairs says which pairs are meant; an empty field means all.
type pairs struct {
	host string
	hash workflow.Hash // or its first digits
}

func (p pairs) include(host string, hash workflow.Hash) bool {
	return (p.host == "" || p.host == host) && strings.HasPrefix(string(hash), string(p.hash))
}

func (d *Dispatcher) apiUnblock(ctx context.Context, r queue.UnblockRequest) (answer queue.CountAnswer, err error) {
	if r.Host == "" && r.Hash == "" {
		return answer, &jetstream.BadRequest{Message: `give {"host":"…"} or {"hash":"…"} or both: unblock does not lift everything at once`}
	}
	by := operatorBy(r.By)
	r.By = ""
	defer func() { d.audit(ctx, queue.AuditRecord{Call: "unblock", By: by, Count: answer.Count}, &r, err) }()
	poisoned, err := d.guiltyPairs(ctx, pairs{r.Host, r.Hash})
	if err != nil {
		return answer, err
	}
	for _, p := range poisoned {
		if err := d.clearStrikes(ctx, p.host, p.hash); err != nil {
			return answer, err
		}
		answer.Count++
	}
	err = d.eachBlock(ctx, pairs{r.Host, r.Hash}, func(c queue.Change[route.Block], host string, hash workflow.Hash) error {
		if err := d.clearStrikes(ctx, host, hash); err != nil {
			return err
		}
		lifted, err := d.q.LiftBlock(ctx, host, hash, c.Revision, queue.Cleared)
		if lifted {
			answer.Count++
		}
		return err
	})
	return answer, err
}

// eachBlock reads the blocks out of the bucket: one that has just been made is lifted as well.
func (d *Dispatcher) eachBlock(ctx context.Context, which pairs, do func(queue.Change[route.Block], string, workflow.Hash) error) error {
	var matched []queue.Change[route.Block]
	err := d.q.Blocks(ctx, func(c queue.Change[route.Block]) {
		host, hash, ok := queue.PairOf(c.Key)
		if ok && which.include(host, hash) {
			matched = append(matched, c)
		}
	})
	for _, c := range matched {
		host, hash, _ := queue.PairOf(c.Key)
		err = errors.Join(err, do(c, host, hash))
	}
	return err
}

// guiltyPairs lists the pairs without a block whose strikes prove that a workflow takes hosts down.
func (d *Dispatcher) guiltyPairs(ctx context.Context, which pairs) ([]pair, error) {
	var found []pair
	err := d.answer(ctx, func(time.Time) {
		found = slices.DeleteFunc(d.loop.guilt.pairs(which.include), d.loop.blocks.blocked)
	})
	return found, err
}

func (d *Dispatcher) apiDrain(ctx context.Context, r queue.DrainRequest) (answer queue.DrainAnswer, err error) {
	if !job.ValidHost(r.Host) {
		return answer, &jetstream.BadRequest{Message: `give {"host":"…"}`}
	}
	by := operatorBy(r.By)
	r.By = ""
	answer.Reply, err = d.q.Control(ctx, r.Host, queue.Control{Drain: !r.Resume, Resume: r.Resume, By: by})
	if errors.Is(err, queue.ErrNoAgent) {
		return answer, &jetstream.NotFound{Message: "not found: no agent serves host " + r.Host}
	}
	answer.Reply.State.Host = r.Host
	if err == nil && answer.Reply.Answer == queue.Accepted {
		answer.Count = 1
	}
	d.audit(ctx, queue.AuditRecord{Call: "drain", By: by, Count: answer.Count}, &r, err)
	return answer, err
}

func (d *Dispatcher) apiAffinity(ctx context.Context, r queue.AffinityRequest) (queue.AffinityAnswer, error) {
	named := len(r.Prefer)+len(r.Exclude) > 0
	switch {
	case r.Hash == "" && (r.Remove || named), r.Hash != "" && !r.Hash.Valid():
		return queue.AffinityAnswer{}, &jetstream.BadRequest{Message: `give {"hash":"<64 hex digits>","prefer":[…],"exclude":[…]} or {"hash":"…","remove":true}, or {} to list`}
	case r.Remove || named:
		return d.setAffinity(ctx, r)
	}
	p, err := d.page(r.Limit)
	if err != nil {
		return queue.AffinityAnswer{}, err
	}
	rules, next, err := pageOf(p, d.answers.affinity, r.Hash, r.After)
	return queue.AffinityAnswer{Affinity: rules, Next: next}, err
}

func (d *Dispatcher) setAffinity(ctx context.Context, r queue.AffinityRequest) (answer queue.AffinityAnswer, err error) {
	by := operatorBy(r.By)
	r.By = ""
	answer.Affinity = map[workflow.Hash]queue.Affinity{}
	if r.Remove {
		err = d.q.RemoveAffinity(ctx, r.Hash)
	} else {
		if bad := slices.IndexFunc(append(slices.Clone(r.Prefer), r.Exclude...), notHostLike); bad >= 0 {
			return answer, &jetstream.BadRequest{Message: "prefer and exclude name hosts, or labels like gpu=4090"}
		}
		answer.Affinity[r.Hash] = queue.Affinity{Prefer: orNone(r.Prefer), Exclude: orNone(r.Exclude)} // as it is read again
		err = d.q.SetAffinity(ctx, r.Hash, answer.Affinity[r.Hash])
	}
	record := queue.AuditRecord{Call: "affinity", By: by}
	if err == nil {
		record.Count = 1
		var want *queue.Affinity
		if rule, set := answer.Affinity[r.Hash]; set {
			want = &rule
		}
		d.answers.affinity.await(ctx, string(r.Hash), want)
	}
	d.audit(ctx, record, &r, err)
	return answer, err
}

// orNone is a list, or nil when it is empty.
func orNone(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	return list
}

func notHostLike(s string) bool { return !job.ValidHost(s) && !job.ValidLabel(s) }

func (d *Dispatcher) apiTenants(ctx context.Context, r queue.TenantsRequest) (queue.TenantsAnswer, error) {
	if r.Sets() {
		return d.setTenant(ctx, r)
	}
	p, err := d.page(r.Limit)
	if err != nil {
		return queue.TenantsAnswer{}, err
	}
	tenants, next, err := pageOf(p, d.answers.tenants, r.Tenant, r.After)
	return queue.TenantsAnswer{Tenants: tenants, Next: next}, err
}

func (d *Dispatcher) setTenant(ctx context.Context, r queue.TenantsRequest) (queue.TenantsAnswer, error) {
	by := operatorBy(r.By)
	r.By = ""
	wrong := &jetstream.BadRequest{Message: `give {"tenant":"…","weight":above 0,"max_running":0 or more (0 = no cap),"max_priority":0 to 9,"max_unfinished":0 or more (0 = no cap),"max_bytes":0 or more (0 = half of what COMFY_JOBS holds),"max_file_bytes":0 or more (0 = a quarter of what COMFY_INPUTS holds)}`}
	if !r.Tenant.Valid() {
		return queue.TenantsAnswer{}, wrong
	}
	s, err := d.q.Tenant(ctx, r.Tenant)
	if err != nil {
		return queue.TenantsAnswer{}, err
	}
	if r.Weight != nil {
		s.Weight = *r.Weight
	}
	if r.MaxRunning != nil {
		s.MaxRunning = *r.MaxRunning
	} else if set, _ := d.answers.tenants.some(string(r.Tenant), "", 1); len(set) == 0 {
		s.MaxRunning = d.cfg.MaxRunning // as before it had settings of its own
	}
	if r.MaxPriority != nil {
		s.MaxPriority = r.MaxPriority
	}
	if r.MaxUnfinished != nil {
		s.MaxUnfinished = *r.MaxUnfinished
	}
	if r.MaxBytes != nil {
		s.MaxBytes = *r.MaxBytes
	}
	if r.MaxFileBytes != nil {
		s.MaxFileBytes = *r.MaxFileBytes
	}
	if s.Weight <= 0 || s.Weight > 1e6 || s.MaxRunning < 0 || s.MaxPriority != nil && !s.MaxPriority.Valid() || s.MaxUnfinished < 0 || s.MaxBytes < 0 || s.MaxFileBytes < 0 {
		return queue.TenantsAnswer{}, wrong
	}
	err = d.q.SetTenant(ctx, r.Tenant, s)
	record := queue.AuditRecord{Call: "tenants", By: by, Tenant: r.Tenant}
	if err == nil {
		record.Count = 1
		d.answers.tenants.await(ctx, string(r.Tenant), &s)
	}
	d.audit(ctx, record, &r, err)
	return queue.TenantsAnswer{Tenants: map[job.Tenant]queue.TenantSettings{r.Tenant: s}}, err
}
