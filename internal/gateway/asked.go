package gateway

import (
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/workflow"
)

// asked are the workflows of which the fleet has said that some host may run them, so that it need not be asked again for each
// prompt. What the fleet refuses is never kept. All are forgotten when the catalogue or the tenants of any host change, and each is
// forgotten after askedAge.
type asked struct {
	mu      sync.Mutex // guards all below
	since   map[askedKey]time.Time
	changes uint64 // how often all were forgotten
}

// askedKey is what the answer depends on: the hash of a workflow says which classes and files it needs.
type askedKey struct {
	tenant job.Tenant
	hash   workflow.Hash
}

const (
	askedAge  = 5 * time.Second
	mostAsked = 4096
)

func newAsked() *asked { return &asked{since: map[askedKey]time.Time{}} }

// runnable reports whether a host may run a workflow, as far as that is known; changes is for put.
func (a *asked) runnable(key askedKey, now time.Time) (known bool, changes uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	since, kept := a.since[key]
	return kept && now.Sub(since) < askedAge, a.changes
}

// put keeps that a host may run a workflow, unless something has changed since the question.
func (a *asked) put(key askedKey, now time.Time, changes uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.changes != changes {
		return
	}
	if len(a.since) >= mostAsked {
		clear(a.since)
	}
	a.since[key] = now
}

// forget forgets all.
func (a *asked) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.since)
	a.changes++
}
