package dispatcher

import (
	"context"
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
)

// total is what all tenants have together: what COMFY_JOBS holds, in which a job stays until it has ended. It is asked
// for once for all tenants, and no tenant has more than that.
type total struct {
	ask func(ctx context.Context) (job.Unfinished, error)

	mu    sync.Mutex // guards all below; held while it is asked for, so that all who come meanwhile share the answer
	has   job.Unfinished
	asked time.Time // when the answer was asked for
}

const totalAge = countAge / 2

// get gives the total, and a time: jobs that were stored after it may be missing from the total.
func (t *total) get(ctx context.Context) (job.Unfinished, time.Time, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.asked.IsZero() && time.Since(t.asked) < totalAge {
		return t.has, t.asked, nil
	}
	asked := time.Now()
	has, err := t.ask(ctx)
	if err != nil {
		return job.Unfinished{}, time.Time{}, err
	}
	t.has, t.asked = has, asked
	return has, asked, nil
}
