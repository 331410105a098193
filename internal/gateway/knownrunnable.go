package gateway

import (
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// knownRunnable has the workflows of which the fleet has said that some host may run them, so that it need not be asked again for each
// prompt. What the fleet refuses is never kept. All are forgotten when the catalogue or the tenants of any host change, and each is
// forgotten after runnableAge.
type knownRunnable struct {
	mu      sync.Mutex // guards all below
	since   map[runnableKey]time.Time
	changes uint64 // how often all were forgotten
}

// runnableKey is what the answer depends on: the hash of a workflow says which classes and files it needs.
type runnableKey struct {
	tenant job.Tenant
	hash   workflow.Hash
}

const (
	runnableAge  = 5 * time.Second
	mostRunnable = 4096
)

func newKnownRunnable() *knownRunnable { return &knownRunnable{since: map[runnableKey]time.Time{}} }

// runnable reports whether a host may run a workflow, as far as that is known. Give changes to put.
func (a *knownRunnable) runnable(key runnableKey, now time.Time) (known bool, changes uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	since, kept := a.since[key]
	return kept && now.Sub(since) < runnableAge, a.changes
}

// put keeps that a host may run a workflow, unless something has changed since the question.
func (a *knownRunnable) put(key runnableKey, now time.Time, changes uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.changes != changes {
		return
	}
	if len(a.since) >= mostRunnable {
		clear(a.since)
	}
	a.since[key] = now
}

// forget forgets all.
func (a *knownRunnable) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.since)
	a.changes++
}
