package integration_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/jetstream"
)

// occupy has a host run a job that does not end by itself.
func (f *fleet) occupy(host string, color int) jetstream.Receipt {
	f.t.Helper()
	r := f.submit("acme", onlyOn(host, nap(60, 100, color)))
	prompt := f.await(r, job.Started).PromptID
	f.waitSim(host, func() bool {
		running, _ := f.sims[host].Pending()
		return running == prompt
	})
	return r
}

// cancel ends jobs that have not ended.
func (f *fleet) cancel(all ...jetstream.Receipt) {
	f.t.Helper()
	for _, r := range all {
		if e, err := f.q.Cancel(f.context(), r.Tenant, r.Job, "test", false); err != nil || e.EventKind != job.Cancelled {
			f.t.Errorf("cancel of %s: %s, %v", r.Job, e.EventKind, err)
		}
	}
}

func TestAForeignPromptCountsAsLoad(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 1, hosts: names("a", "b")})
	f.end(f.submit("acme", onlyOn("a", inverted(1, 1)))) // warm, and yet
	f.sims["a"].AddFault(comfysim.Fault{Kind: comfysim.FaultBacklog, Count: 1, For: time.Minute})
	f.eventually("the foreign prompt known", func() bool {
		hosts := f.hosts()
		return len(hosts) == 2 && hosts[0].Foreign == 1
	})
	for n := range 8 {
		f.idle()
		spec := job.Spec{Workflow: inverted(2, n)}
		if n%2 == 0 {
			spec.PreferHosts = []string{"a"}
		}
		if end := f.end(f.submit("acme", spec)); end.Host != "b" {
			t.Errorf("job %d ended %s on %q, where a foreign prompt runs", n, end.EventKind, end.Host)
		}
	}
	if _, verdicts := f.why(jetstream.WhyRequest{Workflow: inverted(2, 1)}); verdicts["a"].Code != "busy" || !verdicts["b"].Eligible {
		t.Errorf("why says %+v", verdicts)
	}
	// A job that may run nowhere else waits for the foreign one, and is not counted as foreign itself.
	behind := f.submit("acme", onlyOn("a", picture(3)))
	prompt := f.await(behind, job.Started).PromptID
	f.waitSim("a", func() bool {
		_, pending := f.sims["a"].Pending()
		return slices.Contains(pending, prompt)
	})
	if foreign := f.hosts()[0].Foreign; foreign != 1 {
		t.Errorf("%d foreign prompts, want 1", foreign)
	}
	f.cancel(behind)
}

func TestAHostHoldsOneJobMoreOnlyWhenNoneIsIdle(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 1, hosts: names("a", "b")})
	all := []jetstream.Receipt{f.occupy("a", 1)}
	for n := range 6 {
		f.eventually("b idle", func() bool { return len(f.hosts()[1].Running) == 0 })
		if end := f.end(f.submit("acme", job.Spec{Workflow: inverted(1, n), PreferHosts: []string{"a"}})); end.Host != "b" {
			t.Errorf("job %d ended %s on %q while b was idle", n, end.EventKind, end.Host)
		}
	}
	all = append(all, f.occupy("b", 2))
	held := map[string]string{}
	for n := range 2 {
		r := f.submit("acme", job.Spec{Workflow: nap(60, 100, 3+n)})
		e := f.await(r, job.Started)
		held[e.Host] = e.PromptID
		all = append(all, r)
	}
	if len(held) != 2 {
		t.Fatalf("the held jobs are %v, want one on each host", held)
	}
	for host, prompt := range held {
		f.waitSim(host, func() bool {
			running, pending := f.sims[host].Pending()
			return running != prompt && slices.Equal(pending, []string{prompt})
		})
	}
	// The next one finds no room, and is offered to the host where a job ends.
	next := f.parked(job.Spec{Workflow: picture(9)})
	for _, h := range f.hosts() {
		if len(h.Running) != 2 {
			t.Errorf("host %s has %d jobs, want one that runs and one that it holds", h.Host, len(h.Running))
		}
	}
	f.cancel(all[2:]...)
	if host := f.await(next, job.Started).Host; host != "a" && host != "b" {
		t.Errorf("the next one was started on %q", host)
	}
	f.cancel(all[:2]...)
	if end := f.end(next); end.EventKind != job.Completed {
		t.Errorf("the next one ended %s", end.EventKind)
	}
}

// slowLoaders are hosts on which loading and sampling take these times; the seed long samples for longer than was learnt.
func slowLoaders(load, run time.Duration, hosts ...string) []comfysim.Config {
	configs := painters(hosts...)
	for i := range configs {
		configs[i].LoadTime = load
		configs[i].JobTimeFor = func(class string, inputs map[string]any) time.Duration {
			if class != "KSampler" {
				return 0
			}
			if seed, _ := inputs["seed"].(json.Number).Int64(); seed == long {
				return 8 * time.Second
			}
			return run
		}
	}
	return configs
}

const long = 666

