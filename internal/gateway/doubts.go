package gateway

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
)

const (
	doubtAge    = 5 * time.Second
	mostDoubted = 16
)

// lookAgain looks for jobs that have been stored for a while and have no event. A dispatcher drops a job without an event when
// another job with its id has ended. When that other job is no longer listed, nothing else would remove the row.
func (r *Rows) lookAgain(ctx context.Context) error {
	for _, row := range r.doubted(r.q.Now()) {
		_, err := r.q.Stored(ctx, row.Sequence)
		if err == nil {
			continue
		}
		if !errors.Is(err, queue.ErrGone) {
			return err
		}
		chain, err := r.q.Chain(ctx, r.tenant, row.Job)
		if err != nil {
			return err
		}
		r.correct(&row, chainRow(chain))
	}
	return nil
}

// doubted are the first jobs without an event that are to be looked for, none when that was done a moment ago.
func (r *Rows) doubted(now time.Time) []Row {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.looked) < doubtAge {
		return nil
	}
	r.looked = now
	var rows []Row
	for _, row := range r.open {
		if row.State == "" && now.Sub(row.Created) >= doubtAge {
			rows = append(rows, *row)
		}
	}
	slices.SortFunc(rows, func(a, b Row) int { return a.Created.Compare(b.Created) })
	return rows[:min(len(rows), mostDoubted)]
}

// correct replaces a row that has no event by the row that a job's events give, or removes it when as is nil: there are no events.
func (r *Rows) correct(row, as *Row) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := r.open[row.Job]; now == nil || now.State != "" {
		return
	}
	if as != nil {
		r.put(as)
		return
	}
	delete(r.open, row.Job)
	r.signal()
}
