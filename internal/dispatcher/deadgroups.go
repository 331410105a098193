package dispatcher

import (
	"context"
	"time"

	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/jetstream"
)

const (
	namesInGroup      = 20          // tenants and hosts that a group lists
	letterBeforeEvent = time.Minute // a letter is stored at most so long before its event
)

// deadGroups lists what jobs have died of. UpTo, which bounds later calls on a group, is read first, so that they concern no
// letter that was not counted here; Since does the same for letters of jobs whose events are no longer stored.
func (d *Dispatcher) deadGroups(ctx context.Context, r jetstream.DeadRequest, p *page) (answer jetstream.DeadAnswer, err error) {
	if r.Group != "signature" || r.Job != "" || r.Hash != "" || r.Since != "" || r.After != 0 || r.UpTo != 0 {
		return answer, &jetstream.BadRequest{Message: `give "group":"signature" with no other condition than tenant, kind, reason and signature`}
	}
	if answer.UpTo, err = d.q.LastLetter(ctx); err != nil {
		return answer, err
	}
	if err = d.history.caughtUp(ctx); err != nil {
		return answer, err
	}
	d.history.mu.RLock()
	found := d.history.fold.DeadGroups(r.Tenant, r.Kind, r.Reason)
	d.history.mu.RUnlock()
	groups := make([]jetstream.DeadGroup, 0, len(found))
	var first time.Time
	for i := range found {
		g := &found[i]
		if r.Signature != "" && r.Signature != g.Signature {
			continue
		}
		answer.Count += g.Count
		if first.IsZero() || g.First.Before(first) {
			first = g.First
		}
		groups = append(groups, jetstream.DeadGroup{
			Signature: g.Signature, Reason: failure.Reason(g.Newest.Reason), Kind: g.Newest.Kind, Class: g.Newest.Class,
			Exception: g.Newest.Exception, Message: g.Newest.Message, Count: g.Count, Tenants: g.Tenants[:min(len(g.Tenants), namesInGroup)],
			Hosts: g.Hosts[:min(len(g.Hosts), namesInGroup)], First: g.First.UTC(), Last: g.Last.UTC(), Job: g.Newest.Job, Tenant: g.Newest.Tenant,
		})
	}
	answer.Dead = []job.Event{}
	if !first.IsZero() {
		since := first.Add(-letterBeforeEvent).UTC()
		answer.Since = &since
	}
	answer.Groups, err = takeFirst(p, groups)
	answer.More = len(groups) - len(answer.Groups)
	return answer, err
}
