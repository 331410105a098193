package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/comfyherd/comfyherd/examples/advanced/operator"
	"github.com/comfyherd/comfyherd/jetstream"
)

// seen is a stored event of a job, with the time of its storing by NATS' clock.
type seen struct {
	jetstream.Event
	at time.Time
}

// record has every stored event of the three tenants' jobs. What is claimed is read from it.
type record struct {
	mu      sync.Mutex // guards the two below
	events  []seen
	changed chan struct{} // closed at the next event
	broken  error         // why a tenant's events cannot be followed any more

	stop    context.CancelFunc
	readers sync.WaitGroup
}

func follow(ctx context.Context, f *fleet) *record {
	ctx, stop := context.WithCancel(ctx)
	r := &record{changed: make(chan struct{}), stop: stop}
	for _, tenant := range tenants {
		r.readers.Go(func() {
			for note, err := range f.client(tenant).Follow(ctx, 0) {
				if event, ok := note.Event(); ok && err == nil {
					r.add(seen{event, note.Time}, nil)
				} else if err != nil && ctx.Err() == nil {
					r.add(seen{}, fmt.Errorf("follow the events of %s: %w", tenant, err))
				}
			}
		})
	}
	return r
}

func (r *record) add(e seen, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.broken = err
	} else {
		r.events = append(r.events, e)
	}
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *record) close() {
	r.stop()
	r.readers.Wait()
}

// all are the events that fit, in the order of their storing.
func (r *record) all(fits func(*seen) bool) []seen {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []seen
	for i := range r.events {
		if fits(&r.events[i]) {
			found = append(found, r.events[i])
		}
	}
	slices.SortStableFunc(found, func(a, b seen) int { return a.at.Compare(b.at) })
	return found
}

// of are the events of one kind of the jobs whose ids begin so.
func (r *record) of(kind, prefix string) []seen {
	return r.all(func(e *seen) bool { return string(e.EventKind) == kind && strings.HasPrefix(string(e.Job), prefix) })
}

// ended waits until n jobs whose ids begin so have ended.
func (r *record) ended(ctx context.Context, n int, prefix string) error {
	for {
		r.mu.Lock()
		changed, broken := r.changed, r.broken
		r.mu.Unlock()
		ends := r.all(func(e *seen) bool { return e.EventKind.Terminal() && strings.HasPrefix(string(e.Job), prefix) })
		if broken != nil || len(ends) >= n {
			return broken
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d jobs %s… ended: %w", len(ends), n, prefix, ctx.Err())
		}
	}
}

// watch is the operator's program beside the play: its watcher and its policy.
type watch struct {
	fleet   *operator.Fleet
	stop    context.CancelFunc
	running sync.WaitGroup

	mu       sync.Mutex // guards all below
	alerts   []operator.Alert
	notes    []string
	troubles []error
	changed  chan struct{} // closed at the next of them
}

// slow is how long the oldest job of a lane may wait before the watcher raises an alert.
const slow = 300 * time.Millisecond

func watchOver(ctx context.Context, p *play) (*watch, error) {
	ctx, stop := context.WithCancel(ctx)
	w := &watch{fleet: operator.New(p.fleet.nc, "advanced"), stop: stop, changed: make(chan struct{})}
	watcher := &operator.Watcher{Slow: slow, Tell: func(a operator.Alert) { w.add(func() { w.alerts = append(w.alerts, a) }) }}
	policy := &operator.Policy{Fleet: w.fleet, Workflows: 2, Note: func(text string) { w.add(func() { w.notes = append(w.notes, text) }) }}
	trouble := func(err error) {
		if err != nil && ctx.Err() == nil {
			w.add(func() { w.troubles = append(w.troubles, err) })
		}
	}
	ready := make(chan struct{})
	var telling sync.Mutex // the watcher has two sources and no lock of its own
	w.running.Go(func() {
		trouble(w.fleet.Follow(ctx, func() { close(ready) }, func(e *operator.Event) {
			telling.Lock()
			watcher.See(e)
			telling.Unlock()
			trouble(policy.See(ctx, e))
		}))
	})
	w.running.Go(func() {
		clock := p.fleet.client("acme") // it has NATS' time once it has had an answer
		_, err := clock.Queue(ctx)
		trouble(err)
		for tick := time.NewTicker(100 * time.Millisecond); ; {
			select {
			case <-ctx.Done():
				tick.Stop()
				return
			case <-tick.C:
			}
			telling.Lock()
			err := watcher.Look(ctx, w.fleet, clock.Now())
			telling.Unlock()
			trouble(err)
		}
	})
	select {
	case <-ready:
		return w, nil
	case <-ctx.Done():
		w.close()
		return nil, ctx.Err()
	}
}

func (w *watch) close() {
	w.stop()
	w.running.Wait()
}

func (w *watch) add(do func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	do()
	close(w.changed)
	w.changed = make(chan struct{})
}

// noted waits until the policy has done something, as its note says.
func (w *watch) noted(ctx context.Context, begins string) error {
	for {
		w.mu.Lock()
		changed := w.changed
		found := slices.ContainsFunc(w.notes, func(n string) bool { return strings.HasPrefix(n, begins) })
		var err error
		if len(w.troubles) > 0 {
			err = w.troubles[0]
		}
		w.mu.Unlock()
		if found || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("the policy has not %s…: %w", begins, ctx.Err())
		}
	}
}

// alerted counts the alerts about something.
func (w *watch) alerted(about, subject string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, a := range w.alerts {
		if a.About == about && strings.HasPrefix(a.Subject, subject) {
			n++
		}
	}
	return n
}
