package dispatcher

import (
	"context"
	"fmt"

	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// apiPurge deletes dead letters for ever, a page of them; the events of the jobs stay until their time is over.
func (d *Dispatcher) apiPurge(ctx context.Context, r queue.PurgeRequest) (answer queue.PurgeAnswer, err error) {
	if !r.All && !r.Narrow() {
		return answer, needsCondition("tenant, job, hash, kind, reason or since")
	}
	by := operatorBy(r.By)
	r.By = ""
	all := &bulkAudit{d: d, record: queue.AuditRecord{Call: "purge", By: by, Tenant: r.Tenant}, request: &r}
	defer func() { all.end(ctx, answer.Count, err) }()
	which := jetstream.DeadRequest{
		Tenant: r.Tenant, Job: r.Job, Hash: r.Hash, Kind: r.Kind, Reason: r.Reason, Since: r.Since, After: r.After, UpTo: r.UpTo,
		Limit: r.Limit, Signature: r.Signature,
	}
	answer.Next, err = d.eachDead(ctx, which, func(letters []deadLetter) (int, bool, error) {
		if len(letters) == 0 {
			return 0, true, nil
		}
		if err := all.begin(ctx); err != nil {
			return 0, false, err
		}
		gone := make([]bool, len(letters))
		err := atOnce(ctx, len(letters), func(ctx context.Context, i int) error {
			err := d.q.Purge(ctx, &letters[i].DeadLetter)
			gone[i] = err == nil
			return err
		})
		for _, is := range gone {
			if is {
				answer.Count++
			}
		}
		return len(letters), true, err
	})
	if err != nil && answer.Count > 0 {
		err = fmt.Errorf("%d dead letters were deleted, then: %w; the call can be repeated", answer.Count, err)
	}
	return answer, err
}
