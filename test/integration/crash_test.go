package integration_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/comfyherd/comfyherd/internal/comfysim"
	"github.com/comfyherd/comfyherd/internal/failure"
	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/queue"
	"github.com/comfyherd/comfyherd/jetstream"
)

// build makes the commands as an operator would, and gives the folder they are in.
func build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", dir+string(filepath.Separator), "./cmd/agent", "./cmd/dispatcher")
	cmd.Dir = filepath.Join("..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return dir
}

// process starts a command of ours against the fleet's NATS and returns its kill -9.
func (f *fleet) process(path string, args []string, env ...string) (kill func()) {
	f.t.Helper()
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), append(env, "NATS_URL="+f.nats.URL())...)
	if os.Getenv("COMFYHERD_TEST_LOG") != "" {
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	}
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	killed := false
	kill = func() {
		if !killed {
			killed = true
			_ = cmd.Process.Kill() // it may have ended by itself
			_ = cmd.Wait()         // tells of the kill
		}
	}
	f.stops = append(f.stops, kill)
	return kill
}

// shortLeases has leases and presences that run out within a test, and not yet while a machine stands still for some
// seconds: who lives has renewed them within the last third.
func shortLeases() queue.Config {
	return queue.Config{AckWait: leaseTime, PresenceTTL: leaseTime - time.Second}
}

const leaseTime = 6 * time.Second

// sleep is a picture that takes a while.
func sleep(color int, seconds float64) json.RawMessage {
	return graph(map[string]any{
		"1": node("EmptyImage", "width", 16, "height", 16, "batch_size", 1, "color", color),
		"2": node("SimSleep", "image", link("1"), "seconds", seconds, "steps", 100),
		"9": node("SaveImage", "images", link("2"), "filename_prefix", "out"),
	})
}

func TestKillMinusNineOf(t *testing.T) {
	t.Parallel()
	bin := build(t)
	t.Run("AnAgentHasItsJobCompleteOnAnotherHostAfterTheLease", func(t *testing.T) {
		t.Parallel()
		killAnAgent(t, filepath.Join(bin, "agent"))
	})
	t.Run("ADispatcherDisturbsNoRunningJob", func(t *testing.T) {
		t.Parallel()
		killADispatcher(t, filepath.Join(bin, "dispatcher"))
	})
}

func killAnAgent(t *testing.T, agent string) {
	t.Helper()
	f := start(t, setup{jetstream: shortLeases(), hosts: names("b")})
	sim, err := comfysim.Start(comfysim.Config{Name: "a", Faults: []comfysim.Fault{{Kind: comfysim.FaultHang, Times: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	f.sims["a"] = sim
	kill := f.process(agent, nil, "COMFY_HOSTS=a="+sim.URL())
	f.awaitPresence(2)
	f.dispatcher(setup{}.config)
	f.dispatcher(setup{}.config)
	r := f.submit("acme", job.Spec{Workflow: picture(0x778899), PreferHosts: []string{"a"}})
	if e := f.await(r, job.Started); e.Host != "a" {
		t.Fatalf("started on %s, want a", e.Host)
	}
	if err := sim.Wait(f.context(), func() bool { return len(sim.Runs()) == 1 }); err != nil {
		t.Fatal(err)
	}
	kill()
	chain := f.chain(r)
	if got, want := story(chain), "queued started@a failed@a retrying started@b completed@b"; got != want {
		t.Fatalf("chain is %q, want %q", got, want)
	}
	if e := chain[2]; e.Kind != failure.Lost || e.Counted == nil || !*e.Counted {
		t.Errorf("failed is %s, counted %v; want lost, counted", e.Kind, e.Counted)
	}
	f.wantPicture(chain[5], rgb(0x778899))
	if keys := f.subjects("KV_COMFY_BLOCKS", ">"); len(keys) != 0 {
		t.Errorf("a lost agent has blocked %v", keys)
	}
}

func killADispatcher(t *testing.T, dispatcher string) {
	t.Helper()
	f := start(t, setup{jetstream: shortLeases(), hosts: names("a", "b")})
	kill := f.process(dispatcher, []string{"run"}, "COMFYHERD_ACK_WAIT="+leaseTime.String())
	f.awaitHosts(2)
	var jobs []jetstream.Receipt
	for color := range 2 {
		jobs = append(jobs, f.submit("acme", job.Spec{Workflow: sleep(color, 1+leaseTime.Seconds())})) // longer than a lease
	}
	hosts := map[string]bool{}
	for _, r := range jobs {
		hosts[f.await(r, job.Started).Host] = true
	}
	if len(hosts) != 2 {
		t.Fatalf("two jobs run on %v, want both hosts", hosts)
	}
	for color := 2; color < 8; color++ { // two of them are held by the agents, the others wait
		jobs = append(jobs, f.submit("acme", job.Spec{Workflow: picture(color)}))
		f.await(jobs[color], job.Queued)
	}
	f.dispatcher(setup{}.config)
	kill()
	jobs = append(jobs, f.submit("acme", job.Spec{Workflow: picture(8)}))
	for color, r := range jobs {
		chain := f.chain(r)
		if got, want := kinds(chain), "queued started completed"; got != want {
			t.Errorf("job %d: chain is %q, want %q", color, got, want)
		}
		f.wantPicture(chain[len(chain)-1], rgb(color))
	}
	if runs := f.runs(); runs["a"]+runs["b"] != len(jobs) {
		t.Errorf("the hosts ran %v, want %d in all", runs, len(jobs))
	}
}