func TestAJobWaitsForItsWarmHostWhenLoadingElsewhereTakesLonger(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 1, hosts: slowLoaders(12*time.Second, 800*time.Millisecond, "a", "b")})
	for seed := range 4 { // one cold run and three warm ones
		f.end(f.submit("acme", onlyOn("a", paint(checkpoint, "a cat", seed))))
	}
	// A run is expected to take 3.8 s, and 6 s are worth waiting for; the second job comes while the first is being offered.
	f.idle()
	first := f.submit("acme", job.Spec{Workflow: paint(checkpoint, "a cat", 10)})
	second := f.submit("acme", job.Spec{Workflow: paint(checkpoint, "a cat", 11)})
	if one, two := f.end(first).Host, f.end(second).Host; one != "a" || two != "a" {
		t.Errorf("the jobs ran on %s and %s, want the warm host for both", one, two)
	}
}

func TestAJobLoadsElsewhereWhenItsWarmHostTakesLonger(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 1, hosts: slowLoaders(200*time.Millisecond, 2*time.Second, "a", "b")})
	f.end(f.submit("acme", onlyOn("a", paint(checkpoint, "a cat", 1))))
	f.idle()
	first := f.submit("acme", job.Spec{Workflow: paint(checkpoint, "a cat", long)})
	if host := f.await(first, job.Started).Host; host != "a" {
		t.Fatalf("the first went to %s, want the warm host", host)
	}
	second := f.submit("acme", job.Spec{Workflow: paint(checkpoint, "a cat", 2)})
	if host := f.await(second, job.Started).Host; host != "b" {
		t.Errorf("the second went to %s, want the idle host", host)
	}
	f.cancel(second, first)
}

func TestAFreshJobPassesAllThatWaitForABlockedPair(t *testing.T) {
	t.Parallel()
	const waiting = crowd
	raise := comfysim.Fault{Kind: comfysim.FaultRaise, Class: "ImageInvert", Exception: "ValueError", Message: "negative light"}
	f := start(t, setup{
		dispatchers: 2, hosts: []comfysim.Config{{Name: "a", Faults: []comfysim.Fault{raise}}, {Name: "b"}},
		config: dispatcher.Config{Policy: route.Policy{Cooldown: 5 * time.Minute, Cap: 5 * time.Minute, MaxFailures: 1}},
	})
	const hashes = 4
	for n := range hashes {
		if end := f.end(f.submit("acme", once("a", inverted(1, 1+n)))); end.EventKind != job.Dead {
			t.Fatalf("the failing job ended %s", end.EventKind)
		}
	}
	o := f.order()
	for n := range waiting {
		body, err := json.Marshal(onlyOn("a", inverted(n, 1+n%hashes)))
		if err != nil {
			t.Fatal(err)
		}
		msg := nats.NewMsg("comfy.jobs.acme.9") // and they come first
		msg.Header.Set("Comfy-Job-Id", fmt.Sprint("pinned-", n))
		msg.Data = body
		if err := f.nc.PublishMsg(msg); err != nil {
			t.Fatal(err)
		}
	}
	fresh := func(id string, host string, workflow json.RawMessage) {
		if end := f.end(f.submit("acme", job.Spec{ID: job.ID(id), Workflow: workflow})); end.EventKind != job.Completed || host != "" && end.Host != host {
			t.Errorf("%s ended %s on %q", id, end.EventKind, end.Host)
		}
	}
	fresh("early-same", "b", inverted(1, 1))
	fresh("early-other", "", picture(1))
	f.reaches("told to wait", waiting, func() int { return f.total("COMFY_EVENTS", "comfy.events.jobs.acme.*.waiting") })
	f.reaches("told here", waiting, func() int {
		return count(o.words(), func(w string) bool { return strings.HasSuffix(w, ".waiting") })
	})
	// Now the blocked host is idle and so is the other: nothing happens between a job's coming and its start.
	for n := range 10 {
		same, other := fmt.Sprint("same-", n), fmt.Sprint("other-", n)
		fresh(same, "b", inverted(n, 1+n%hashes))
		f.idle()
		end := f.end(f.submit("acme", job.Spec{ID: job.ID(other), Workflow: picture(10 + n), OnlyHosts: []string{"a"}}))
		if end.EventKind != job.Completed || end.Attempt != 1 {
			t.Errorf("%s, of another hash for the blocked host, ended %s", other, end.EventKind)
		}
		for _, id := range []string{same, other} {
			f.has(o, "acme/"+id+".completed")
			words := o.words()
			at := index(words, "acme/"+id+".queued")
			if got, want := words[at:], []string{"acme/" + id + ".queued", "acme/" + id + ".started", "acme/" + id + ".completed"}; len(got) < 3 || !slices.Equal(got[:3], want) {
				t.Errorf("events were %q, want %q", got, want)
			}
		}
	}
	if n := count(o.words(), func(w string) bool { return strings.HasPrefix(w, "acme/pinned") && strings.HasSuffix(w, ".started") }); n != 0 {
		t.Errorf("%d jobs of a blocked pair were started", n)
	}
	for n := range waiting {
		if _, err := f.q.Cancel(f.context(), "acme", job.ID(fmt.Sprint("pinned-", n)), "test", false); err != nil {
			t.Fatal(err)
		}
	}
}
