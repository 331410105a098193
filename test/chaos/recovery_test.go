//go:build unix

package chaos_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/job"
)

// TestRecoveryTimes measures how soon a job runs elsewhere. The times are printed; only a generous bound is asserted.
func TestRecoveryTimes(t *testing.T) {
	t.Parallel()
	times := 1
	if os.Getenv("CHAOS_TIME") != "" {
		times = 20
	}
	f := start(t, shape{servers: 1, dispatchers: 2, agents: [][]string{{"h1"}, {"h2"}, {"h3"}, {"h4"}}})
	m := &measurement{f: f}
	for _, one := range []struct {
		what   string
		target time.Duration
		bound  time.Duration
		take   func() time.Duration
	}{
		{"ComfyUI killed, running elsewhere", 2 * time.Second, 20 * time.Second, m.hostKilled},
		{"agent killed, running elsewhere", ackWait + 2*time.Second, 30 * time.Second, m.agentKilled},
		{"ComfyUI frozen, running elsewhere", 30 * time.Second, 40 * time.Second, m.hostFrozen},
		{"dispatcher killed, longest wait of a new job", time.Second, 20 * time.Second, m.dispatcherKilled},
	} {
		var took []time.Duration
		for range times {
			took = append(took, one.take())
		}
		slices.Sort(took)
		worst := took[len(took)-1]
		t.Logf("%s: p50 %v, p99 %v of %d (target under %v)", one.what, quantile(took, 50), quantile(took, 99), len(took), one.target)
		if worst > one.bound {
			t.Errorf("%s: took %v", one.what, worst)
		}
	}
}

func quantile(sorted []time.Duration, percent int) time.Duration {
	return sorted[(len(sorted)-1)*percent/100].Round(time.Millisecond)
}

// measurement runs one job after the other on an idle fleet.
type measurement struct {
	f *fleet
	n int
}

// submit publishes a job that runs for so long, with a hash of its own.
func (m *measurement) submit(ran time.Duration, more ...any) string {
	m.f.t.Helper()
	m.n++
	id := fmt.Sprintf("measured-%d", m.n)
	sleep := strconv.Itoa(100 + m.n)
	spec := map[string]any{"id": id, "retry_delay": "100ms", "workflow": map[string]any{
		"1":   node("EmptyImage", "width", 16, "height", 16, "batch_size", 1, "color", m.n),
		sleep: node("SimSleep", "image", link("1"), "seconds", ran.Seconds(), "steps", 100),
		"9":   node("SaveImage", "images", link(sleep), "filename_prefix", "measured"),
	}}
	for i := 0; i < len(more); i += 2 {
		spec[more[i].(string)] = more[i+1]
	}
	if _, err := publishOnce(m.f.nc, "comfy.jobs.acme.5", encode(m.f.t, spec)); err != nil {
		m.f.t.Fatal(err)
	}
	return id
}

// await follows a job until an event fits, and gives that event and when it was heard.
func (m *measurement) await(id string, fits func(job.Event) bool) (job.Event, time.Time) {
	m.f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	var chain []event
	for e, err := range m.f.q.Follow(ctx, "acme", job.ID(id)) {
		if err != nil {
			m.f.t.Fatalf("%s after %q: %v", id, kinds(chain), err)
		}
		if fits(e) {
			return e, time.Now()
		}
		chain = append(chain, event{Event: e})
	}
	m.f.t.Fatalf("%s ended: %s", id, kinds(chain))
	return job.Event{}, time.Time{}
}

func startedAs(attempt int) func(job.Event) bool {
	return func(e job.Event) bool { return e.EventKind == job.Started && e.Attempt == attempt }
}

