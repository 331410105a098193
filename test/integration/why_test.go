package integration_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/agent"
	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/dispatcher"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/internal/route"
	"github.com/comfyherd/comfyherd/jetstream"
)

// why asks and gives the verdicts by host.
func (f *fleet) why(r jetstream.WhyRequest) (jetstream.WhyAnswer, map[string]route.HostVerdict) {
	f.t.Helper()
	answer := call[jetstream.WhyAnswer](f, "why", r)
	verdicts := map[string]route.HostVerdict{}
	for _, v := range answer.Hosts {
		verdicts[string(v.Host)] = v
	}
	return answer, verdicts
}

func TestWhyTellsOfEveryHostWhetherItMayRunTheJob(t *testing.T) {
	t.Parallel()
	raise := comfysim.Fault{Kind: comfysim.FaultRaise, Text: "unlucky", Exception: "ValueError", Message: "negative light"}
	hosts := painters("able", "blocked", "drained", "gone", "lacking", "sick", "unwanted")
	hosts[1].Faults = []comfysim.Fault{raise}
	hosts[4].Models = nil
	f := start(t, setup{noAgents: true, hosts: hosts, jetstream: queue.Config{PresenceTTL: 5 * time.Second}})
	f.dispatcher(dispatcher.Config{Policy: route.Policy{Cooldown: time.Minute, Cap: time.Minute, MaxFailures: 1}})
	var leave func()
	for name, sim := range f.sims {
		stop, _ := f.agent(name, sim.URL(), agent.Config{})
		if name == "gone" {
			leave = stop
		}
	}
	f.awaitHosts(len(hosts))
	// What happened before anybody asks.
	unlucky := f.submit("acme", job.Spec{Workflow: paint(checkpoint, "unlucky", 1), OnlyHosts: []string{"blocked"}, MaxAttempts: 1})
	if e := f.end(unlucky); e.EventKind != job.Dead {
		t.Fatalf("the unlucky job ended %s", e.EventKind)
	}
	if _, err := f.q.Control(f.context(), "drained", queue.Control{Drain: true}); err != nil {
		t.Fatal(err)
	}
	f.sims["sick"].Kill()
	leave()
	spec, err := json.Marshal(job.Spec{Workflow: paint(checkpoint, "a cat", 1), ExcludeHosts: []string{"unwanted"}})
	if err != nil {
		t.Fatal(err)
	}
	ask := jetstream.WhyRequest{Tenant: "acme", Workflow: spec}
	var answer jetstream.WhyAnswer
	var verdicts map[string]route.HostVerdict
	f.eventually("all that happened", func() bool {
		answer, verdicts = f.why(ask)
		return verdicts["sick"].Code == "unhealthy" && verdicts["gone"].Code == "offline" && verdicts["drained"].Code == "draining"
	})
	for host, want := range map[string]struct{ code, text string }{
		"able":     {"eligible", "eligible"},
		"blocked":  {"blocked", "negative light"},
		"drained":  {"draining", "draining: drained by an operator"},
		"gone":     {"offline", "offline"},
		"lacking":  {"missing", "missing model sd15.safetensors in CheckpointLoaderSimple.ckpt_name"},
		"sick":     {"unhealthy", "ComfyUI does not answer: "},
		"unwanted": {"excluded", "excluded by the job"},
	} {
		v := verdicts[host]
		if string(v.Code) != want.code || !strings.Contains(v.Text, want.text) || v.Eligible != (host == "able") {
			t.Errorf("%s: %+v, want %+v", host, v, want)
		}
	}
	if v := verdicts["blocked"]; v.Until.Before(time.Now()) {
		t.Errorf("the block is until %v", v.Until)
	}
	if answer.Text != "a host may take it at once" || answer.Reason != "" || len(answer.Hosts) != len(hosts) {
		t.Errorf("the answer is %+v", answer)
	}
	// The block is one tenant's: another's job may run there.
	other := ask
	other.Tenant = "bolt"
	if _, v := f.why(other); !v["blocked"].Eligible {
		t.Errorf("another tenant's job may not run on the blocked host: %+v", v["blocked"])
	}
	if blocks := f.hosts()[1].Blocks; blocks != 1 {
		t.Errorf("host %s has %d blocks, want 1", f.hosts()[1].Host, blocks)
	}
}

func TestWhyOfAJobSaysWhatItWaitsForAndHowItEnded(t *testing.T) {
	t.Parallel()
	f := start(t, setup{dispatchers: 2, hosts: painters("a")})
	r := f.parked(job.Spec{Workflow: paint("flux.safetensors", "a cat", 1)})
	var answer jetstream.WhyAnswer
	var verdicts map[string]route.HostVerdict
	f.eventually("the dispatcher that is asked has heard of the ticket", func() bool {
		answer, verdicts = f.why(jetstream.WhyRequest{Tenant: r.Tenant, Job: r.Job})
		return answer.Position > 0
	})
	if answer.Job != r.Job || answer.State != job.Waiting || answer.Reason != route.NoneCapable || verdicts["a"].Code != "missing" || answer.Position != 1 || answer.Of != 1 {
		t.Errorf("why says %+v", answer)
	}
	if _, err := f.q.Cancel(f.context(), r.Tenant, r.Job, "somebody", false); err != nil {
		t.Fatal(err)
	}
	done := f.submit("acme", job.Spec{Workflow: picture(1)})
	f.end(done)
	for job, text := range map[jetstream.ID]string{r.Job: "it was cancelled by somebody", done.Job: "it has completed on host a"} {
		if answer, _ := f.why(jetstream.WhyRequest{Tenant: "acme", Job: job}); answer.Text != text || len(answer.Hosts) != 0 {
			t.Errorf("why says %+v, want %q", answer, text)
		}
	}
	for what, bad := range map[string]jetstream.WhyRequest{
		"not found":  {Tenant: "acme", Job: "nobody"},
		"UI format":  {Workflow: json.RawMessage(`{"nodes":[],"links":[]}`)},
		"give {":     {},
		"no fitting": {Workflow: json.RawMessage(`"text"`)},
	} {
		if err := f.q.Call(f.context(), "why", bad, nil); err == nil {
			t.Errorf("%s: %+v was answered", what, bad)
		}
	}
}

func TestAHostThatWentUnseenIsAnnouncedOffline(t *testing.T) {
	t.Parallel()
	f := start(t, setup{hosts: names("a"), noAgents: true, jetstream: queue.Config{PresenceTTL: time.Second}})
	_, kill := f.agent("a", f.sims["a"].URL(), agent.Config{})
	f.eventually("online", func() bool { return f.total("COMFY_EVENTS", "comfy.events.hosts.a.online") == 1 })
	kill()
	f.eventually("no presence", func() bool {
		_, there, err := f.q.Host(f.context(), "a")
		return err == nil && !there
	})
	if n := f.total("COMFY_EVENTS", "comfy.events.hosts.a.offline"); n != 0 {
		t.Fatalf("%d offline events without a dispatcher", n)
	}
	f.dispatcher(dispatcher.Config{})
	f.dispatcher(dispatcher.Config{})
	f.eventually("offline", func() bool { return f.total("COMFY_EVENTS", "comfy.events.hosts.a.offline") == 1 })
}
