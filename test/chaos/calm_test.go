//go:build unix

package chaos_test

import (
	"context"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
)

// What an operator does to a fleet that works: each job completes, none has failed for it, and nobody is blocked.
func TestAnOperatorsWorkEndsNoJob(t *testing.T) {
	t.Parallel()
	f := start(t, shape{
		servers: 1, dispatchers: 2, agents: [][]string{{"h1", "h2"}, {"h3"}, {"h4"}},
		clocks: map[string]string{"d1": "-1h", "a1": "1h", "a3": "0s,20s@4s"},
	})
	m := &measurement{f: f}

	var long []string
	for range 8 {
		long = append(long, m.submit(3*time.Second))
	}
	for _, host := range f.shape.hosts() { // one after the other, as each is back
		p := f.by[host]
		before := p.born()
		p.bounce()
		f.eventually(host+" is another process and online", func(ctx context.Context) bool {
			f.supervise()
			return p.born() > before && m.online(ctx, host)
		})
	}
	m.allComplete(long)

	f.eventually("the store is full", func(context.Context) bool { return f.limitOutputs(fullOutputs) })
	full := []string{}
	for range 5 {
		full = append(full, m.submit(50*time.Millisecond))
	}
	f.eventually("hosts say that they cannot store", func(ctx context.Context) bool {
		hosts, err := f.q.Hosts(ctx)
		n := 0
		for i := range hosts {
			if hosts[i].State == queue.Unhealthy {
				n++
			}
		}
		return err == nil && n > 0
	})
	f.eventually("the store has room", func(context.Context) bool { return f.limitOutputs(roomyOutputs) })
	m.untouched(full)

	f.dropOutputs()
	dropped := []string{m.submit(50 * time.Millisecond), m.submit(50 * time.Millisecond)}
	m.untouched(dropped)
	for _, host := range f.shape.hosts() {
		f.eventually(host+" takes jobs", func(ctx context.Context) bool { return m.online(ctx, host) })
	}
	m.noBlocks()
}

func (m *measurement) online(ctx context.Context, host string) bool {
	hosts, err := m.f.q.Hosts(ctx)
	for i := range hosts {
		if hosts[i].Host == host {
			return err == nil && hosts[i].State == queue.Online && !hosts[i].Trial
		}
	}
	return false
}

// chain gives all events of a job, up to its end.
func (m *measurement) chain(id string) []event {
	m.f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	var all []event
	for e, err := range m.f.q.Follow(ctx, "acme", job.ID(id)) {
		if err != nil {
			m.f.t.Fatalf("%s after %q: %v", id, kinds(all), err)
		}
		all = append(all, event{Event: e})
	}
	return all
}

func (m *measurement) allComplete(ids []string) {
	m.f.t.Helper()
	for _, id := range ids {
		if chain := m.chain(id); chain[len(chain)-1].EventKind != job.Completed {
			m.f.t.Errorf("%s: %s: %s", id, kinds(chain), chain[len(chain)-1].Message)
		}
	}
}

// untouched demands that jobs complete in their first attempt.
func (m *measurement) untouched(ids []string) {
	m.f.t.Helper()
	for _, id := range ids {
		chain := m.chain(id)
		if last := chain[len(chain)-1]; last.EventKind != job.Completed || last.Attempt != 1 {
			m.f.t.Errorf("%s: %s", id, kinds(chain))
		}
	}
}

// noBlocks demands that nothing was ever blocked.
func (m *measurement) noBlocks() {
	m.f.t.Helper()
	l := newLedger()
	if err := l.readOn(m.f.nc, calmTime); err != nil {
		m.f.t.Fatal(err)
	}
	for pair, spans := range l.blocks {
		m.f.t.Errorf("%s was blocked: %s", pair, spans[0].body)
	}
}