// disturb has a job run, does something to it, and says how long it took until it was started again.
func (m *measurement) disturb(hit, mend func(host string)) time.Duration {
	m.f.t.Helper()
	id := m.submit(time.Minute)
	first, _ := m.await(id, startedAs(1))
	m.f.eventually("the prompt runs", func(context.Context) bool {
		n, err := m.f.backlog(first.Host)
		return err == nil && n == 1
	})
	began := time.Now()
	hit(first.Host)
	second, at := m.await(id, startedAs(2))
	if second.Host == first.Host {
		m.f.t.Errorf("%s runs on %s again", id, second.Host)
	}
	if _, err := m.f.q.Cancel(context.Background(), "acme", job.ID(id), "test", false); err != nil {
		m.f.t.Error(err)
	}
	mend(first.Host)
	m.rest()
	return at.Sub(began)
}

// rest waits until all hosts are online and idle.
func (m *measurement) rest() {
	m.f.t.Helper()
	m.f.eventually("all hosts are idle", func(ctx context.Context) bool {
		hosts, err := m.f.q.Hosts(ctx)
		for _, h := range hosts {
			if n, err := m.f.backlog(h.Host); err != nil || n > 0 || !h.Free() || len(h.Running) > 0 {
				return false
			}
		}
		return err == nil && len(hosts) == len(m.f.shape.hosts())
	})
}

func (m *measurement) hostKilled() time.Duration {
	return m.disturb(func(host string) { m.f.by[host].kill() }, func(host string) { m.f.start(m.f.by[host]) })
}

func (m *measurement) hostFrozen() time.Duration {
	return m.disturb(func(host string) { m.f.by[host].freeze() }, func(host string) { m.f.by[host].thaw() })
}

// agentKilled starts ComfyUI anew as well: the prompt that its agent left there is nobody's any more.
func (m *measurement) agentKilled() time.Duration {
	return m.disturb(func(host string) { m.f.by[m.f.agentOf(host)].kill() }, func(host string) {
		m.f.by[host].kill()
		m.f.start(m.f.by[host])
		m.f.start(m.f.by[m.f.agentOf(host)])
	})
}

// dispatcherKilled gives the longest time that a job published after the kill waited for its start, and checks that
// running jobs do not notice.
func (m *measurement) dispatcherKilled() time.Duration {
	m.f.t.Helper()
	var running []string
	for _, host := range []string{"h1", "h2"} {
		running = append(running, m.submit(3*time.Second, "only_hosts", []string{host}))
	}
	for _, id := range running {
		m.await(id, startedAs(1))
	}
	stood := standstill()
	m.f.by["d1"].kill()
	var longest time.Duration
	for range 20 {
		began := time.Now()
		id := m.submit(20 * time.Millisecond)
		_, at := m.await(id, startedAs(1))
		longest = max(longest, at.Sub(began))
	}
	m.f.start(m.f.by["d1"])
	var ends []job.Event
	for _, id := range running {
		e, _ := m.await(id, func(e job.Event) bool { return e.EventKind.Terminal() })
		ends = append(ends, e)
	}
	still := stood()
	for _, e := range ends {
		if e.EventKind != job.Completed || e.Attempt != 1 && still < presenceTTL/2 {
			m.f.t.Errorf("%s was running when a dispatcher was killed and ended %s with attempt %d", e.Job, e.EventKind, e.Attempt)
		}
	}
	m.rest()
	return longest
}

// standstill gives what tells the longest time for which this machine has stood still since: leases and presences run out
// then, and nobody can be blamed.
func standstill() (longest func() time.Duration) {
	ctx, stop := context.WithCancel(context.Background())
	told := make(chan time.Duration)
	go func() {
		const pause = 50 * time.Millisecond
		tick := time.NewTicker(pause)
		defer tick.Stop()
		var most time.Duration
		for last := time.Now(); ; last = time.Now() {
			select {
			case <-tick.C:
				most = max(most, time.Since(last)-pause)
			case <-ctx.Done():
				told <- most
				return
			}
		}
	}()
	return func() time.Duration {
		stop()
		return <-told
	}
}
