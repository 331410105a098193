package dispatcher

import (
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// successes keeps, of the jobs that have completed lately, what is needed to judge failures.
type successes struct {
	last    map[tenantHash]time.Time // when a job of it completed last
	largest map[pair]int64           // the size of the largest job that has completed there
}

const (
	// successesMost bounds each of the two maps: one that is full is emptied, and fills again.
	successesMost = 65_536
	// recentSuccess is how long after a job has completed its workflow counts as good: when another job of it takes hosts down
	// in that time, that job is at fault and not the workflow.
	recentSuccess = time.Hour
)

func newSuccesses() *successes {
	return &successes{last: map[tenantHash]time.Time{}, largest: map[pair]int64{}}
}

func (s *successes) add(host string, e *queue.EndedJob, now time.Time) {
	if len(s.last) >= successesMost {
		clear(s.last)
	}
	s.last[tenantHash{e.Tenant, e.Hash}] = now
	p := pair{host, e.Hash}
	if e.Size <= s.largest[p] {
		return
	}
	if len(s.largest) >= successesMost {
		clear(s.largest)
	}
	s.largest[p] = e.Size
}

// recent reports whether a job of a workflow has completed within recentSuccess.
func (s *successes) recent(which tenantHash, now time.Time) bool {
	at, completed := s.last[which]
	return completed && now.Sub(at) < recentSuccess
}
